"""Frames become patches: which frames a patch needs, and how it is cut from them."""

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.domain.slide import Level

STRIPE_TILES = 128


@dataclass(frozen=True, slots=True, eq=False)
class FrameUse:
    """Which frames (tile numbers) each of N patches overlaps.

    Parameters
    ----------
    frames : int64 array, shape (M,)
        Of the first patch, then of the second, and so on; those of one patch ascend.
    starts : int64 array, shape (N + 1,)
        Where each patch's frames begin in `frames`.
    """

    frames: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, level: Level, boxes: NDArray[np.int32]) -> "FrameUse":
        """Return the frames that boxes overlap.

        Parameters
        ----------
        level : Level
        boxes : int32 array, shape (N, 4)
            x, y, width, height in pixels of the level, inside its matrix.
        """
        x, y, width, height = boxes.astype(np.int64).reshape(-1, 4).T
        left, top = x // level.frame_width_px, y // level.frame_height_px
        across = (x + width - 1) // level.frame_width_px - left + 1
        count = across * ((y + height - 1) // level.frame_height_px - top + 1)
        starts = np.concatenate([[0], np.cumsum(count)])
        down, beside = np.divmod(np.arange(starts[-1]) - np.repeat(starts[:-1], count), np.repeat(across, count))
        first = top * level.columns + left
        return cls(np.repeat(first, count) + down * level.columns + beside, starts)

    def between(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the frames that patches `start` to `stop` need, each once, ascending."""
        return np.unique(self.frames[self.starts[start] : self.starts[stop]])

    def ends(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return every frame once (ascending), the first patch that needs it, and the last."""
        owner = np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))
        frames, first = np.unique(self.frames, return_index=True)
        _, last = np.unique(self.frames[::-1], return_index=True)
        return frames, owner[first], owner[::-1][last]


def run_end(opened: NDArray[np.int64], start: int, total: int, most_frames: int) -> int:
    """Return where a run of patches from `start` ends that brings in at most so many new frames, one patch at least.

    Parameters
    ----------
    opened : int64 array
        For each frame the first patch that needs it, ascending.
    start, total : int
        First patch of the run, and the number of all.
    most_frames : int
    """
    over = int(np.searchsorted(opened, start)) + max(1, most_frames)
    return max(start + 1, int(opened[over]) if over < len(opened) else total)


def stripes_of(level: Level, boxes: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the stripe of a level, `STRIPE_TILES` tiles wide, in which each box begins: int64, shape (N,).

    Patches are read stripe by stripe, and no frame is kept from one to the next: what is held of a row of tiles has a
    bound, however wide the slide is.
    """
    return np.asarray(boxes[:, 0], np.int64) // (STRIPE_TILES * level.frame_width_px)


def absent_tiles(level: Level) -> NDArray[np.bool_]:
    """Return which tiles of a level the slide does not hold: bool, shape (tiles,); of no length if it holds all."""
    if not level.absent:
        return np.zeros(0, np.bool_)
    absent = np.zeros(level.rows * level.columns, np.bool_)
    for start, stop in level.absent:
        absent[start:stop] = True
    return absent


def cut_patch(
    frames: Mapping[int, NDArray[np.uint8]], level: Level, box: NDArray[np.int32], out: NDArray[np.uint8]
) -> None:
    """Cut one patch from decoded frames; resampled if the box is of another size than the patch.

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
    x, y, width, height = box.tolist()
    tile_width, tile_height, columns = level.frame_width_px, level.frame_height_px, level.columns
    whole = out if out.shape[:2] == (height, width) else np.empty((height, width, 3), np.uint8)
    for row in range(y // tile_height, (y + height - 1) // tile_height + 1):
        top = row * tile_height
        y0, y1 = max(y, top), min(y + height, top + tile_height)
        for column in range(x // tile_width, (x + width - 1) // tile_width + 1):
            left = column * tile_width
            x0, x1 = max(x, left), min(x + width, left + tile_width)
            frame = frames[row * columns + column]
            whole[y0 - y : y1 - y, x0 - x : x1 - x] = frame[y0 - top : y1 - top, x0 - left : x1 - left]
    if (
        whole is not out
    ):  # by area as EZ-WSI's resized levels do; enlarged by its method, without context beyond the box
        finer = width >= out.shape[1] and height >= out.shape[0]
        method = cv2.INTER_AREA if finer else cv2.INTER_CUBIC
        cv2.resize(whole, (out.shape[1], out.shape[0]), dst=out, interpolation=method)
