"""Where the tissue of a slide is, as a request wants it found: in the slide itself, or from a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.dicom.segmentation import is_dicom, read_segmentation
from connectors.mask_image import read_mask_image
from connectors.protocols import Source
from connectors.regions import read_regions
from models.domain.errors import FrameUndecodable, SlideIncomplete, TissueFileInvalid
from models.domain.patch import EncodedFrame
from models.domain.request import PatchSpec
from models.domain.slide import Level, Slide
from models.imaging.brightness import LEVEL_TOLERANCE, MASK_SPACING_UM, MOST_DOWNSAMPLING, luminance, within_thresholds
from models.imaging.decode import decode_frame
from models.imaging.resample import absent_tiles
from models.imaging.tissue import TissueMask, build_thumbnail, thumbnail_scale, tissue_mask
from worker.stages.fetch import fetch_frames

_FRAMES_AT_A_TIME = 400
_OVERVIEW_PX = 1024
_GREY_PX = 8192


@dataclass(frozen=True, eq=False)
class Overview:
    """A level seen from afar.

    Parameters
    ----------
    pixels : uint8 array, shape (H, W, 3)
    absent : int
        Frames that could not be had; their place is the level's background, or white.
    """

    pixels: NDArray[np.uint8]
    absent: int = 0


def find_tissue(source: Source, spec: PatchSpec) -> TissueMask:
    """Return where the tissue is.

    Parameters
    ----------
    source : Source
    spec : PatchSpec
        Its `tissue_method` and `tissue_file` say how; `missing` whether frames may be lacking.

    Raises
    ------
    TissueFileInvalid
        Mask or regions cannot be read, or do not belong to the slide.
    SlideIncomplete, SourceError, EndpointError
        The level that is looked at cannot be read.
    """
    finest = source.slide.levels[0]
    if spec.tissue_method == "regions":
        return read_regions(
            Path(spec.tissue_file), (finest.width_px, finest.height_px), _patch_at_level_0(finest, spec)
        )
    if spec.tissue_method == "mask":
        return _from_mask(source, spec.tissue_file)
    if spec.tissue_method == "ez-wsi":
        return _by_luminance(source, spec)
    index = overview_level(source.slide)
    seen = read_overview(source, index, allow_holes=spec.missing == "mask")
    return TissueMask(tissue_mask(seen.pixels), "otsu", "", f"level {index}", None, _holes(seen))


def overview_level(slide: Slide) -> int:
    """Return the lowest level that still shows where the tissue is: the smallest of 1024 px or more.

    Raises
    ------
    SlideIncomplete
        No level can be read.
    """
    readable = _readable(slide)
    sides = {index: max(slide.levels[index].width_px, slide.levels[index].height_px) for index in readable}
    return max((index for index in readable if sides[index] >= _OVERVIEW_PX), default=readable[0])


def read_thumbnail(source: Source) -> NDArray[np.uint8]:
    """Return the slide's overview level as RGB, at most 2048 px long (uint8, shape (H, W, 3)), for a picture.

    Frames that cannot be had are white.
    """
    return read_overview(source, overview_level(source.slide), allow_holes=True).pixels


def look_again(
    source: Source, spec: PatchSpec, notes: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Return thumbnail and tissue mask of a slide that was planned earlier, for a picture of it.

    Parameters
    ----------
    source : Source
    spec : PatchSpec
    notes : sequence of str
        Of the plan; they hold the digest of the file that was read then.

    Returns
    -------
    uint8 array, shape (H, W, 3), and bool array, shape (any, any), or None
        None if no tissue was looked for, or it was in a file that is not here, or not the same any more.
    """
    thumbnail = read_thumbnail(source)
    if spec.tissue_fraction is None or spec.coordinates is not None:
        return thumbnail, None
    if spec.tissue_method == "otsu":
        return thumbnail, tissue_mask(thumbnail)
    try:
        found = find_tissue(source, spec)
    except TissueFileInvalid:  # it lies where the slide was submitted
        return thumbnail, None
    return thumbnail, found.mask if any(found.digest in note for note in notes) else None


def read_overview(source: Source, index: int, *, longest_px: int | None = None, allow_holes: bool = False) -> Overview:
    """Read a level from afar, one frame in memory at a time.

    Parameters
    ----------
    source : Source
    index : int
        The level.
    longest_px : int or None
        Bound of the longer side; None: a thumbnail's 2048 px.
    allow_holes : bool
        Go on without frames that cannot be had or decoded; otherwise they are an error.

    Raises
    ------
    FrameMissing, FrameUndecodable, EndpointError
    """
    level = source.slide.levels[index]
    lost: list[int] = []

    def decoded() -> Iterator[tuple[int, NDArray[np.uint8]]]:
        for frame in _frames(source, index, lost if allow_holes else None):
            try:
                pixels = decode_frame(frame, level)
            except FrameUndecodable:
                if not allow_holes:
                    raise
                lost.append(frame.index)
            else:
                yield frame.index, pixels

    return Overview(build_thumbnail(level, decoded(), longest_px), len(lost))  # the count once all are read


def _frames(source: Source, index: int, lost: list[int] | None) -> Iterator[EncodedFrame]:
    """Yield the frames of a level that the slide holds; those it promises and does not give go to `lost`."""
    level = source.slide.levels[index]
    absent = absent_tiles(level)
    there = np.flatnonzero(~absent).tolist() if len(absent) else range(level.rows * level.columns)
    for start in range(0, len(there), _FRAMES_AT_A_TIME):
        waiting = tuple(there[start : start + _FRAMES_AT_A_TIME])
        frames, missing = fetch_frames(source, index, waiting, holes=lost is not None)
        yield from frames
        if lost is not None:
            lost.extend(missing)


def _readable(slide: Slide) -> list[int]:
    readable = [index for index, level in enumerate(slide.levels) if not level.problem]
    if not readable:
        raise SlideIncomplete(f"No level of the slide can be read: {slide.levels[0].problem}.")
    return readable


def _holes(seen: Overview) -> tuple[str, ...]:
    if not seen.absent:
        return ()
    return (f"{seen.absent} frames of the level in which tissue was looked for could not be had: no tissue there",)


def _patch_at_level_0(finest: Level, spec: PatchSpec) -> float:
    """Return the side of a patch in pixels of level 0, for want of a spacing that of the patch itself."""
    if spec.spacing_um is None or finest.fine_spacing_um is None:
        return float(spec.patch_px)
    return spec.patch_px * spec.spacing_um / finest.fine_spacing_um


def _from_mask(source: Source, file: str) -> TissueMask:
    """Read an image or a Segmentation; ``FILE#SEGMENT`` names one of its segments."""
    path, segment = Path(file), ""
    if not path.exists() and "#" in path.name:
        name, _, segment = path.name.rpartition("#")
        path = path.with_name(name)
    if is_dicom(path):
        return read_segmentation(path, source.slide, source.header(0), segment)
    if segment:
        raise TissueFileInvalid("Only a DICOM Segmentation has segments to name after #.")
    finest = source.slide.levels[0]
    return read_mask_image(path, (finest.width_px, finest.height_px))


def _by_luminance(source: Source, spec: PatchSpec) -> TissueMask:
    index = _luminance_level(source.slide, spec)
    level = source.slide.levels[index]
    seen = read_overview(source, index, longest_px=_GREY_PX, allow_holes=spec.missing == "mask")
    grey = luminance(seen.pixels)
    scale = thumbnail_scale(level, _GREY_PX)
    smaller = (f"level {index} was brought down by {scale} to look for tissue; EZ-WSI takes it as it is",)
    notes = (*_holes(seen), *(smaller if scale > 1 else ()))
    return TissueMask(within_thresholds(grey), "ez-wsi", "", f"the luminance of level {index}", grey, notes)


def _luminance_level(slide: Slide, spec: PatchSpec) -> int:
    """Return the level that EZ-WSI's patch generator looks at: the one near 1.25X, or what is coarser and asked for."""
    readable = _readable(slide)
    known = {index: spacing for index in readable if (spacing := slide.levels[index].fine_spacing_um)}
    if not known:
        return overview_level(slide)
    target = max(MASK_SPACING_UM, spec.spacing_um or known[min(known)])
    finer = [index for index in known if known[index] <= target]
    coarser = [index for index in known if known[index] > target]
    near = max(finer, key=lambda index: known[index], default=None)
    far = min(coarser, key=lambda index: known[index], default=None)
    for index in (near, far):
        if index is not None and np.isclose(known[index], target, rtol=LEVEL_TOLERANCE, atol=0):
            return index
    if near is not None and target / known[near] <= MOST_DOWNSAMPLING:
        return near
    return overview_level(slide)  # EZ-WSI gives up here
