"""A stored tile becomes a frame: a JPEG of its own, a JPEG 2000 codestream, or RGB bytes."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from connectors.tiff.image import Packing, TiffImage
from models.domain.errors import FrameUndecodable
from models.domain.patch import EncodedFrame
from models.domain.slide import Level
from models.imaging.decode import decode_frame
from models.imaging.syntax import EXPLICIT_LITTLE_ENDIAN, JPEG_2000, JPEG_BASELINE, jpeg_segments

Data = bytes | memoryview

_START = b"\xff\xd8"
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # version 100, no flags, no colour transform
_ADOBE_YCBCR = _ADOBE_RGB[:-1] + b"\x01"
_APP0, _APP14, _SCAN = 0xE0, 0xEE, 0xDA
_FRAME_HEADERS = {0xC0, 0xC1, 0xC2}
_UNPACK: Mapping[Packing, Callable[..., bytes | bytearray]] = {
    # Each stops at `out` bytes: a small tile that unpacks to gigabytes costs nothing.
    Packing.LZW: imagecodecs.lzw_decode,
    Packing.DEFLATE: imagecodecs.zlib_decode,
    Packing.PACKBITS: imagecodecs.packbits_decode,
    Packing.ZSTD: imagecodecs.zstd_decode,
}


def photometric_of(image: TiffImage) -> str:
    """Return the Photometric Interpretation (DICOM (0028,0004)) of the frames that `frame_of` gives."""
    return "YBR_FULL_422" if image.packing is Packing.JPEG and image.ycbcr else "RGB"


def frame_of(image: TiffImage, tile: int, data: Data) -> EncodedFrame:
    """Return a tile as a frame.

    Parameters
    ----------
    image : TiffImage
    tile : int
        0-based, row by row.
    data : bytes-like
        As it is stored.

    Raises
    ------
    FrameUndecodable
        It is damaged, or of another size than the image says.
    """
    rows = image.rows_of(tile)
    if image.packing is Packing.JPEG:
        jpeg = _standalone(image, tile, data)
        if rows == image.tile_height_px:
            return EncodedFrame(tile, jpeg, JPEG_BASELINE)
        pixels = decode_frame(EncodedFrame(tile, jpeg, JPEG_BASELINE), _last_strip(image, rows))
        return _native(image, tile, pixels)
    if image.packing in {Packing.JPEG_2000, Packing.JPEG_2000_YCC}:
        if image.packing is Packing.JPEG_2000 and rows == image.tile_height_px:
            return EncodedFrame(tile, data, JPEG_2000)
        pixels = decode_frame(EncodedFrame(tile, data, JPEG_2000), _last_strip(image, rows))
        if image.packing is Packing.JPEG_2000_YCC:
            pixels = np.asarray(cv2.cvtColor(pixels[..., (0, 2, 1)], cv2.COLOR_YCrCb2RGB), np.uint8)
        return _native(image, tile, pixels)
    return _native(image, tile, _unpacked(image, tile, rows, data))


def _damaged(image: TiffImage, tile: int, why: str) -> FrameUndecodable:
    return FrameUndecodable(f"Tile {tile + 1} of {image.name} ({image.packing.value}) {why}.")


def _last_strip(image: TiffImage, rows: int) -> Level:
    return Level(image.width_px, rows, image.tile_width_px, rows, None, photometric_of(image), ())


def _native(image: TiffImage, tile: int, pixels: NDArray[np.uint8]) -> EncodedFrame:
    """Return pixels as a native frame; what the last strip lacks lies below the image and is never looked at."""
    lacking = image.tile_height_px - len(pixels)
    whole = np.pad(pixels, ((0, lacking), (0, 0), (0, 0))) if lacking else pixels
    return EncodedFrame(tile, whole.tobytes(), EXPLICIT_LITTLE_ENDIAN, photometric="RGB")


def _unpacked(image: TiffImage, tile: int, rows: int, data: Data) -> NDArray[np.uint8]:
    size = rows * image.tile_width_px * 3
    native: Data | bytearray = data
    if image.packing is not Packing.NATIVE:
        try:
            native = _UNPACK[image.packing](data, out=size + 1)
        except (RuntimeError, ValueError) as exc:
            raise _damaged(image, tile, "does not unpack, or to more than its pixels") from exc
    if len(native) != size:
        raise _damaged(image, tile, f"has {len(native)} bytes where its pixels take {size}")
    pixels = np.frombuffer(native, np.uint8).reshape(rows, image.tile_width_px, 3)
    if image.predictor and image.packing is not Packing.NATIVE:
        return np.asarray(imagecodecs.delta_decode(pixels, axis=1), np.uint8)
    return pixels


def _standalone(image: TiffImage, tile: int, data: Data) -> bytes:
    """Return a tile as a JPEG file that says by itself what it is.

    The tables that the tiles share go in front (TIFF Technical Note 2), after an Adobe mark that says whether the
    samples are RGB or YCbCr: without it, decoders take them for YCbCr (Aperio's are RGB).
    """
    if bytes(data[:2]) != _START or (image.tables and not image.tables.startswith(_START)):
        raise _damaged(image, tile, "is no JPEG")
    shared, own = jpeg_segments(image.tables), jpeg_segments(data)
    for marker, start, _ in own:
        if marker in _FRAME_HEADERS:
            high, wide = (int.from_bytes(data[at : at + 2], "big") for at in (start + 1, start + 3))
            if (wide, high) != (image.tile_width_px, image.rows_of(tile)):
                raise _damaged(image, tile, f"is a JPEG of {wide} x {high} pixels")
    if not own or own[-1][0] != _SCAN:
        raise _damaged(image, tile, "is a JPEG without a scan")
    marks = [(marker, bytes(image.tables[start:stop])) for marker, start, stop in shared]
    marks += [(marker, bytes(data[start:stop])) for marker, start, stop in own]
    head = bytearray(_START + (_ADOBE_YCBCR if _is_ycbcr(marks, directory=image.ycbcr) else _ADOBE_RGB))
    for marker, content in marks:
        if marker not in {_APP0, _APP14, _SCAN}:
            head += bytes((0xFF, marker)) + (len(content) + 2).to_bytes(2, "big") + content
    return bytes(head) + bytes(data[own[-1][1] - 4 :])


def _is_ycbcr(marks: Sequence[tuple[int, bytes]], *, directory: bool) -> bool:
    """Whether a JPEG's samples are YCbCr: by its own marks, which its encoder set, else as the directory says.

    Writers that store ordinary JPEG files as tiles are careless about PhotometricInterpretation; libjpeg writes JFIF's
    mark for YCbCr only, and Adobe's with what it did. tifffile reads them in this order, too.
    """
    by_ids = None
    jfif = False
    for marker, content in marks:
        if marker == _APP14 and content.startswith(b"Adobe") and len(content) >= 12:
            return content[11] != 0
        jfif = jfif or (marker == _APP0 and content.startswith(b"JFIF"))
        if marker in _FRAME_HEADERS and content[6::3][:3] == b"RGB":
            by_ids = False
    if jfif:
        return True
    return directory if by_ids is None else by_ids
