"""Whether a slide has come whole: each level of its pyramid, with all parts of its concatenation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from connectors.dicom.attributes import Json, integer, text
from connectors.dicom.levels import levels_of
from connectors.dicom.metadata import SOP_CLASS, SOP_INSTANCE, WHOLE_SLIDE_IMAGE, is_of_pyramid, select_slide
from models.domain.slide import Level, Slide, SlideRef

_PART_NUMBER, _PARTS = "00209162", "00209163"
_NO_LEVEL = "of its pyramid there is no level, but a label, overview or thumbnail"
_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Completeness:
    """What of a slide is there.

    Parameters
    ----------
    slide : Slide or None
        As it can be read now; None if no level of it is there.
    lacks : tuple of str
        What each of its levels lacks, in words; "" for nothing.
    instances : int
        Of the series, with those that are no levels; each once.
    """

    slide: Slide | None
    lacks: tuple[str, ...]
    instances: int

    @property
    def missing(self) -> tuple[str, ...]:
        """What is missing, in words without UIDs."""
        if self.slide is None:
            return (_NO_LEVEL,)
        levels = enumerate(zip(self.slide.levels, self.lacks, strict=True))
        return tuple(
            f"level {index} ({level.width_px} x {level.height_px} px): {lack}"
            for index, (level, lack) in levels
            if lack
        )

    @property
    def whole(self) -> bool:
        """Whether there is a level, and each one has all that it says it has."""
        return not self.missing

    @property
    def set_sha256(self) -> str:
        """Digest of the instances that make up the pyramid; "" if there are none."""
        return set_digest(self.slide) if self.slide is not None else ""


def set_digest(slide: Slide) -> str:
    """Return the sha256 of a slide's instances and of what their metadata say that they show, in whatever order.

    Labels, overviews and what is there twice are not among them. What a slide shows in the same place under the same
    UIDs is the same: an instance that was stored again with other pixels is no other instance (PS3.3 C.12.1).
    """
    held = sorted((one.uid, one.digest) for level in slide.levels for one in level.instances)
    return hashlib.sha256("\n".join(f"{uid} {digest}" for uid, digest in held).encode()).hexdigest()


def completeness_of(metadata: Sequence[Any]) -> Completeness:
    """Find out what of a slide is there; the order of its instances does not matter.

    How many levels a slide is going to have, nothing in it says: one that lacks a level looks like a smaller one.

    Parameters
    ----------
    metadata : sequence
        Parsed answer of WADO-RS ``/metadata``; checked, since it comes from outside.

    Raises
    ------
    SeriesNotFound
        It is empty.
    NotASlide
        There is nothing of a whole-slide image in it, or nothing that can be read as one.
    SlideAmbiguous, SpacingContradictory
        Somebody has to decide how the slide is to be read.
    """
    items = [item for item in metadata if isinstance(item, dict)]
    instances = len({text(item, SOP_INSTANCE) for item in items} - {""})
    if not any(map(is_of_pyramid, items)) and any(text(item, SOP_CLASS) == WHOLE_SLIDE_IMAGE for item in items):
        return Completeness(None, (), instances)
    selected = select_slide(metadata)
    slide = levels_of(selected, SlideRef("dicomweb", ""), "slide").slide
    by_uid = {text(item, SOP_INSTANCE): item for item in selected.instances}
    return Completeness(slide, tuple(_lack(level, by_uid) for level in slide.levels), instances)


def _lack(level: Level, items: Mapping[str, Json]) -> str:
    """Return what a level lacks: tiles that are not glass, parts of a concatenation."""
    if level.problem:
        return level.problem
    said = []
    if level.absent and level.background is None:
        tiles, absent = level.rows * level.columns, sum(stop - start for start, stop in level.absent)
        said.append(f"{tiles - absent} of {tiles} tiles are there")
    parts = [items[instance.uid] for instance in level.instances]
    total = max(integer(part, _PARTS) for part in parts)
    if total > len(parts):
        numbers = {integer(part, _PART_NUMBER) for part in parts}
        named = islice((str(number) for number in range(1, total + 1) if number not in numbers), _MOST_NAMED)
        said.append(f"missing of the {total} parts of its concatenation: {', '.join(named) or 'one'}")
    return ", ".join(said)
