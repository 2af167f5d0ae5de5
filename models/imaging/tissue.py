"""Where the tissue is: a thumbnail of the lowest level, Otsu on its saturation, the share of each patch."""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from models.domain.slide import Level

THUMBNAIL_PX = 2048
_BLUR_PX = 5
_LEAST_SATURATION = 12  # of 255; below it there is no stain, only the scanner's white balance


def thumbnail_scale(level: Level) -> int:
    """Return the whole number of level pixels that one thumbnail pixel stands for."""
    return max(1, -(-max(level.width_px, level.height_px) // THUMBNAIL_PX))


def build_thumbnail(level: Level, frames: Iterable[tuple[int, NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Assemble decoded frames of a level into a thumbnail, one frame in memory at a time.

    Parameters
    ----------
    level : Level
    frames : iterable of (frame index, uint8 array (frame_height_px, frame_width_px, 3))
        Every frame of the level, in any order.

    Returns
    -------
    uint8 array, shape (H, W, 3)
        RGB; the longer side is at most `THUMBNAIL_PX`.
    """
    scale = thumbnail_scale(level)
    height, width = -(-level.height_px // scale), -(-level.width_px // scale)
    canvas = np.full((height, width, 3), 255, np.uint8)
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
    sums = cv2.integral(mask.astype(np.uint8)).astype(np.int64)
    height, width = mask.shape
    left = np.clip((boxes[:, 0] / scale[0]).astype(np.int64), 0, width - 1)
    top = np.clip((boxes[:, 1] / scale[1]).astype(np.int64), 0, height - 1)
    right = np.clip(np.ceil((boxes[:, 0] + boxes[:, 2]) / scale[0]).astype(np.int64), left + 1, width)
    bottom = np.clip(np.ceil((boxes[:, 1] + boxes[:, 3]) / scale[1]).astype(np.int64), top + 1, height)
    tissue = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return np.asarray(tissue / ((right - left) * (bottom - top)))
