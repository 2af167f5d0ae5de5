"""Writes RGB pixels as a DICOM whole-slide pyramid: one TILED_FULL instance a level, baseline JPEG tiles.

The pixels may be laid n x n side by side, which makes a slide of any size from a small one. They pass through in bands
of one tile row, each level averaging the one above it, so that the large slide never lies in memory uncompressed.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, encapsulate_extended

from models.domain.errors import OutputUnwritable, PixelsUnsupported, RequestError
from worker.demo.header import LevelShape, level_dataset

_BASIC_TABLE_LIMIT: Final = 2**32 - 1  # the Basic Offset Table counts in 32 bits (PS3.5 A.4)
_WHITE: Final = 255


@dataclass(frozen=True, slots=True)
class PyramidOptions:
    """How a pyramid is written.

    Parameters
    ----------
    frame_px : int
        Side of a tile, even (chroma is sampled in pairs).
    quality : int
        JPEG quality, 1 to 100.
    smallest_px : int
        Levels are halved until the longer side is at most this.
    extended_offsets : bool
        Write Extended Offset Tables instead of basic ones; done anyway for a level beyond 4 GiB.
    threads : int
        Threads that encode.
    """

    frame_px: int = 256
    quality: int = 90
    smallest_px: int = 256
    extended_offsets: bool = False
    threads: int = 2

    def __post_init__(self) -> None:
        if self.frame_px < 16 or self.frame_px % 2:
            raise RequestError(f"Tiles of {self.frame_px} px: give an even side of 16 px or more.")
        if not 1 <= self.quality <= 100 or self.smallest_px < 1 or self.threads < 1:
            raise RequestError("A pyramid needs a quality of 1 to 100, a smallest level and threads of 1 or more.")


def write_pyramid(
    pixels: NDArray[np.uint8],
    spacing_um: float,
    folder: Path,
    *,
    tiles: int = 1,
    options: PyramidOptions | None = None,
) -> tuple[Path, ...]:
    """Write a VL Whole Slide Microscopy series (PS3.3 A.32.8), one file a level.

    The same arguments give the same bytes: UIDs are derived from them, dates are fixed, the patient is made up.

    Parameters
    ----------
    pixels : uint8 array, shape (H, W, 3)
        RGB.
    spacing_um : float
        Micrometres per pixel, the same in x and y.
    folder : Path
        Receives ``level-0.dcm`` (the finest), ``level-1.dcm`` and so on; made if missing.
    tiles : int
        Lay the pixels `tiles` x `tiles` side by side.
    options : PyramidOptions or None
        None: the defaults.

    Returns
    -------
    tuple of Path
        The files, finest level first.

    Raises
    ------
    PixelsUnsupported
        `pixels` is not 8-bit RGB.
    RequestError
        `tiles` or `spacing_um` makes no sense.
    OutputUnwritable
        `folder` does not take the files.
    """
    how = options or PyramidOptions()
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise PixelsUnsupported(f"A pyramid is made of 8-bit RGB, not of {pixels.dtype} {pixels.shape}.")
    if tiles < 1 or not 0.01 <= spacing_um <= 1000:
        raise RequestError(f"{tiles} x {tiles} tiles at {spacing_um} um/px: give 1 or more, and 0.01 to 1000.")
    seed = _seed(pixels, spacing_um, tiles, how)
    levels = _encode(pixels, tiles, how)
    shapes = [LevelShape(level.width, level.height, spacing_um * 2**n) for n, level in enumerate(levels)]
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, level in enumerate(levels):
            dataset = level_dataset(seed, number, shapes[number], frame_px=how.frame_px, frames=len(level.frames))
            _set_pixels(dataset, level, extended=how.extended_offsets)
            path = folder / f"level-{number}.dcm"
            dataset.save_as(path, enforce_file_format=True)
            written.append(path)
            level.frames.clear()
    except OSError as exc:
        raise OutputUnwritable(f"The pyramid cannot be written to {folder}: {exc.strerror or exc}.") from exc
    return tuple(written)


@dataclass(slots=True)
class _Level:
    """One level while it is encoded; `rows` waits for a full band or for its turn to be averaged."""

    width: int
    height: int
    rows: NDArray[np.uint8]
    frames: list[bytes] = field(default_factory=list)


def _seed(pixels: NDArray[np.uint8], spacing_um: float, tiles: int, how: PyramidOptions) -> str:
    """Return what tells this series from any other; threads do not change a byte, so they do not count."""
    state = hashlib.sha256(np.ascontiguousarray(pixels).data)
    encoding = (how.frame_px, how.quality, how.smallest_px, how.extended_offsets)
    state.update(repr((pixels.shape, spacing_um, tiles, encoding)).encode())
    return state.hexdigest()


def _encode(pixels: NDArray[np.uint8], tiles: int, how: PyramidOptions) -> list[_Level]:
    """Encode every level in one pass over the finest."""
    height, width = pixels.shape[0] * tiles, pixels.shape[1] * tiles
    levels = [_Level(width, height, _no_rows(width))]
    # A level of one pixel has no half; neither has a strip one pixel wide.
    while max(width, height) > how.smallest_px and min(width, height) > 1:
        width, height = width // 2, height // 2
        levels.append(_Level(width, height, _no_rows(width)))
    with ThreadPoolExecutor(how.threads) as pool:
        for band in _bands(pixels, tiles, how.frame_px):
            _push(levels, band, how, pool)
        for number, level in enumerate(levels):
            # Less than a tile row is left of each level; averaging it feeds the next, so the order counts.
            if len(level.rows):
                rest, level.rows = level.rows, _no_rows(level.width)
                _finish(levels[number:], rest, how, pool)
    return levels


def _no_rows(width: int) -> NDArray[np.uint8]:
    return np.empty((0, width, 3), dtype=np.uint8)


def _bands(pixels: NDArray[np.uint8], tiles: int, frame_px: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the rows of the n x n mosaic, `frame_px` at a time; the last band may be lower."""
    height = pixels.shape[0]
    for top in range(0, height * tiles, frame_px):
        rows = np.arange(top, min(top + frame_px, height * tiles)) % height
        yield np.tile(pixels[rows], (1, tiles, 1))


def _push(levels: list[_Level], rows: NDArray[np.uint8], how: PyramidOptions, pool: ThreadPoolExecutor) -> None:
    """Add rows to the first of `levels`; encode full bands and hand their averages down."""
    level = levels[0]
    level.rows = np.concatenate([level.rows, rows])
    while len(level.rows) >= how.frame_px:
        band, level.rows = level.rows[: how.frame_px], level.rows[how.frame_px :]
        _finish(levels, band, how, pool)


def _finish(levels: list[_Level], band: NDArray[np.uint8], how: PyramidOptions, pool: ThreadPoolExecutor) -> None:
    """Encode one band of at most a tile row, and push its average one level down."""
    tiles = list(_tiles(band, how.frame_px))
    levels[0].frames.extend(pool.map(_jpeg, tiles, [how.quality] * len(tiles)))
    if len(levels) > 1 and len(band) > 1:
        _push(levels[1:], _halve(band), how, pool)


def _halve(band: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average blocks of 2 x 2; an odd last row or column falls away."""
    height, width = band.shape[0] // 2, band.shape[1] // 2
    even = np.ascontiguousarray(band[: 2 * height, : 2 * width])
    halved = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(halved, dtype=np.uint8)


def _tiles(band: NDArray[np.uint8], frame_px: int) -> Iterator[NDArray[np.uint8]]:
    """Cut a band into tiles from left to right; those at the edge are filled up with white."""
    for left in range(0, band.shape[1], frame_px):
        tile = band[:, left : left + frame_px]
        if tile.shape[:2] != (frame_px, frame_px):
            whole = np.full((frame_px, frame_px, 3), _WHITE, dtype=np.uint8)
            whole[: tile.shape[0], : tile.shape[1]] = tile
            tile = whole
        yield tile


def _jpeg(tile: NDArray[np.uint8], quality: int) -> bytes:
    """Encode RGB as baseline JPEG with 4:2:2 chroma, as YBR_FULL_422 says (PS3.3 C.7.6.3.1.2)."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422]
    bgr = cv2.cvtColor(np.ascontiguousarray(tile), cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
    if not done:
        raise PixelsUnsupported("OpenCV could not encode a tile as JPEG: reinstall opencv-python-headless.")
    return bytes(data)


def _set_pixels(dataset: pydicom.Dataset, level: _Level, *, extended: bool) -> None:
    """Encapsulate the frames (PS3.5 A.4) and state by how much they shrank."""
    size = sum(len(frame) for frame in level.frames)
    raw = len(level.frames) * dataset.Rows * dataset.Columns * 3
    dataset.LossyImageCompressionRatio = f"{raw / size:.4f}"
    if extended or size + 16 * len(level.frames) > _BASIC_TABLE_LIMIT:
        dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(
            level.frames
        )
    else:
        dataset.PixelData = encapsulate(level.frames, has_bot=True)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
