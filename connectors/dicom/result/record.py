"""The record inside an annotations object: what `readback` needs besides the values, as one line of JSON.

It lies in Algorithm Parameters (0066,0032) of the annotation group (PS3.3 10.16.1.1), VR LT, at most 10240
characters::

    {"record": 2, "values_sha256": "...", "part": 1, "parts": 1, "first": 0, "patches": 4661, "whole_sha256": "...",
     "fallbacks": 0, "holes": 0, "provenance": {...}}

Version 1 had ``record``, ``values_sha256`` and ``provenance`` alone: always one object, without groups of fallbacks and
holes. It is read as part 1 of 1.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from connectors.dicom.result.parts import Part
from models.domain.embedding import Provenance
from models.domain.errors import ResultCorrupt, ResultError

_LONGEST = 10240  # PS3.5 6.2, LT
_VERSION = 2
_VERSIONS = (1, 2)

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Record:
    """What the values alone do not say.

    Parameters
    ----------
    values_sha256 : str
        `Embeddings.digest` of the patches in this object.
    scale : (float, float)
        Pixels of level 0 per pixel of the image that the boxes count in (x, y).
    level_0_spacing_um : (float, float) or None
        Micrometres per pixel of level 0 (x, y); None if unknown.
    provenance : mapping
        `Provenance.to_json`; the last notes may be missing, which a note then says.
    part, parts : int
        Which object of the result this is, 1-based (its Instance Number), of how many; see `parts`.
    first : int
        Index of this object's first patch among those of the result, 0-based, holes not counted.
    patches : int or None
        Patches of the whole result, holes not counted; None in version 1, where all are in this object.
    whole_sha256 : str
        `Embeddings.digest` of the whole result; that of this object, if it is the only one.
    fallbacks : int or None
        Annotations in this object's group of fallbacks; 0: the group is absent. None: the encoder has no step that may
        fail, or version 1, which did not say.
    holes : int
        Patches of the result without an embedding: annotations in the group of holes of part 1; 0: it is absent.
    """

    values_sha256: str
    scale: Pair
    level_0_spacing_um: Pair | None
    provenance: Mapping[str, Any]
    part: int = 1
    parts: int = 1
    first: int = 0
    patches: int | None = None
    whole_sha256: str = ""
    fallbacks: int | None = None
    holes: int = 0

    @classmethod
    def of(cls, part: Part, provenance: Provenance, holes: int) -> Self:
        """Return the record of one part of a result that has so many `holes` besides."""
        marks = part.embeddings.fallbacks
        return cls(
            part.embeddings.digest,
            provenance.level_scale,
            provenance.level_0_spacing_um,
            provenance.to_json(),
            part.number,
            part.count,
            part.first,
            len(part.whole),
            part.whole.digest,
            None if marks is None else int(marks.sum()),
            holes,
        )

    def to_text(self) -> str:
        """Return the JSON, short enough for VR LT; notes give way from the last on.

        Raises
        ------
        ResultError
            It is too long without any note.
        """
        notes = list(self.provenance.get("notes", ()))
        left_out = 0
        while len(text := self._text_with(notes, left_out)) > _LONGEST:
            if not notes:
                raise ResultError("The description of the encoder is too long for a DICOM object.")
            notes.pop()
            left_out += 1
        return text

    def _text_with(self, notes: list[str], left_out: int) -> str:
        if left_out:
            notes = [*notes, f"{left_out} further notes are in the report."]
        data = {
            "record": _VERSION,
            "values_sha256": self.values_sha256,
            "part": self.part,
            "parts": self.parts,
            "first": self.first,
            "patches": self.patches,
            "whole_sha256": self.whole_sha256,
            "fallbacks": self.fallbacks,
            "holes": self.holes,
            "provenance": {**self.provenance, "notes": notes},
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """Return the record in `text`, or None if the text is somebody else's.

        Raises
        ------
        ResultCorrupt
            It is ours and damaged.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(data, dict) or "record" not in data:
            return None
        try:
            if data["record"] not in _VERSIONS:
                raise ResultCorrupt("The embeddings were stored by another version of Slidewire: read them with it.")
            provenance = dict(data["provenance"])
            spacing = provenance["level_0_spacing_um"]
            record = cls(
                str(data["values_sha256"]),
                _pair(provenance["level_scale"]),
                None if spacing is None else _pair(spacing),
                provenance,
                whole_sha256=str(data["values_sha256"]),
            )
            return record if data["record"] == 1 else replace(record, **_of_parts(data))
        except (KeyError, TypeError, ValueError, OverflowError) as exc:
            raise ResultCorrupt("The description of the stored embeddings is damaged.") from exc


def _of_parts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what version 2 added."""
    fields = {name: int(data[name]) for name in ("part", "parts", "first", "patches", "holes")}
    if not 1 <= fields["part"] <= fields["parts"] or min(fields["first"], fields["holes"]) < 0:
        raise ValueError("no such part")
    marks = data["fallbacks"]
    return {
        **fields,
        "whole_sha256": str(data["whole_sha256"]),
        "fallbacks": None if marks is None else int(marks),
    }


def _pair(values: Any) -> Pair:
    x, y = values
    return float(x), float(y)
