"""DICOM JSON of a series (PS3.18 F) becomes what EZ-WSI can open, and what EZ-WSI opened becomes a `Slide`."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.domain.errors import NotASlide, SeriesNotFound
from models.domain.slide import Instance, Level, Slide, SlideRef

Json = dict[str, Any]

WHOLE_SLIDE_IMAGE = "1.2.840.10008.5.1.4.1.1.77.1.6"
SOP_CLASS, SOP_INSTANCE, IMAGE_TYPE = "00080016", "00080018", "00080008"
TRANSFER_SYNTAX, AVAILABLE_TRANSFER_SYNTAX, FRAME_COUNT = "00020010", "00083002", "00280008"
_ROWS, _COLUMNS, _SAMPLES, _BITS, _HIGH_BIT = "00280010", "00280011", "00280002", "00280100", "00280102"
_MATRIX_COLUMNS, _MATRIX_ROWS, _VOLUME_WIDTH, _VOLUME_HEIGHT = "00480006", "00480007", "00480001", "00480002"
_SHARED_GROUPS, _PIXEL_MEASURES, _PIXEL_SPACING = "52009229", "00289110", "00280030"
_NEEDED = (_ROWS, _COLUMNS, _SAMPLES, _BITS, _HIGH_BIT, _MATRIX_COLUMNS, _MATRIX_ROWS, IMAGE_TYPE)
_ANCILLARY = {"LABEL", "OVERVIEW", "THUMBNAIL"}
_MAX_FRAMES = 1 << 24
_MAX_SIDE_PX = 1 << 21


def value(item: Mapping[str, Any], tag: str) -> Any:
    """Return the first value of an attribute; None if it is absent or empty."""
    values = values_of(item, tag)
    return values[0] if values else None


def values_of(item: Mapping[str, Any], tag: str) -> list[Any]:
    """Return all values of an attribute."""
    element = item.get(tag)
    found = element.get("Value") if isinstance(element, Mapping) else None
    return found if isinstance(found, list) else []


def _integer(item: Mapping[str, Any], tag: str) -> int:
    try:
        return int(value(item, tag) or 0)
    except (TypeError, ValueError, OverflowError):
        return 0


def frame_count(item: Mapping[str, Any]) -> int:
    """Return Number of Frames (0028,0008); 1 if the instance does not say."""
    return _integer(item, FRAME_COUNT) or 1


@dataclass(frozen=True, slots=True)
class SlideMetadata:
    """The instances of a series that make up its slide, and what was passed over on the way."""

    instances: tuple[Json, ...]
    notes: tuple[str, ...]


def select_slide(metadata: Sequence[Any], instance_uids: Sequence[str] = ()) -> SlideMetadata:
    """Pick a slide's pyramid out of a series: no label, no overview, no duplicate, nothing that cannot be read.

    Parameters
    ----------
    metadata : sequence
        Parsed answer of WADO-RS ``/metadata``; checked, since it comes from outside.
    instance_uids : sequence of str
        If given, only these instances.

    Raises
    ------
    SeriesNotFound
        The series is empty, or lacks an instance asked for.
    NotASlide
        There is no whole-slide image in it.
    """
    if not metadata:
        raise SeriesNotFound("The series is empty or unknown to the server: check study and series UID.")
    unique: dict[str, Json] = {}
    notes: list[str] = []
    for item in metadata:
        if isinstance(item, dict) and isinstance(value(item, SOP_INSTANCE), str):
            unique.setdefault(str(value(item, SOP_INSTANCE)), item)
    if len(unique) < len(metadata):
        notes.append(f"{len(metadata) - len(unique)} repeated or nameless instances were passed over")
    slides = [item for item in unique.values() if value(item, SOP_CLASS) == WHOLE_SLIDE_IMAGE]
    volumes = [item for item in slides if not _ANCILLARY & {str(part).upper() for part in values_of(item, IMAGE_TYPE)}]
    if not volumes:
        raise NotASlide("The series holds no whole-slide image (VL Whole Slide Microscopy Image Storage, VOLUME).")
    if instance_uids:
        named = {str(value(item, SOP_INSTANCE)): item for item in volumes}
        wanted = dict.fromkeys(instance_uids)
        volumes = [named[uid] for uid in wanted if uid in named]
        if len(volumes) < len(wanted):
            raise SeriesNotFound("The series does not hold every instance that the request names as part of its slide.")
    return _usable(volumes, notes)


def _usable(volumes: Sequence[Json], notes: list[str]) -> SlideMetadata:
    usable = []
    for item in volumes:
        fault = _fault(item)
        if fault:
            notes.append(f"an instance was passed over: {fault}")
        else:
            usable.append(_with_volume(item, notes))
    if not usable:
        raise NotASlide(f"No instance of the series can be read as a slide: {notes[-1]}.")
    return SlideMetadata(tuple(usable), tuple(notes))


def _fault(item: Json) -> str:
    absent = [tag for tag in _NEEDED if value(item, tag) is None]
    if absent:
        return f"attribute {', '.join(absent)} is missing"
    width, height = _integer(item, _MATRIX_COLUMNS), _integer(item, _MATRIX_ROWS)
    if not (0 < width <= _MAX_SIDE_PX and 0 < height <= _MAX_SIDE_PX):
        return f"a total pixel matrix of {width} x {height} px"
    if not (0 < _integer(item, _ROWS) <= 65535 and 0 < _integer(item, _COLUMNS) <= 65535):
        return "tiles without a size"
    if _integer(item, FRAME_COUNT) > _MAX_FRAMES:
        return f"{_integer(item, FRAME_COUNT)} frames"
    if (_integer(item, _BITS), _integer(item, _SAMPLES)) != (8, 3):
        return "pixels that are not 8-bit colour"
    return ""


def _with_volume(item: Json, notes: list[str]) -> Json:
    """Give EZ-WSI the Imaged Volume it insists on, from Pixel Spacing where only that is known."""
    if value(item, _VOLUME_WIDTH) and value(item, _VOLUME_HEIGHT):
        return item
    groups = value(item, _SHARED_GROUPS)
    measures = value(groups, _PIXEL_MEASURES) if isinstance(groups, Mapping) else None
    spacing = values_of(measures, _PIXEL_SPACING) if isinstance(measures, Mapping) else []
    completed = dict(item)
    if len(spacing) == 2 and all(isinstance(part, int | float) and part > 0 for part in spacing):
        notes.append("spacing is from Pixel Spacing, the Imaged Volume is absent")
        completed[_VOLUME_WIDTH] = {"vr": "FL", "Value": [spacing[1] * _integer(item, _MATRIX_COLUMNS)]}
        completed[_VOLUME_HEIGHT] = {"vr": "FL", "Value": [spacing[0] * _integer(item, _MATRIX_ROWS)]}
        return completed
    notes.append("the spacing is unknown: neither Imaged Volume nor Pixel Spacing")
    # Without VOLUME in the Image Type, EZ-WSI takes a level whose spacing is undefined.
    kept = [part for part in values_of(item, IMAGE_TYPE) if str(part).upper() != "VOLUME"]
    completed[IMAGE_TYPE] = {"vr": "CS", "Value": kept or ["ORIGINAL", "PRIMARY"]}
    for tag in (_VOLUME_WIDTH, _VOLUME_HEIGHT):
        completed.pop(tag, None)
    return completed


def slide_of(levels: Iterable[Any], ref: SlideRef, name: str, notes: tuple[str, ...]) -> Slide:
    """Turn EZ-WSI's levels into a `Slide`.

    Parameters
    ----------
    levels : iterable of ez_wsi_dicomweb.slide_level_map.Level
    ref : SlideRef
    name : str
        File-name-safe.
    notes : tuple of str
    """
    found = sorted((_level_of(level) for level in levels), key=lambda level: -level.width_px * level.height_px)
    if not found:
        raise NotASlide("EZ-WSI finds no pyramid level in the series.")
    return Slide(ref, tuple(found), name, notes)


def _level_of(level: Any) -> Level:
    spacing = level.pixel_spacing
    spacing_um = (spacing.column_spacing_mm * 1000, spacing.row_spacing_mm * 1000) if spacing.is_defined else None
    size = (int(level.width), int(level.height), int(level.frame_width), int(level.frame_height))
    instances = []
    for offset, instance in level.instances.items():
        uid = str(instance.dicom_object.sop_instance_uid)
        text = json.dumps([uid, *size, int(offset), int(instance.frame_count), spacing_um])
        digest = hashlib.sha256(text.encode()).hexdigest()
        instances.append(Instance(uid, int(offset), int(instance.frame_count), digest))
    bare = Level(*size, spacing_um, str(level.photometric_interpretation), tuple(instances))
    return Level(*size, spacing_um, bare.photometric, bare.instances, _problem(bare, tiled_full=level.tiled_full))


def _problem(level: Level, *, tiled_full: bool) -> str:
    """Why a level's frames cannot be found by their row and column; "" if they can (PS3.3 C.7.6.17.3)."""
    expected, found = level.rows * level.columns, sum(part.frame_count for part in level.instances)
    offsets = [part.frame_offset for part in level.instances]
    starts = [sum(part.frame_count for part in level.instances[:position]) for position in range(len(level.instances))]
    if found == expected and offsets == starts:
        return ""
    if not tiled_full:
        return "its tiles are stored sparsely (TILED_SPARSE), which Slidewire cannot read yet"
    if found > expected and found % expected == 0:
        return "it holds several focal planes or optical paths, which Slidewire cannot choose from yet"
    return f"it has {found} of {expected} frames, or a part of its concatenation is missing"
