"""A series in DICOM JSON (PS3.18 F): which of its instances make up the slide, and what was passed over."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.dicom.attributes import Json, integer, text, value, values_of
from connectors.dicom.spacing import spacing_of, with_spacing
from models.domain.errors import NotASlide, SeriesNotFound
from models.domain.slide import Reading

WHOLE_SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
SOP_CLASS, SOP_INSTANCE, IMAGE_TYPE = "00080016", "00080018", "00080008"
TRANSFER_SYNTAX, AVAILABLE_TRANSFER_SYNTAX, FRAME_COUNT = "00020010", "00083002", "00280008"
_ROWS, _COLUMNS, _SAMPLES, _BITS, _HIGH_BIT = "00280010", "00280011", "00280002", "00280100", "00280102"
_MATRIX_COLUMNS, _MATRIX_ROWS = "00480006", "00480007"
_NEEDED = (_ROWS, _COLUMNS, _SAMPLES, _BITS, _HIGH_BIT, _MATRIX_COLUMNS, _MATRIX_ROWS, IMAGE_TYPE)
_ANCILLARY = {"LABEL", "OVERVIEW", "THUMBNAIL"}
_MAX_FRAMES = 1 << 24
_MAX_SIDE_PX = 1 << 21
_UID = re.compile(r"[0-9][0-9.]{0,63}")  # PS3.5 9.1; it becomes part of URLs


def frame_count(item: Mapping[str, Any]) -> int:
    """Return Number of Frames (0028,0008); 1 if the instance does not say."""
    return max(1, integer(item, FRAME_COUNT))


def kinds_of(item: Mapping[str, Any]) -> set[str]:
    """Return the values of Image Type (0008,0008) in capitals, also of a server that sends them as one."""
    return {kind.strip().upper() for part in values_of(item, IMAGE_TYPE) for kind in str(part).split("\\")}


def is_of_pyramid(item: Mapping[str, Any]) -> bool:
    """Whether an instance is of the slide itself: a whole-slide image, and no label, overview or thumbnail."""
    return text(item, SOP_CLASS) == WHOLE_SLIDE_IMAGE and not _ANCILLARY & kinds_of(item)


@dataclass(frozen=True, slots=True)
class SlideMetadata:
    """The instances of a series that make up its slide, what was passed over on the way, and how they are read."""

    instances: tuple[Json, ...]
    notes: tuple[str, ...]
    reading: Reading = field(default_factory=Reading)

    def for_ez_wsi(self) -> Iterator[Json]:
        """Yield copies of the instances with the Imaged Volume that EZ-WSI goes by; it may take them apart."""
        for item in self.instances:
            copied: Json = json.loads(json.dumps(item))
            yield with_spacing(copied, spacing_of(item, self.reading.spacing_from))


def select_slide(
    metadata: Sequence[Any], instance_uids: Sequence[str] = (), reading: Reading | None = None
) -> SlideMetadata:
    """Pick a slide's pyramid out of a series: no label, no overview, no duplicate, nothing that cannot be read.

    Parameters
    ----------
    metadata : sequence
        Parsed answer of WADO-RS ``/metadata``; checked, since it comes from outside.
    instance_uids : sequence of str
        If given, only these instances.
    reading : Reading or None
        Says which spacing to believe.

    Raises
    ------
    SeriesNotFound
        The series is empty, or lacks an instance asked for.
    NotASlide
        There is no whole-slide image in it.
    SpacingContradictory
        An instance contradicts itself, and `reading` does not decide.
    """
    if not metadata:
        raise SeriesNotFound("The series is empty or unknown to the server: check study and series UID.")
    unique: dict[str, Json] = {}
    notes: list[str] = []
    for item in metadata:
        sound = isinstance(item, dict) and isinstance(value(item, SOP_INSTANCE), str)
        if sound and _UID.fullmatch(text(item, SOP_INSTANCE)):
            unique.setdefault(text(item, SOP_INSTANCE), item)
    if len(unique) < len(metadata):
        notes.append(f"{len(metadata) - len(unique)} repeated or nameless instances were passed over")
    volumes = [item for item in unique.values() if is_of_pyramid(item)]
    if not volumes:
        raise NotASlide("The series holds no whole-slide image (VL Whole Slide Microscopy Image Storage, VOLUME).")
    if instance_uids:
        named = {text(item, SOP_INSTANCE): item for item in volumes}
        wanted = dict.fromkeys(instance_uids)
        volumes = [named[uid] for uid in wanted if uid in named]
        if len(volumes) < len(wanted):
            raise SeriesNotFound("The series does not hold every instance that the request names as part of its slide.")
    return _usable(volumes, notes, reading or Reading())


def _usable(volumes: Sequence[Json], notes: list[str], reading: Reading) -> SlideMetadata:
    usable = []
    for item in volumes:
        fault = _fault(item)
        if fault:
            notes.append(f"an instance was passed over: {fault}")
        else:
            spacing = spacing_of(item, reading.spacing_from)
            notes.extend([spacing.note] if spacing.note else [])
            usable.append(item)
    if not usable:
        raise NotASlide(f"No instance of the series can be read as a slide: {notes[-1]}.")
    return SlideMetadata(tuple(usable), tuple(dict.fromkeys(notes)), reading)


def _fault(item: Json) -> str:
    absent = [tag for tag in _NEEDED if value(item, tag) is None]
    if absent:
        return f"attribute {', '.join(absent)} is missing"
    width, height = integer(item, _MATRIX_COLUMNS), integer(item, _MATRIX_ROWS)
    if not (0 < width <= _MAX_SIDE_PX and 0 < height <= _MAX_SIDE_PX):
        return f"a total pixel matrix of {width} x {height} px"
    if not (0 < integer(item, _ROWS) <= 65535 and 0 < integer(item, _COLUMNS) <= 65535):
        return "tiles without a size"
    if integer(item, FRAME_COUNT) > _MAX_FRAMES:
        return f"{integer(item, FRAME_COUNT)} frames"
    if (integer(item, _BITS), integer(item, _SAMPLES)) != (8, 3):
        return "pixels that are not 8-bit colour"
    return ""
