"""The levels of a slide: its instances joined, and what is there twice or in choices decided or refused."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from connectors.dicom.attributes import Json, first_item, integer, items_of, numbers, text, values_of
from connectors.dicom.choice import Choices, choose
from connectors.dicom.metadata import SOP_INSTANCE, SlideMetadata, kinds_of
from connectors.dicom.spacing import spacing_of
from connectors.dicom.tiling import Frames, Shape, Tiling, Untileable, View, frames_of_parts, shape_of
from models.domain.errors import NotASlide
from models.domain.slide import Instance, Level, Reading, Slide, SlideRef

_CONCATENATION, _PART_OFFSET, _PARTS, _PART_NUMBER = "00209161", "00209228", "00209163", "00209162"
_PATHS, _PATH_ID, _PATH_DESCRIPTION = "00480105", "00480106", "00480107"
_PATH_CODES, _CODE, _MEANING = ("00220016", "00480108"), "00080100", "00080104"
_ABSENT_LAB, _ORGANIZATION, _PHOTOMETRIC = "00480015", "00209311", "00280004"
_DATES = (("0008002A",), ("00080023", "00080033"), ("00080012", "00080013"))
_WHITE = (255, 255, 255)
_MOST_DISTANCE = 5.0  # in CIELab; a colour that a screen cannot show so closely is a mistake, not glass


@dataclass(frozen=True, slots=True)
class OpenedLevels:
    """A slide, and for each of its levels where the tiles are."""

    slide: Slide
    tilings: tuple[Tiling, ...]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """Instances that may make up a level by themselves: one, or the parts of a concatenation."""

    parts: tuple[Json, ...]
    shape: Shape
    frames: Frames | None
    problem: str = ""

    @property
    def uids(self) -> tuple[str, ...]:
        """The instances."""
        return tuple(text(part, SOP_INSTANCE) for part in self.parts)

    @cached_property
    def sparse(self) -> bool:
        """Whether tiles are left out on purpose, and no part is missing.

        A concatenation that does not say how many parts it has (0020,9163) may lack one.
        """
        first = self.parts[0]
        expected = integer(first, _PARTS) or (0 if _is_part(first) else 1)
        declared = (text(part, _ORGANIZATION).upper() == "TILED_SPARSE" for part in self.parts)
        return expected == len(self.parts) and all(declared)

    @cached_property
    def preference(self) -> tuple[Any, ...]:
        """One that is whole, ORIGINAL before DERIVED, then the newest, then any, but always the same."""
        first = self.parts[0]
        whole = self.frames is not None and (self.sparse or self.frames.fill(self.shape))
        return (
            whole,
            "ORIGINAL" in kinds_of(first),
            *("".join(text(first, tag) for tag in tags) for tags in _DATES),
            self.uids,
        )

    @cached_property
    def names(self) -> dict[str, frozenset[str]]:
        """What else an optical path may be called, by identifier: its description, the codes of its illumination."""
        found: dict[str, frozenset[str]] = {}
        for path in items_of(self.parts[0], _PATHS):
            codes = [code for tag in _PATH_CODES for code in items_of(path, tag)]
            names = (text(path, _PATH_DESCRIPTION), *(text(code, tag) for code in codes for tag in (_CODE, _MEANING)))
            identifier = text(path, _PATH_ID)
            found[identifier] = found.get(identifier, frozenset()).union(filter(None, names))
        return found

    def identifier(self, path: str) -> str:
        """Return a path as the metadata call it; "" if it goes by its place."""
        return path if path in self.names else ""


_Held = dict[View, tuple[_Candidate, int]]
"""What a level holds: by view, the instances that show it, and which of their views it is."""


def levels_of(selected: SlideMetadata, ref: SlideRef, name: str) -> OpenedLevels:
    """Join the instances of a slide into levels.

    Parameters
    ----------
    selected : SlideMetadata
    ref : SlideRef
        Its reading decides between optical paths, focal planes and spacings.
    name : str
        File-name-safe.

    Raises
    ------
    SlideAmbiguous
        A level holds several optical paths or focal planes, and the reading chooses none, or one that no level holds.
    SpacingContradictory
    """
    sizes: dict[tuple[int, int], dict[str, list[Json]]] = {}
    for item in selected.instances:
        shape = shape_of(item)
        sizes.setdefault((shape.width_px, shape.height_px), {}).setdefault(_joint(item), []).append(item)
    if not sizes:
        raise NotASlide("There is no pyramid level in the series.")
    notes = list(selected.notes)
    ranked = [_ranked(sizes[size].values()) for size in sorted(sizes, key=lambda size: (-size[0] * size[1], size))]
    helds = [_held(candidates, notes) for candidates in ranked]
    chosen = iter(choose([_choices(held) for held in helds if held], ref.reading, notes))
    found = []
    for candidates, held in zip(ranked, helds, strict=True):
        view = next(chosen) if held else None
        found.append(_level(held[view], ref.reading, notes) if view else _lost(candidates[0], held, ref.reading))
    slide = Slide(ref, tuple(level for level, _ in found), name, tuple(dict.fromkeys(notes)))
    return OpenedLevels(slide, tuple(tiling for _, tiling in found))


def _is_part(item: Json) -> bool:
    return bool(text(item, _CONCATENATION)) or integer(item, _PART_OFFSET) > 0 or integer(item, _PART_NUMBER) > 0


def _joint(item: Json) -> str:
    """Return what the parts of a concatenation have in common: its UID; of nameless parts, that they are parts."""
    return text(item, _CONCATENATION) or ("parts" if _is_part(item) else text(item, SOP_INSTANCE))


def _ranked(groups: Any) -> list[_Candidate]:
    return sorted((_candidate(parts) for parts in groups), key=lambda one: one.preference, reverse=True)


def _candidate(parts: Sequence[Json]) -> _Candidate:
    def order(part: Json) -> tuple[int, int, str]:
        return integer(part, _PART_OFFSET), integer(part, _PART_NUMBER), text(part, SOP_INSTANCE)

    ordered = tuple(sorted(parts, key=order))
    shape = shape_of(ordered[0])
    try:
        return _Candidate(ordered, shape, frames_of_parts(ordered, shape))
    except Untileable as exc:
        return _Candidate(ordered, shape, None, str(exc))


def _held(ranked: Sequence[_Candidate], notes: list[str]) -> _Held:
    """Return what a level holds; what it holds twice, from the candidate that ranks higher."""
    held: _Held = {}
    for candidate in ranked:
        for index, view in enumerate(candidate.frames.views if candidate.frames else ()):
            if view in held:
                notes.append("a level is there twice: ORIGINAL was taken before DERIVED, then the newest, if whole")
            held.setdefault(view, (candidate, index))
    if held:
        notes += [f"an instance was passed over: {candidate.problem}" for candidate in ranked if not candidate.frames]
    return held


def _choices(held: _Held) -> Choices:
    return Choices(
        tuple(held), {path: candidate.names.get(path, frozenset()) for (path, _), (candidate, _) in held.items()}
    )


def _level(shown: tuple[_Candidate, int], reading: Reading, notes: list[str]) -> tuple[Level, Tiling]:
    """Return a level as one of its views shows it; what had to be assumed goes to `notes`."""
    candidate, view = shown
    assert candidate.frames is not None
    try:
        tiling = candidate.frames.tiling(view, candidate.uids, candidate.shape)
        tiling = replace(tiling, optical_path=candidate.identifier(candidate.frames.views[view][0]))
    except Untileable as exc:
        return _unreadable(candidate, reading, str(exc))
    background = _background(candidate.parts[0], notes) if tiling.absent and candidate.sparse else None
    level = replace(_bare(candidate, reading), absent=tiling.absent, background=background)
    return _identified(level, candidate, tiling.digest), tiling


def _lost(best: _Candidate, held: _Held, reading: Reading) -> tuple[Level, Tiling]:
    elsewhere = "it does not hold the optical path or focal plane that was chosen"
    return _unreadable(best, reading, elsewhere if held else best.problem)


def _unreadable(candidate: _Candidate, reading: Reading, problem: str) -> tuple[Level, Tiling]:
    nowhere = np.empty(0, np.int32)
    level = replace(_bare(candidate, reading), problem=problem)
    return _identified(level, candidate, ""), Tiling((), nowhere, nowhere)


def _bare(candidate: _Candidate, reading: Reading) -> Level:
    shape, first = candidate.shape, candidate.parts[0]
    spacing_um = spacing_of(first, reading.spacing_from).um
    size = (shape.width_px, shape.height_px, shape.frame_width_px, shape.frame_height_px)
    return Level(*size, spacing_um, text(first, _PHOTOMETRIC), ())


def _identified(level: Level, candidate: _Candidate, tiling: str) -> Level:
    """Return a level with its instances, and in their digests all that decides what it shows."""
    nothing = (0,) * len(candidate.parts)
    frames = candidate.frames or Frames((), nothing, nothing)
    size = (level.width_px, level.height_px, level.frame_width_px, level.frame_height_px)
    shows = [*size, level.spacing_um, level.photometric, level.background, level.problem, tiling]
    instances = []
    for uid, offset, count in zip(candidate.uids, frames.offsets, frames.counts, strict=True):
        digest = hashlib.sha256(json.dumps([uid, offset, count, *shows]).encode()).hexdigest()
        instances.append(Instance(uid, offset, count, digest))
    return replace(level, instances=tuple(instances))


def _background(first: Json, notes: list[str]) -> tuple[int, int, int]:
    """Return what the absent tiles of a sparse level stand for: the colour that it recommends (0048,0015), or white.

    That colour is CIELab in 16 bits: L 0..100, a and b -128..127 (PS3.3 C.10.7.1.1).
    """
    said = next((item for item in (first, first_item(first, _PATHS)) if values_of(item, _ABSENT_LAB)), None)
    if said is None:
        return _WHITE
    lab = numbers(said, _ABSENT_LAB)
    if len(lab) == 3 and all(0 <= part <= 65535 for part in lab):
        wanted = np.asarray([[[lab[0] / 65535 * 100, *(part / 65535 * 255 - 128 for part in lab[1:])]]], np.float32)
        shown = cv2.cvtColor(wanted, cv2.COLOR_Lab2RGB)
        if np.linalg.norm(cv2.cvtColor(shown, cv2.COLOR_RGB2Lab) - wanted) <= _MOST_DISTANCE:
            red, green, blue = (int(part) for part in np.rint(shown[0, 0] * 255))
            return red, green, blue
    notes.append("absent tiles are white: the colour that the slide recommends for them is none")
    return _WHITE
