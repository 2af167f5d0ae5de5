"""plan: a slide and a request become the exact list of patches to read, fixed before the first is read."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import PatchOutsideSlide, RequestError, SlideIncomplete, SlideTooSmall, SpacingTooFine
from models.domain.patch import PatchGrid
from models.domain.plan import Plan
from models.domain.request import PatchSpec
from models.domain.slide import Level, Slide
from models.imaging.resample import FrameUse, absent_tiles, stripes_of
from models.imaging.tissue import TissueMask, kept_patches

SPACING_TOLERANCE = 0.05  # within it a level is used as it is, as EZ-WSI does
_MAX_PATCHES = 5_000_000


@dataclass(frozen=True, slots=True)
class _View:
    """A level as it is looked at: its index, and how many of its pixels one pixel of a patch covers (x, y)."""

    level: int
    scale: tuple[float, float]
    width_px: int
    height_px: int
    spacing_um: tuple[float, float] | None


def plan_patches(slide: Slide, spec: PatchSpec, tissue: TissueMask | None, batch_size: int) -> Plan:
    """Fix the patches.

    Parameters
    ----------
    slide : Slide
    spec : PatchSpec
    tissue : TissueMask or None
        None if no selection is asked for.
    batch_size : int

    Raises
    ------
    SpacingTooFine, SlideTooSmall, PatchOutsideSlide, SlideIncomplete
    """
    view, notes = _choose(slide, spec)
    level = slide.levels[view.level]
    _require_readable(level, spec)
    origins = _listed(slide, spec, view) if spec.coordinates is not None else _gridded(spec, view)
    boxes = _boxes(origins, spec.patch_px, view, level)
    if tissue is not None and spec.coordinates is None:
        boxes = boxes[kept_patches(tissue, boxes, level, spec, (view.width_px, view.height_px))]
        notes += tissue.report(len(boxes), len(origins))
    if spec.coordinates is None:
        boxes, empty = _without_glass(boxes, level)
        notes += [f"{empty} patches that lie in tiles the slide leaves out were passed over"] if empty else []
    rows = np.arange(len(boxes), dtype=np.int64)
    order = _reading_order(boxes, level, listed=spec.coordinates is not None)
    grid = PatchGrid(view.level, spec.patch_px, view.spacing_um, boxes[order], rows[order])
    return Plan(slide, grid, len(origins), batch_size, (*slide.notes, *notes), spec.missing, spec.color_profile)


def check_spacing(slide: Slide, spec: PatchSpec) -> None:
    """See that a slide is as fine as its patches are to be; costs nothing.

    Raises
    ------
    SpacingTooFine
    """
    _choose(slide, spec)


def _require_readable(level: Level, spec: PatchSpec) -> None:
    if level.problem:
        raise SlideIncomplete(f"The level that is needed cannot be read: {level.problem}.")
    if level.absent and level.background is None and spec.missing == "error":
        tiles, absent = level.rows * level.columns, sum(stop - start for start, stop in level.absent)
        raise SlideIncomplete(
            f"The level that is needed has {tiles - absent} of {tiles} frames, or a part of its concatenation is "
            "missing: wait for the rest, or leave holes with --missing mask."
        )


def _without_glass(boxes: NDArray[np.int32], level: Level) -> tuple[NDArray[np.int32], int]:
    """Leave out patches of which the slide holds no tile because there is nothing but glass."""
    if not level.absent or level.background is None or not len(boxes):
        return boxes, 0
    use = FrameUse.of(level, boxes)
    held = np.add.reduceat(~absent_tiles(level)[use.frames], use.starts[:-1]) > 0
    return boxes[held], int((~held).sum())


def _reading_order(boxes: NDArray[np.int32], level: Level, *, listed: bool) -> NDArray[np.int64]:
    """Return the order in which patches are read: stripe by stripe, within one by rows (of tiles, if listed)."""
    row = boxes[:, 1] // level.frame_height_px if listed else boxes[:, 1]
    return np.lexsort((boxes[:, 0], row, stripes_of(level, boxes)))


def _choose(slide: Slide, spec: PatchSpec) -> tuple[_View, list[str]]:
    if spec.coordinate_space == "instance" and len(slide.levels) > 1:
        raise RequestError("The instances that the request names are not one level: ask for each level by itself.")
    finest = slide.levels[0]
    if spec.image_px is not None:
        return _resized(slide, spec.image_px, spec)
    if spec.spacing_um is None or spec.coordinate_space == "instance":
        return _native(slide, 0), []
    if finest.fine_spacing_um is None:
        return _native(slide, 0), ["the spacing is unknown: the source's own pixels were used (native)"]
    known = [(index, level.fine_spacing_um) for index, level in enumerate(slide.levels) if level.fine_spacing_um]
    near = [(abs(found / spec.spacing_um - 1), index) for index, found in known]
    distance, index = min(near)
    if distance <= SPACING_TOLERANCE:
        return _native(slide, index), []
    finer = [(found, index) for index, found in known if found < spec.spacing_um]
    if not finer:
        return _upsampled(slide, spec, spec.spacing_um, min(known, key=lambda pair: pair[1]))
    _, index = max(finer)
    view = _resampled(slide, index, spec.spacing_um)
    how = "resampled by area" if min(view.scale) >= 1 else "interpolated (cubic), being finer along one side only,"
    return view, [f"{how} from level {index} ({slide.levels[index].fine_spacing_um:.4g} um/px)"]


def _upsampled(slide: Slide, spec: PatchSpec, wanted_um: float, best: tuple[int, float]) -> tuple[_View, list[str]]:
    index, found = best
    if not spec.upsample:
        raise SpacingTooFine(
            f"The slide has {found:.4g} um/px at best, finer than that ({wanted_um:g}) would be invented: "
            f"ask for --spacing-um {found:.4g} or more, for --native, or insist with --upsample."
        )
    note = f"interpolated (cubic) from level {index} ({found:.4g} um/px), as asked: the detail is not in the slide"
    return _resampled(slide, index, wanted_um), [note]


def _native(slide: Slide, index: int) -> _View:
    level = slide.levels[index]
    return _View(index, (1.0, 1.0), level.width_px, level.height_px, level.spacing_um)


def _resampled(slide: Slide, index: int, spacing_um: float) -> _View:
    """Look at a finer level as EZ-WSI's `ResizedLevel` does: whole pixels, rounded down."""
    level = slide.levels[index]
    assert level.spacing_um is not None
    factors = (spacing_um / level.spacing_um[0], spacing_um / level.spacing_um[1])
    width, height = max(1, int(level.width_px / factors[0])), max(1, int(level.height_px / factors[1]))
    return _scaled(slide, index, (width, height))


def _resized(slide: Slide, image_px: tuple[int, int], spec: PatchSpec) -> tuple[_View, list[str]]:
    finest = slide.levels[0]
    finer = image_px[0] > finest.width_px or image_px[1] > finest.height_px
    if finer and not spec.upsample:
        raise SpacingTooFine(
            f"The image has {finest.width_px} x {finest.height_px} px; at {image_px[0]} x {image_px[1]} px "
            "pixels would be invented: ask for that size or less."
        )
    how = "interpolated (cubic)" if finer else "resampled by area"
    return _scaled(slide, 0, image_px), [f"{how} to {image_px[0]} x {image_px[1]} px"]


def _scaled(slide: Slide, index: int, size: tuple[int, int]) -> _View:
    level = slide.levels[index]
    scale = (level.width_px / size[0], level.height_px / size[1])
    true = (level.spacing_um[0] * scale[0], level.spacing_um[1] * scale[1]) if level.spacing_um else None
    return _View(index, scale, *size, true)


def _gridded(spec: PatchSpec, view: _View) -> NDArray[np.float64]:
    columns = (view.width_px - spec.patch_px) // spec.step_px + 1
    rows = (view.height_px - spec.patch_px) // spec.step_px + 1
    if columns < 1 or rows < 1:
        raise SlideTooSmall(
            f"The slide is {view.width_px} x {view.height_px} px at this spacing: no {spec.patch_px} px patch fits."
        )
    if columns * rows > _MAX_PATCHES:
        raise RequestError(f"The grid has {columns * rows} patches, more than {_MAX_PATCHES}: raise stride or spacing.")
    y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1) * spec.step_px
    return np.stack([x, y], axis=1).astype(np.float64)


def _listed(slide: Slide, spec: PatchSpec, view: _View) -> NDArray[np.float64]:
    origins = np.asarray(spec.coordinates, np.float64).reshape(-1, 2)
    finest, level = slide.levels[0], slide.levels[view.level]
    if spec.coordinate_space == "level-0":
        origins[:, 0] *= level.width_px / finest.width_px / view.scale[0]
        origins[:, 1] *= level.height_px / finest.height_px / view.scale[1]
    origins = np.rint(origins)
    outside = (origins < 0).any(axis=1)
    outside |= (origins[:, 0] + spec.patch_px > view.width_px) | (origins[:, 1] + spec.patch_px > view.height_px)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        assert spec.coordinates is not None
        raise PatchOutsideSlide(
            f"{int(outside.sum())} of {len(origins)} patches reach over the edge of the slide ({finest.width_px} x "
            f"{finest.height_px} px at level 0); the first is number {first + 1}, at {spec.coordinates[first]}."
        )
    return origins


def _boxes(origins: NDArray[np.float64], patch_px: int, view: _View, level: Level) -> NDArray[np.int32]:
    """Return what is read for each origin, rounded as EZ-WSI's patches round."""
    if not math.isclose(view.scale[0], 1.0) or not math.isclose(view.scale[1], 1.0):
        scale = np.asarray(view.scale)
        start, end = np.rint(origins * scale), np.rint((origins + patch_px) * scale)
        end = np.clip(end, 1, (level.width_px, level.height_px))
        start = np.minimum(start, end - 1)  # a patch of less than half a pixel is of one
        return np.concatenate([start, end - start], axis=1).astype(np.int32)
    size = np.full((len(origins), 2), patch_px, np.float64)
    return np.concatenate([origins, size], axis=1).astype(np.int32)
