"""Polygons become a mask: a mask pixel is inside if its centre is, by the even-odd rule."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""Corners (x, y) of a closed outline, shape (N, 2); the last joins the first."""


def fill_polygons(
    polygons: Iterable[Sequence[Ring]], shape: tuple[int, int], scale: tuple[float, float]
) -> NDArray[np.bool_]:
    """Return what lies inside any of the polygons.

    Parameters
    ----------
    polygons : iterable of sequences of rings
        Of each polygon its outline and its holes, in any order (even-odd). Corners may lie outside.
    shape : (int, int)
        Rows and columns of the mask.
    scale : (float, float)
        Units of the corners for one pixel of the mask (x, y).

    Returns
    -------
    bool array, shape `shape`

    Notes
    -----
    OpenCV's ``fillPoly`` also draws the outline, which makes each polygon half a pixel larger and each hole smaller.
    """
    mask = np.zeros(shape, np.bool_)
    for rings in polygons:
        _fill(mask, [ring / np.asarray(scale) for ring in rings])
    return mask


def filling_cost(polygons: Iterable[Sequence[Ring]], shape: tuple[int, int], scale: tuple[float, float]) -> int:
    """Return how many mask pixels `fill_polygons` would look at: what its time goes with."""
    cost = 0
    limits = np.asarray([shape[1], shape[0]], np.float64)
    for rings in polygons:
        low = np.clip(np.min([ring.min(axis=0) for ring in rings], axis=0) / scale, 0, limits)
        high = np.clip(np.max([ring.max(axis=0) for ring in rings], axis=0) / scale, 0, limits)
        cost += int(np.prod(high - low + 1))
    return cost


def _fill(mask: NDArray[np.bool_], rings: Sequence[Ring]) -> None:
    """Fill one polygon: each edge turns inside out all that lies to the right of where it crosses a row of centres."""
    height, width = mask.shape
    start = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    upwards = (start[:, 1] > end[:, 1])[:, None]  # all edges run down: neighbours then round their border alike
    start, end = np.where(upwards, end, start), np.where(upwards, start, end)
    # Rows whose centre (row + 0.5) an edge crosses: upper end in, lower end out, so that a corner counts once.
    first, stop = (np.clip(np.ceil(ends[:, 1] - 0.5), 0, height).astype(np.int64) for ends in (start, end))
    crossing = stop > first
    start, end, first, stop = start[crossing], end[crossing], first[crossing], stop[crossing]
    if not len(first):
        return
    counts = stop - first
    edge = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
    slope = (end[:, 0] - start[:, 0]) / (end[:, 1] - start[:, 1])
    x = start[edge, 0] + (row + 0.5 - start[edge, 1]) * slope[edge]
    column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
    top, left, right = int(first.min()), int(column.min()), int(column.max())
    if right <= left:
        return  # all of it beside the mask, or between two columns of centres
    turns = np.zeros((int(stop.max()) - top, right - left + 1), np.uint8)
    np.bitwise_xor.at(turns, (row - top, column - left), 1)
    inside = np.bitwise_xor.accumulate(turns, axis=1)[:, :-1].view(np.bool_)
    mask[top : top + len(turns), left:right] |= inside
