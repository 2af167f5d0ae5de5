"""A slide in memory, cut into native frames: small, exact, and it remembers which frames were asked for."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from connectors.protocols import Traffic
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
    """

    def __init__(self, slide: Slide, *images: NDArray[np.uint8]) -> None:
        self.slide = slide
        self._frames = [frames_from(image, level) for image, level in zip(images, slide.levels, strict=True)]
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
        for index in indices:
            yield EncodedFrame(index, self._frames[level][index].tobytes(), EXPLICIT_LITTLE_ENDIAN)

    def header(self, level: int) -> None:
        """Return None: an array is no DICOM."""
        del level

    def icc_profile(self, level: int) -> None:
        """Return None: an array has no colour space."""
        del level

    def close(self) -> Traffic:
        """Remember that it was closed."""
        self.closed = True
        return Traffic(len(self.requests))
