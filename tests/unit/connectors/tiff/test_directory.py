"""TIFF directories that are cut off, point in circles or claim the absurd, and those that are fine."""

import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile

from connectors.ranges.local import LocalFile
from connectors.ranges.reader import ByteRanges
from connectors.tiff.directory import Directory, read_directories
from models.domain.errors import NotASlide, SlidewireError, SourceUnreadable
from models.imaging.decode import decode_frame
from tests.services.tiffs import KINDS, halved, open_tiff, texture, write_pyramid

_PIXELS = texture(300, 200)


def _read(path: Path, content: bytes) -> list[list[Directory]]:
    path.write_bytes(content)
    ranges = ByteRanges(LocalFile(path))
    try:
        return read_directories(ranges)
    finally:
        ranges.close()


def _classic(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Return a little-endian TIFF with one directory at byte 8."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + table + struct.pack("<I", following)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"II",
        b"\x89PNG\r\n\x1a\n" + bytes(20),
        b"II\x2b\x00\x08\x00\x00\x00",
        b"MM\x00\x29" + bytes(20),
        bytes(100),
    ],
)
def test_no_tiff(content: bytes, tmp_path: Path) -> None:
    """Anything else under the name of a TIFF file is said to be no TIFF."""
    with pytest.raises(NotASlide):
        _read(tmp_path / "x.tif", content)


@pytest.mark.parametrize(
    "content",
    [
        _classic(following=8),  # the directory follows itself
        _classic((330, 4, 1, 8)),  # it is its own sub-directory
        _classic(following=1 << 31),
        _classic((330, 4, 1 << 31, 0)),  # sub-directories without end
        _classic((330, 4, 1 << 20, 8)),
        struct.pack("<2sHIH", b"II", 42, 8, 65535),
        struct.pack("<2sHI", b"II", 42, 1 << 30),
    ],
)
def test_damaged(content: bytes, tmp_path: Path) -> None:
    """Circles, places outside the file and absurd numbers are damage."""
    with pytest.raises(SourceUnreadable):
        _read(tmp_path / "x.tif", content)


def test_many_directories(tmp_path: Path) -> None:
    """A file of more directories than any slide has is given up before they are all read."""
    count = 5000
    content = struct.pack("<2sHI", b"II", 42, 8)
    for number in range(count):
        content += struct.pack("<HI", 0, 8 + 6 * (number + 1))
    with pytest.raises(SourceUnreadable):
        _read(tmp_path / "x.tif", content)


def test_empty(tmp_path: Path) -> None:
    """A TIFF file without a directory holds no slide."""
    with pytest.raises(NotASlide):
        _read(tmp_path / "x.tif", struct.pack("<2sHI", b"II", 42, 0))


@pytest.mark.parametrize(("kind", "count"), [(16, 1 << 30), (1, 1 << 26)])
def test_a_value_with_too_many_numbers(kind: int, count: int, tmp_path: Path) -> None:
    """A tag that claims more numbers than a level may have tiles is refused, not read, even if the file has them."""
    path = tmp_path / "x.tif"
    path.write_bytes(_classic((324, kind, count, 8)))
    os.truncate(path, 1 << 27)  # takes no room on the disk
    ranges = ByteRanges(LocalFile(path))
    directory = read_directories(ranges)[0][0]
    with pytest.raises(SourceUnreadable):
        directory.numbers(324)
    assert ranges.close().bytes_read <= 65536


@pytest.mark.parametrize("size", ["classic", "big"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_same_tags_as_tifffile(size: str, byteorder: str, tmp_path: Path) -> None:
    """Every numeric tag has tifffile's value, in both byte orders and both sizes of TIFF."""
    levels = [_PIXELS, halved(_PIXELS)]
    options = {"bigtiff": size == "big", "byteorder": byteorder, "resolution": (4000, 2000), "resolutionunit": 3}
    path = write_pyramid(tmp_path / "x.tif", levels, KINDS["lzw-predictor"], below=True, **options)
    ranges = ByteRanges(LocalFile(path))
    images = read_directories(ranges)
    assert [len(parts) for parts in images] == [2]
    with tifffile.TiffFile(path) as file:
        checked = 0
        for tag in file.pages[0].tags:  # type: ignore[union-attr]
            if isinstance(tag.value, str):
                assert images[0][0].text(tag.code) == tag.value
            elif tag.dtype == 5:
                assert images[0][0].numbers(tag.code)[0] == tag.value[0] / tag.value[1]
            else:
                np.testing.assert_array_equal(images[0][0].numbers(tag.code), np.ravel(tag.value))
            checked += 1
        assert checked > 12
    ranges.close()


def test_every_truncation(tmp_path: Path) -> None:
    """A file cut off anywhere gives an error of ours, or a slide whose missing tiles are named, never other pixels."""
    path = write_pyramid(tmp_path / "whole.tif", [_PIXELS], KINDS["jpeg-ycbcr-tables"])
    whole = path.read_bytes()
    for size in [*range(0, 700, 7), *range(700, len(whole), 997)]:
        path.write_bytes(whole[:size])
        try:
            source = open_tiff(path)
        except SlidewireError:
            continue
        assert source.slide.levels[0].problem
        source.close()


def test_any_damage(tmp_path: Path) -> None:
    """Bytes flipped anywhere in the structure lead to our errors only, and in bounded time."""
    path = write_pyramid(tmp_path / "x.tif", [_PIXELS, halved(_PIXELS)], KINDS["deflate-predictor"], below=True)
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        structure = min(file.pages[0].dataoffsets)  # type: ignore[union-attr]
    chance = random.Random(4)
    opened = 0
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 4])):
            damaged[chance.randrange(structure)] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            source = open_tiff(path)
        except SlidewireError:
            continue
        opened += 1
        level = source.slide.levels[0]
        try:
            if not level.problem and not level.absent:
                for frame in source.frames(0, [0]):
                    decode_frame(frame, level)
        except SlidewireError:
            pass
        finally:
            source.close()
    assert 0 < opened < 1500
