"""The record inside an annotations object: what `readback` needs besides the values, as one line of JSON.

It lies in Algorithm Parameters (0066,0032) of the annotation group (PS3.3 10.16.1.1), VR LT, at most 10240
characters::

    {"record": 1, "values_sha256": "...", "provenance": {...}}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from models.domain.embedding import Embeddings, Provenance
from models.domain.errors import ResultCorrupt, ResultError

_LONGEST = 10240  # PS3.5 6.2, LT
_VERSION = 1

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Record:
    """What the values alone do not say.

    Parameters
    ----------
    values_sha256 : str
        `Embeddings.digest`.
    scale : (float, float)
        Pixels of level 0 per pixel of the image that the boxes count in (x, y).
    level_0_spacing_um : (float, float) or None
        Micrometres per pixel of level 0 (x, y); None if unknown.
    provenance : mapping
        `Provenance.to_json`; the last notes may be missing, which a note then says.
    """

    values_sha256: str
    scale: Pair
    level_0_spacing_um: Pair | None
    provenance: Mapping[str, Any]

    @classmethod
    def of(cls, embeddings: Embeddings, provenance: Provenance) -> Self:
        """Return the record of a result."""
        return cls(embeddings.digest, provenance.level_scale, provenance.level_0_spacing_um, provenance.to_json())

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
            if data["record"] != _VERSION:
                raise ResultCorrupt("The embeddings were stored by another version of Slidewire: read them with it.")
            provenance = dict(data["provenance"])
            spacing = provenance["level_0_spacing_um"]
            return cls(
                str(data["values_sha256"]),
                _pair(provenance["level_scale"]),
                None if spacing is None else _pair(spacing),
                provenance,
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise ResultCorrupt("The description of the stored embeddings is damaged.") from exc


def _pair(values: Any) -> Pair:
    x, y = values
    return float(x), float(y)
