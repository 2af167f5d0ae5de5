"""One image of a TIFF file: its size, its tiles, and how they are compressed."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from connectors.tiff.directory import Directory
from models.domain.errors import PixelsUnsupported, SourceUnreadable

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 256, 257, 258, 259, 262, 277
_ROWS_A_STRIP, _PLANES, _PREDICTOR, _FORMAT = 278, 284, 317, 339
_TILE_WIDTH, _TILE_HEIGHT, _JPEG_TABLES = 322, 323, 347
_TILES, _STRIPS = (324, 325), (273, 279)  # offsets, byte counts

_MOST_SIDE_PX = 1 << 21  # as for DICOM
_MOST_TILE_PX = 1 << 24
_MOST_STRIPPED_PX = 64_000_000  # an image without tiles is an exception; a large one would be read in vain
_MOST_TABLES = 1 << 16


class Packing(StrEnum):
    """How a tile is compressed, and so what reads it."""

    NATIVE = "uncompressed"
    LZW = "LZW"
    DEFLATE = "Deflate"
    PACKBITS = "PackBits"
    ZSTD = "Zstandard"
    JPEG = "JPEG"
    JPEG_2000 = "JPEG 2000"
    JPEG_2000_YCC = "JPEG 2000 of YCbCr"


# TIFF 6.0, its technical notes, and what libtiff and Aperio registered. The three numbers of JPEG 2000: Aperio's with
# YCbCr and with RGB samples, and the one that the others use.
_PACKINGS = {
    1: Packing.NATIVE, 5: Packing.LZW, 7: Packing.JPEG, 8: Packing.DEFLATE, 32946: Packing.DEFLATE,
    32773: Packing.PACKBITS, 33003: Packing.JPEG_2000_YCC, 33005: Packing.JPEG_2000, 34712: Packing.JPEG_2000,
    50000: Packing.ZSTD,
}  # fmt: skip
_RGB, _YCBCR = 2, 6


@dataclass(frozen=True, eq=False, slots=True)
class TiffImage:
    """An image whose tiles can be read; a strip is a tile of full width.

    Parameters
    ----------
    name : str
        The file's, for messages.
    width_px, height_px, tile_width_px, tile_height_px : int
    tiled : bool
        Else strips.
    packing : Packing
    ycbcr : bool
        The samples of a JPEG are YCbCr (PhotometricInterpretation 6); else RGB.
    predictor : bool
        Rows are stored as differences (TIFF 6.0 section 14).
    tables : bytes
        JPEGTables, a JPEG file without an image; empty if each tile has its own.
    offsets, counts : int64 array, shape (tiles,)
        Where each tile is, in bytes, row by row.
    """

    name: str
    width_px: int
    height_px: int
    tile_width_px: int
    tile_height_px: int
    tiled: bool
    packing: Packing
    ycbcr: bool
    predictor: bool
    tables: bytes
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def tile_bytes(self) -> int:
        """Bytes of an uncompressed tile."""
        return self.tile_width_px * self.tile_height_px * 3

    @property
    def columns(self) -> int:
        """Tiles a row."""
        return -(-self.width_px // self.tile_width_px)

    def rows_of(self, tile: int) -> int:
        """Return the rows of pixels that a tile holds: all, but for the last strip (TIFF 6.0 page 39)."""
        if self.tiled:
            return self.tile_height_px
        return min(self.tile_height_px, self.height_px - tile // self.columns * self.tile_height_px)


def size_of(directory: Directory) -> tuple[int, int]:
    """Return width and height in pixels."""
    return directory.number(_WIDTH, 0), directory.number(_HEIGHT, 0)


def is_tiled(directory: Directory) -> bool:
    """Whether an image is stored in tiles."""
    return _TILES[0] in directory


def read_image(directory: Directory, name: str) -> TiffImage:
    """Return the image of a directory.

    Raises
    ------
    PixelsUnsupported
        Its pixels are of a kind that is not embedded.
    SourceUnreadable
        It contradicts itself.
    """
    width, height = size_of(directory)
    if not (0 < width <= _MOST_SIDE_PX and 0 < height <= _MOST_SIDE_PX):
        raise SourceUnreadable(f"{name} is damaged: it claims to have {width} x {height} pixels.")
    tiled = is_tiled(directory)
    if not tiled and width * height > _MOST_STRIPPED_PX:
        raise PixelsUnsupported(
            f"{name} has {width} x {height} pixels and no tiles: convert it to a tiled, pyramidal TIFF or to DICOM."
        )
    strip = min(directory.number(_ROWS_A_STRIP, height), height)
    tile = (directory.number(_TILE_WIDTH, 0), directory.number(_TILE_HEIGHT, 0)) if tiled else (width, strip)
    if min(tile) < 1 or (tiled and tile[0] * tile[1] > _MOST_TILE_PX):
        raise SourceUnreadable(f"{name} is damaged, or its tiles of {tile[0]} x {tile[1]} pixels are absurd.")
    packing, ycbcr = _pixels(directory, name)
    offsets, counts = (directory.numbers(tag).astype(np.int64) for tag in (_TILES if tiled else _STRIPS))
    expected = -(-width // tile[0]) * -(-height // tile[1])
    if len(offsets) != expected or len(counts) != expected:
        raise SourceUnreadable(
            f"{name} is damaged: it lists {len(offsets)} offsets and {len(counts)} lengths for {expected} tiles."
        )
    predictor, tables = directory.number(_PREDICTOR, 1) == 2, directory.raw(_JPEG_TABLES, _MOST_TABLES)
    return TiffImage(name, width, height, *tile, tiled, packing, ycbcr, predictor, tables, offsets, counts)


def _pixels(directory: Directory, name: str) -> tuple[Packing, bool]:
    """Return packing and colour of pixels that can be read, or refuse them."""
    samples, bits = directory.number(_SAMPLES, 1), set(directory.numbers(_BITS).tolist())
    if samples != 3 or bits != {8} or directory.number(_FORMAT, 1) != 1:
        depth = "/".join(str(one) for one in sorted(bits)) or "1"
        raise PixelsUnsupported(f"{name} has {samples} samples of {depth} bit a pixel; only 8-bit RGB is embedded.")
    if directory.number(_PLANES, 1) != 1:
        raise PixelsUnsupported(f"{name} keeps red, green and blue in separate planes: convert it to interleaved RGB.")
    code, photometric = directory.number(_COMPRESSION, 1), directory.number(_PHOTOMETRIC, -1)
    packing = _PACKINGS.get(code)
    if packing is None:
        raise PixelsUnsupported(f"{name} is compressed in a way (TIFF compression {code}) that Slidewire cannot read.")
    if packing is Packing.JPEG_2000 and photometric == _YCBCR and code != 33005:
        packing = Packing.JPEG_2000_YCC
    lossy = packing in {Packing.JPEG, Packing.JPEG_2000, Packing.JPEG_2000_YCC}
    if photometric != _RGB and not (photometric == _YCBCR and lossy):
        raise PixelsUnsupported(
            f"{name} is in a colour model (TIFF PhotometricInterpretation {photometric}) that is not embedded."
        )
    if directory.number(_PREDICTOR, 1) not in {1, 2}:
        raise PixelsUnsupported(f"{name} uses a predictor that is not for 8-bit pixels.")
    return packing, photometric == _YCBCR
