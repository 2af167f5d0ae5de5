"""Every way in which tiles are stored, pixel for pixel against tifffile; and tiles that lie about themselves."""

import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from connectors.ranges.local import LocalFile
from connectors.ranges.reader import ByteRanges
from connectors.tiff.directory import read_directories
from connectors.tiff.image import Packing, TiffImage, read_image
from connectors.tiff.tiles import frame_of, photometric_of
from models.domain.errors import FrameUndecodable
from models.domain.slide import Level
from models.imaging.decode import decode_frame
from tests.services.tiffs import (
    KINDS,
    Kind,
    Pixels,
    assembled,
    halved,
    open_tiff,
    pillow_jpeg,
    read_level,
    texture,
    write_pyramid,
    ycc_codestream,
)

_PIXELS = texture(160, 128)  # one tile


@pytest.fixture
def image_of(tmp_path: Path) -> Iterator[Callable[[str], TiffImage]]:
    """Read the image of a file with a single tile, by its kind."""
    opened: list[ByteRanges] = []

    def read(kind: str) -> TiffImage:
        path = write_pyramid(tmp_path / "one.tif", [_PIXELS], KINDS[kind])
        opened.append(ByteRanges(LocalFile(path)))
        return read_image(read_directories(opened[-1])[0][0], "one.tif")

    yield read
    for one in opened:
        one.close()


def _decoded(image: TiffImage, data: bytes) -> Pixels:
    level = Level(160, 128, 160, 128, None, photometric_of(image), ())
    return decode_frame(frame_of(image, 0, data), level)


def _jpeg(pixels: Pixels) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "bomb"),
    [
        ("deflate", lambda: zlib.compress(bytes(1 << 28), 9)),
        ("zstd", lambda: imagecodecs.zstd_encode(bytes(1 << 28))),
        ("lzw", lambda: imagecodecs.lzw_encode(bytes(1 << 24))),
        ("packbits", lambda: b"\x81\x00" * (1 << 20)),
        ("jpeg-rgb", lambda: _jpeg(np.zeros((8000, 8000, 3), np.uint8))),
        ("jpeg2000", lambda: imagecodecs.jpeg2k_encode(np.zeros((4000, 4000, 3), np.uint8), level=0)),
    ],
)
def test_bomb(kind: str, bomb: Callable[[], bytes], image_of: Callable[[str], TiffImage]) -> None:
    """A small tile that unpacks to very much is refused, and never unpacked."""
    image, data = image_of(kind), bomb()
    tracemalloc.start()
    try:
        with pytest.raises(FrameUndecodable):
            _decoded(image, data)
        assert tracemalloc.get_traced_memory()[1] < 8 * image.tile_bytes + len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_tile(kind: str, image_of: Callable[[str], TiffImage], tmp_path: Path) -> None:
    """A tile that is cut off, or is something else altogether, is an error; never other pixels."""
    image = image_of(kind)
    start, count = int(image.offsets[0]), int(image.counts[0])
    data = (tmp_path / "one.tif").read_bytes()[start : start + count]
    assert _decoded(image, data).shape == (128, 160, 3)
    for broken in (data[: count // 2], data[:3], b"garbage" * 20, b""):
        with pytest.raises(FrameUndecodable):
            _decoded(image, broken)


@pytest.mark.parametrize("kind", ["jpeg-ycbcr", "jpeg-rgb-tables", "jpeg2000"])
def test_tile_of_another_size(kind: str, image_of: Callable[[str], TiffImage]) -> None:
    """A tile that is a whole picture of another size is refused."""
    small = _PIXELS[:64]
    data = imagecodecs.jpeg2k_encode(small, level=0) if kind == "jpeg2000" else pillow_jpeg(0, rgb=True)(small)
    with pytest.raises(FrameUndecodable):
        _decoded(image_of(kind), data)


def test_tables_that_are_no_tables(image_of: Callable[[str], TiffImage]) -> None:
    """JPEGTables that are no JPEG make no pixels."""
    image = replace(image_of("jpeg-rgb-tables"), tables=b"no tables")
    with pytest.raises(FrameUndecodable):
        _decoded(image, pillow_jpeg(2, rgb=True)(_PIXELS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["pages", "below"])
def test_same_pixels_as_tifffile(kind: str, place: str, tmp_path: Path) -> None:
    """Each kind gives tifffile's pixels to the bit: as pages, and in SubIFDs of a big-endian BigTIFF.

    Lossless ones give back what was written.
    """
    finest, below = texture(700, 530), place == "below"
    levels = [finest, halved(finest), halved(halved(finest))]
    more = {"bigtiff": True, "byteorder": ">"} if below else {}
    path = write_pyramid(tmp_path / "slide.tif", levels, KINDS[kind], below=below, **more)
    source = open_tiff(path)
    assert [(level.width_px, level.height_px) for level in source.slide.levels] == [(700, 530), (350, 265), (175, 132)]
    for number, pixels in enumerate(levels):
        ours = assembled(source, number)
        page, sub = (0, number - 1 if number else None) if below else (number, None)
        np.testing.assert_array_equal(ours, read_level(path, page, sub))
        if not kind.startswith("jpeg-"):
            np.testing.assert_array_equal(ours, pixels)
    source.close()


def test_aperio_jpeg_2000_in_ycbcr(tmp_path: Path) -> None:
    """Codestreams of YCbCr samples (33003) come out as RGB, within the rounding of the two conversions."""
    kind = Kind({"compression": 33003}, ycc_codestream)
    pixels = texture(300, 250)
    source = open_tiff(write_pyramid(tmp_path / "slide.svs", [pixels], kind))
    assert np.abs(assembled(source, 0).astype(int) - pixels).max() <= 2
    source.close()


def test_strips(tmp_path: Path) -> None:
    """A pyramid in strips is read, the last and shorter strip included, compressed in any way."""
    pixels = texture(300, 211)
    for kind in ({"compression": None}, {"compression": "deflate", "predictor": True}, {"compression": "jpeg"}):
        path = write_pyramid(tmp_path / "strips.tif", [pixels], Kind(dict(kind)), tile=None, rowsperstrip=48)
        source = open_tiff(path)
        assert source.slide.levels[0].frame_width_px == 300
        assert source.slide.levels[0].frame_height_px == 48
        np.testing.assert_array_equal(assembled(source, 0), read_level(path, 0))
        source.close()


@pytest.mark.parametrize(
    ("encode", "photometric"),
    [
        (_jpeg, "RGB"),  # JFIF: YCbCr, whatever the directory says
        (_jpeg, "YCbCr"),
        (pillow_jpeg(0, rgb=True), "YCbCr"),  # Adobe: RGB
        (pillow_jpeg(0, rgb=True), "RGB"),
    ],
)
def test_marks_of_a_jpeg_are_believed(
    encode: Callable[[Pixels], bytes], photometric: str, image_of: Callable[[str], TiffImage]
) -> None:
    """A JPEG that says what its samples are is decoded as it says, also if the directory says otherwise."""
    image = replace(image_of("jpeg-rgb"), ycbcr=photometric == "YCbCr")
    assert np.abs(_decoded(image, encode(_PIXELS)).astype(int) - _PIXELS).mean() < 8


@pytest.mark.parametrize("photometric", ["RGB", "YCbCr"])
def test_jpeg_without_marks_is_what_the_directory_says(photometric: str, image_of: Callable[[str], TiffImage]) -> None:
    """Component ids 1, 2, 3 and no mark, as Aperio writes RGB: the directory decides."""
    data = bytearray(imagecodecs.jpeg8_encode(_PIXELS, level=95, colorspace="RGB", outcolorspace="RGB"))
    if b"Adobe" in data:
        at = data.index(b"\xff\xee")
        del data[at : at + 16]
    frame = data.index(b"\xff\xc0")
    scan = data.index(b"\xff\xda")
    for number in range(3):
        data[frame + 10 + 3 * number] = number + 1
        data[scan + 5 + 2 * number] = number + 1
    image = replace(image_of("jpeg-rgb"), ycbcr=photometric == "YCbCr")
    as_ycc = cv2.cvtColor(np.ascontiguousarray(_PIXELS[..., (0, 2, 1)]), cv2.COLOR_YCrCb2RGB)
    expected = as_ycc if photometric == "YCbCr" else _PIXELS
    assert image.packing is Packing.JPEG
    assert np.abs(_decoded(image, bytes(data)).astype(int) - expected).mean() < 4
