"""Where the tissue is: a thumbnail of a low level, Otsu on its saturation, the share of each patch."""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.domain.request import PatchSpec
from models.domain.slide import Level
from models.imaging.brightness import grid_selection

THUMBNAIL_PX = 2048
_GLASS = (255, 255, 255)
_ASPECT_TOLERANCE = 0.02
_BLUR_PX = 5
_LEAST_SATURATION = 12  # of 255; below it there is no stain, only the scanner's white balance


@dataclass(frozen=True, eq=False)
class TissueMask:
    """Where a slide is tissue, and how that is known.

    Parameters
    ----------
    mask : bool array, shape (H, W)
        Over the whole slide.
    method : str
        As in `PatchSpec.tissue_method`.
    digest : str
        sha256 of the file that says so; "" if the slide itself was looked at.
    looked_at : str
        What was looked at, in words: "level 3", "polygons of a file".
    grey : uint8 array, shape (H, W), or None
        Luminance, where patches are judged by it and not by the mask (``ez-wsi``).
    notes : tuple of str
        What had to be assumed or passed over.
    """

    mask: NDArray[np.bool_]
    method: str
    digest: str = ""
    looked_at: str = ""
    grey: NDArray[np.uint8] | None = None
    notes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """Part of the slide that is tissue, 0 to 1."""
        return float(self.mask.mean())

    def report(self, kept: int, total: int) -> tuple[str, ...]:
        """Return the notes for a result's provenance: what was looked at, and how much of the grid was kept."""
        source = f" (sha256 {self.digest})" if self.digest else ""
        part = f"{kept:,} of {total:,} patches kept ({100 * kept / max(total, 1):.1f} %)"
        return (f"tissue: {self.method} from {self.looked_at}{source}; {part}", *self.notes)


def kept_patches(
    tissue: TissueMask, boxes: NDArray[np.int32], level: Level, spec: PatchSpec, view_px: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return which patches of a grid are tissue.

    Parameters
    ----------
    tissue : TissueMask
    boxes : int32 array, shape (N, 4)
        All patches of the grid, row by row: x, y, width, height in pixels of `level`.
    level : Level
        The level they are cut from.
    spec : PatchSpec
        Its `tissue_fraction` is the least share of a patch; ``ez-wsi`` judges by the mean luminance instead.
    view_px : (int, int)
        Width and height of the slide at the spacing of the patches.

    Returns
    -------
    bool array, shape (N,)
    """
    if tissue.grey is not None:
        return grid_selection(tissue.grey, view_px, spec.patch_px, spec.step_px).ravel()
    scale = (level.width_px / tissue.mask.shape[1], level.height_px / tissue.mask.shape[0])
    least = max(spec.tissue_fraction or 0.0, 1e-9)  # a patch without any is never kept
    return np.asarray(tissue_fractions(tissue.mask, boxes, scale) >= least)


def thumbnail_scale(level: Level, longest_px: int | None = None) -> int:
    """Return the whole number of level pixels that one thumbnail pixel stands for."""
    return max(1, -(-max(level.width_px, level.height_px) // (longest_px or THUMBNAIL_PX)))


def build_thumbnail(
    level: Level, frames: Iterable[tuple[int, NDArray[np.uint8]]], longest_px: int | None = None
) -> NDArray[np.uint8]:
    """Assemble decoded frames of a level into a thumbnail, one frame in memory at a time.

    Parameters
    ----------
    level : Level
    frames : iterable of (frame index, uint8 array (frame_height_px, frame_width_px, 3))
        The frames that there are, in any order; the place of others is the level's background, or white.
    longest_px : int or None
        Bound of the longer side; None: `THUMBNAIL_PX`.

    Returns
    -------
    uint8 array, shape (H, W, 3)
        RGB.
    """
    scale = thumbnail_scale(level, longest_px)
    height, width = -(-level.height_px // scale), -(-level.width_px // scale)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = level.background or _GLASS
    for index, pixels in frames:
        row, column = divmod(index, level.columns)
        top, left = row * level.frame_height_px, column * level.frame_width_px
        inside = pixels[: level.height_px - top, : level.width_px - left]
        y0, x0 = top // scale, left // scale
        y1 = max(y0 + 1, _end(top + inside.shape[0], level.height_px, scale))
        x1 = max(x0 + 1, _end(left + inside.shape[1], level.width_px, scale))
        canvas[y0:y1, x0:x1] = (
            inside if scale == 1 else cv2.resize(inside, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
        )
    return canvas


def _end(edge_px: int, side_px: int, scale: int) -> int:
    """Return where a frame ends in the thumbnail; the last one covers what is left, also part of a pixel."""
    return -(-edge_px // scale) if edge_px == side_px else round(edge_px / scale)


def tissue_mask(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return where a thumbnail shows stained tissue: Otsu's threshold on the HSV saturation.

    Parameters
    ----------
    thumbnail : uint8 array, shape (H, W, 3)
        RGB.

    Returns
    -------
    bool array, shape (H, W)

    Notes
    -----
    Otsu splits anything in two, even an empty slide: a floor under the threshold keeps white glass and
    its noise from becoming tissue.
    """
    saturation = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2HSV)[..., 1]
    blurred = cv2.medianBlur(saturation, _BLUR_PX)
    threshold, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return np.asarray(blurred > max(threshold, _LEAST_SATURATION))


def tissue_fractions(
    mask: NDArray[np.bool_], boxes: NDArray[np.int32], scale: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the share of each box that is tissue.

    Parameters
    ----------
    mask : bool array, shape (H, W)
    boxes : int32 array, shape (N, 4)
        x, y, width, height in pixels of some level.
    scale : (float, float)
        Pixels of that level for one pixel of the mask (x, y).

    Returns
    -------
    float64 array, shape (N,)
        Counted over the mask pixels that the box touches, each whole.
    """
    sums = cv2.integral(np.ascontiguousarray(mask).view(np.uint8))  # int32 is enough for 2^31 pixels
    height, width = mask.shape
    left = np.clip((boxes[:, 0] / scale[0]).astype(np.int64), 0, width - 1)
    top = np.clip((boxes[:, 1] / scale[1]).astype(np.int64), 0, height - 1)
    right = np.clip(np.ceil((boxes[:, 0] + boxes[:, 2]) / scale[0]).astype(np.int64), left + 1, width)
    bottom = np.clip(np.ceil((boxes[:, 1] + boxes[:, 3]) / scale[1]).astype(np.int64), top + 1, height)
    tissue = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray(tissue / ((right - left) * (bottom - top)))


def covers_slide(mask_px: tuple[int, int], slide_px: tuple[int, int]) -> bool:
    """Whether a mask (width, height) has a slide's aspect ratio: within 2 %, and what rounding to pixels explains."""
    (width, height), (slide_width, slide_height) = mask_px, slide_px
    off = width * slide_height / (height * slide_width) - 1
    return abs(off) <= _ASPECT_TOLERANCE + 0.5 / width + 0.5 / height
