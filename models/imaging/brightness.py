"""EZ-WSI's choice of patches: those whose mean luminance, seen from afar, is neither white glass nor black.

The arithmetic is that of ``_BasePatchGenerator._normalized_tissue_mask`` in EZ-WSI 6.1.6, so that the same patches are
chosen: it judges a patch by its mean, not by the share of its pixels.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

DARKEST, BRIGHTEST = int(255 * (1 / 255)), int(255 * 0.8)  # EZ-WSI's default thresholds, in its own rounding
MASK_SPACING_UM = 8.0  # 1.25X, where EZ-WSI looks for tissue
LEVEL_TOLERANCE = 0.23  # within it a level counts as one of that spacing
MOST_DOWNSAMPLING = 8.0


def luminance(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luminance of RGB pixels: uint8, shape (H, W)."""
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def within_thresholds(grey: NDArray[np.uint8 | np.int64]) -> NDArray[np.bool_]:
    """Return where a luminance is that of tissue."""
    return np.asarray((grey >= DARKEST) & (grey <= BRIGHTEST))


def grid_selection(
    grey: NDArray[np.uint8], view_px: tuple[int, int], patch_px: int, stride_px: int
) -> NDArray[np.bool_]:
    """Return which patches of a grid EZ-WSI's patch generator yields.

    Parameters
    ----------
    grey : uint8 array, shape (H, W)
        Luminance of the whole slide.
    view_px : (int, int)
        Width and height of the slide at the spacing of the patches.
    patch_px, stride_px : int

    Returns
    -------
    bool array, shape (rows, columns)

    Notes
    -----
    With gaps between the patches EZ-WSI puts each into the middle of its stride. Here it stays at the stride's
    corner, and is judged where it lies.
    """
    columns, rows = ((side - patch_px) // stride_px + 1 for side in view_px)
    if patch_px == stride_px:
        return within_thresholds(_area_means(grey, view_px, (columns, rows), stride_px))
    height, width = grey.shape
    wide, high = max(int(patch_px * width / view_px[0]), 1), max(int(patch_px * height / view_px[1]), 1)
    left = np.asarray([int(x * stride_px * width / view_px[0]) for x in range(columns)])
    top = np.asarray([int(y * stride_px * height / view_px[1]) for y in range(rows)])
    right, bottom = np.minimum(left + wide, width), np.minimum(top + high, height)
    sums = cv2.integral(grey, sdepth=cv2.CV_64F)
    total = (
        sums[np.ix_(bottom, right)] - sums[np.ix_(top, right)] - sums[np.ix_(bottom, left)] + sums[np.ix_(top, left)]
    )
    return within_thresholds(total.astype(np.int64) // (wide * high))


def _area_means(
    grey: NDArray[np.uint8], view_px: tuple[int, int], steps: tuple[int, int], stride_px: int
) -> NDArray[np.uint8]:
    """Return the mean of each patch of a grid without gaps; what the grid leaves over at the edges is cut away."""
    sizes = [
        min(math.ceil(side * (float(count * stride_px) / float(view))), side)
        for side, count, view in zip(grey.shape[::-1], steps, view_px, strict=True)
    ]
    return np.asarray(cv2.resize(grey[: sizes[1], : sizes[0]], steps, interpolation=cv2.INTER_AREA))
