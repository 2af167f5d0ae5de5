"""A slide in memory, cut into native frames: small, exact, and it remembers which frames were asked for.

Its tiles may be absent, its frames missing or damaged.
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from connectors.protocols import Traffic
from models.domain.errors import FrameMissing
from models.domain.patch import EncodedFrame, PatchGrid
from models.domain.slide import Instance, Level, Slide, SlideRef
from models.imaging.syntax import EXPLICIT_LITTLE_ENDIAN

FRAME_PX = 32


def make_level(
    width_px: int, height_px: int, spacing_um: tuple[float, float] | None = (0.5, 0.5), frame_px: int = FRAME_PX
) -> Level:
    """Return a whole level of square frames, in one instance."""
    frames = -(-width_px // frame_px) * -(-height_px // frame_px)
    whole = Instance(f"1.2.{width_px}.{height_px}", 0, frames, f"digest of {width_px} x {height_px}")
    return Level(width_px, height_px, frame_px, frame_px, spacing_um, "RGB", (whole,))


def without_tiles(level: Level, tiles: Collection[int], background: tuple[int, int, int] | None = None) -> Level:
    """Return a level that does not hold some tiles: empty glass if there is a background, else a fault."""
    runs: list[tuple[int, int]] = []
    for tile in sorted(tiles):
        if runs and runs[-1][1] == tile:
            runs[-1] = (runs[-1][0], tile + 1)
        else:
            runs.append((tile, tile + 1))
    return replace(level, absent=tuple(runs), background=background)


def with_glass(pixels: NDArray[np.uint8], level: Level) -> NDArray[np.uint8]:
    """Return the image as it is with the level's background in place of its absent tiles, pixel by pixel."""
    absent = {tile for start, stop in level.absent for tile in range(start, stop)}
    tile = np.arange(level.height_px)[:, None] // level.frame_height_px * level.columns
    tile = tile + np.arange(level.width_px)[None, :] // level.frame_width_px
    found = pixels.copy()
    found[np.isin(tile, list(absent))] = level.background
    return found


def make_slide(*levels: Level, notes: tuple[str, ...] = ()) -> Slide:
    """Return a slide of these levels."""
    return Slide(SlideRef("dicomweb", "https://pacs.test/dicom-web", "pacs", "1.2", "1.3"), levels, "slide", notes)


def make_grid(boxes: Sequence[tuple[int, int, int, int]], patch_px: int) -> PatchGrid:
    """Return patches of level 0 that are asked for in the order they are read in."""
    array = np.asarray(boxes, np.int32).reshape(-1, 4)
    return PatchGrid(0, patch_px, (0.5, 0.5), array, np.arange(len(array), dtype=np.int64))


def random_pixels(width_px: int, height_px: int, seed: int = 3) -> NDArray[np.uint8]:
    """Return an RGB image in which no two places look the same."""
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), np.uint8)


def frames_from(pixels: NDArray[np.uint8], level: Level) -> dict[int, NDArray[np.uint8]]:
    """Cut an image into a level's frames; beyond its edge they are white."""
    wide, high = level.columns * level.frame_width_px, level.rows * level.frame_height_px
    canvas = np.full((high, wide, 3), 255, np.uint8)
    canvas[: level.height_px, : level.width_px] = pixels
    frames = {}
    for index in range(level.rows * level.columns):
        row, column = divmod(index, level.columns)
        top, left = row * level.frame_height_px, column * level.frame_width_px
        frames[index] = canvas[top : top + level.frame_height_px, left : left + level.frame_width_px].copy()
    return frames


class MemorySource:
    """A `Source` over arrays.

    Parameters
    ----------
    slide : Slide
    images : sequence of uint8 arrays (H, W, 3)
        One a level.
    missing : collection of int
        Tiles whose frames are promised and not given, on any level.
    damaged : collection of int
        Tiles whose frames are cut off, on any level.
    profile : bytes or None
        ICC profile of every level.
    """

    def __init__(
        self,
        slide: Slide,
        *images: NDArray[np.uint8],
        missing: Collection[int] = (),
        damaged: Collection[int] = (),
        profile: bytes | None = None,
    ) -> None:
        self.slide = slide
        self._frames = [frames_from(image, level) for image, level in zip(images, slide.levels, strict=True)]
        self._missing, self._damaged, self._profile = frozenset(missing), frozenset(damaged), profile
        self._lock = threading.Lock()
        self.requests: list[tuple[int, ...]] = []
        self.closed = False

    @property
    def asked(self) -> list[int]:
        """Every frame that was asked for, in order."""
        return [index for request in self.requests for index in request]

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield native frames."""
        with self._lock:
            self.requests.append(tuple(indices))
        for start, stop in self.slide.levels[level].absent:
            assert not any(start <= index < stop for index in indices), "an absent tile was asked for"
        for index in indices:
            if index in self._missing:
                raise FrameMissing(f"Frame {index + 1} is not there.")
            data = self._frames[level][index].tobytes()
            yield EncodedFrame(index, data[:-1] if index in self._damaged else data, EXPLICIT_LITTLE_ENDIAN)

    def header(self, level: int) -> None:
        """Return None: an array is no DICOM."""
        del level

    def icc_profile(self, level: int) -> bytes | None:
        """Return the profile that was given."""
        del level
        return self._profile

    def close(self) -> Traffic:
        """Remember that it was closed."""
        self.closed = True
        return Traffic(len(self.requests))
