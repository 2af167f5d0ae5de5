"""Frames become patches: which frames a patch needs, and how it is cut from them."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from models.domain.patch import PatchGrid
from models.domain.slide import Level


def frames_of(level: Level, boxes: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Return, for each box, the 0-based frames that it overlaps.

    Parameters
    ----------
    level : Level
        Its tiles are in row-major order.
    boxes : int32 array, shape (N, 4)
        x, y, width, height in pixels of the level, inside its matrix.
    """
    x, y, width, height = boxes.astype(np.int64).T
    first_column, last_column = x // level.frame_width_px, (x + width - 1) // level.frame_width_px
    first_row, last_row = y // level.frame_height_px, (y + height - 1) // level.frame_height_px
    corners = zip(first_row, last_row, first_column, last_column, strict=True)
    return [
        (np.arange(top, bottom + 1)[:, None] * level.columns + np.arange(left, right + 1)).ravel()
        for top, bottom, left, right in corners
    ]


def cut_patch(
    frames: Mapping[int, NDArray[np.uint8]], level: Level, box: NDArray[np.int32], out: NDArray[np.uint8]
) -> None:
    """Cut one patch from decoded frames, resampled by area if the box is larger than the patch.

    Parameters
    ----------
    frames : mapping of frame index to uint8 array (frame_height_px, frame_width_px, 3)
        Holds every frame the box overlaps; a missing one is a KeyError, never black.
    level : Level
    box : int32 array (x, y, width, height)
        Pixels of the level.
    out : uint8 array, shape (patch_px, patch_px, 3)
        Filled whole.
    """
    x, y, width, height = (int(value) for value in box)
    whole = out if out.shape[:2] == (height, width) else np.empty((height, width, 3), np.uint8)
    for row in range(y // level.frame_height_px, (y + height - 1) // level.frame_height_px + 1):
        top = row * level.frame_height_px
        y0, y1 = max(y, top), min(y + height, top + level.frame_height_px)
        for column in range(x // level.frame_width_px, (x + width - 1) // level.frame_width_px + 1):
            left = column * level.frame_width_px
            x0, x1 = max(x, left), min(x + width, left + level.frame_width_px)
            frame = frames[row * level.columns + column]
            whole[y0 - y : y1 - y, x0 - x : x1 - x] = frame[y0 - top : y1 - top, x0 - left : x1 - left]
    if whole is not out:  # as EZ-WSI's resized levels do
        cv2.resize(whole, (out.shape[1], out.shape[0]), dst=out, interpolation=cv2.INTER_AREA)


def group_ends(grid: PatchGrid, needed: list[NDArray[np.int64]], max_frames: int) -> list[int]:
    """Split patches into consecutive groups that bring in at most `max_frames` new frames each.

    Parameters
    ----------
    grid : PatchGrid
    needed : list of int64 arrays
        `frames_of` its boxes.
    max_frames : int
        A single patch that needs more forms a group of its own.

    Returns
    -------
    list of int
        End (exclusive) of each group; the last is ``len(grid)``.
    """
    ends: list[int] = []
    fresh: set[int] = set()
    seen: set[int] = set()
    for position, frames in enumerate(needed):
        new = set(frames.tolist()) - seen - fresh
        if fresh and len(fresh) + len(new) > max_frames:
            ends.append(position)
            seen |= fresh
            fresh = set()
        fresh |= new
    if len(grid):
        ends.append(len(grid))
    return ends
