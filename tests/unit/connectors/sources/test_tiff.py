"""The TIFF source: lost and sparse tiles, files that change, identity, profiles, and what is read for it."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from connectors.protocols import Source, Traffic
from models.domain.errors import FrameMissing, SourceUnreadable
from models.domain.slide import Slide
from tests.services.tiffs import (
    KINDS,
    Kind,
    Pixels,
    assembled,
    halved,
    open_tiff,
    pillow_jpeg,
    texture,
    tiles_of,
    write_level,
    write_pyramid,
    write_svs,
)

_PIXELS = texture(700, 530)
_TILE = (128, 160)  # five columns, five rows


def _slide(path: Path) -> Slide:
    source = open_tiff(path)
    source.close()
    return source.slide


def _overwrite(path: Path, page: int, tag: int, change: Callable[[list[int]], list[int]]) -> None:
    with tifffile.TiffFile(path, mode="r+") as file:
        found: Any = file.pages[page]
        found.tags[tag].overwrite(change(list(found.tags[tag].value)))


@pytest.mark.parametrize(
    ("tag", "change", "said"),
    [
        (324, lambda offsets: [*offsets[:3], 1 << 31, *offsets[4:]], "1 of its 25 tiles"),
        (325, lambda counts: [*counts[:3], 1 << 30, *counts[4:]], "1 of its 25 tiles"),
    ],
)
def test_tiles_outside_the_file(tag: int, change: Callable[[list[int]], list[int]], said: str, tmp_path: Path) -> None:
    """A level with tiles beyond the end of the file, or of a gigabyte, says so and is not read."""
    path = write_pyramid(tmp_path / "x.tif", [_PIXELS, halved(_PIXELS)], KINDS["jpeg-rgb"])
    _overwrite(path, 0, tag, change)
    slide = _slide(path)
    assert said in slide.levels[0].problem
    assert slide.levels[1].problem == ""


def test_tile_of_absurd_length(tmp_path: Path) -> None:
    """A tile that would be many times as long as its pixels is damage, even within the file."""
    path = write_pyramid(tmp_path / "x.tif", [_PIXELS], KINDS["deflate"])
    with path.open("ab") as file:
        file.write(bytes(3 << 20))
    _overwrite(path, 0, 325, lambda counts: [2 << 20, *counts[1:]])
    assert "claims to have" in _slide(path).levels[0].problem


def test_cut_off_in_the_pixels(tmp_path: Path) -> None:
    """A file whose last tiles are missing names how many, and gives no frame of them."""
    path = write_pyramid(tmp_path / "x.tif", [_PIXELS], KINDS["uncompressed"])
    path.write_bytes(path.read_bytes()[: -2 * 128 * 160 * 3 + 5])
    assert "2 of its 25 tiles" in _slide(path).levels[0].problem


def _sparse(gone: set[int]) -> Kind:
    encode, number = pillow_jpeg(0, rgb=False), iter(range(10_000))
    return Kind({"compression": 7}, lambda tile: b"" if next(number) in gone else encode(tile))


def test_sparse_tiles(tmp_path: Path) -> None:
    """Tiles that are not stored are absent and white, and that is said; the others are where they belong."""
    path = write_pyramid(tmp_path / "x.tif", [_PIXELS], _sparse({0, 1, 7, 24}))
    source = open_tiff(path)
    level = source.slide.levels[0]
    assert level.absent == ((0, 2), (7, 8), (24, 25))
    assert level.background == (255, 255, 255)
    assert level.instances[0].frame_count == 21
    assert source.slide.notes[-1] == "4 tiles of the level of 700 px are not stored; they are white"
    ours = assembled(source, 0)
    for number, tile in enumerate(tiles_of(_PIXELS, _TILE)):
        row, column = divmod(number, 5)
        found = ours[row * 128 : (row + 1) * 128, column * 160 : (column + 1) * 160].astype(int)
        expected = 255 if number in {0, 1, 7, 24} else tile[: found.shape[0], : found.shape[1]]
        assert np.abs(found - expected).mean() < 8, number
    with pytest.raises(FrameMissing):
        list(source.frames(0, [6, 7]))
    source.close()


def test_full_level_has_no_background(tmp_path: Path) -> None:
    """Where nothing is left out, nothing stands for it."""
    level = _slide(write_pyramid(tmp_path / "x.tif", [_PIXELS], KINDS["lzw"])).levels[0]
    assert (level.absent, level.background, level.problem) == ((), None, "")


def test_lost_tiles_of_a_coarse_svs_level(tmp_path: Path) -> None:
    """Aperio's encoder loses tiles of coarse levels: such a level is no white glass, the finer one is read instead."""
    path = tmp_path / "x.svs"
    write_svs(path, [_PIXELS, halved(_PIXELS), halved(halved(_PIXELS))], KINDS["jpeg-rgb"])
    _overwrite(path, 2, 325, lambda counts: [0, *counts[1:]])
    slide = _slide(path)
    assert [level.width_px for level in slide.levels] == [700, 175]
    assert any("350 x 265 px lacks tiles" in note for note in slide.notes)


def test_no_such_tile(tmp_path: Path) -> None:
    """A number beyond the grid is an error of ours."""
    source = open_tiff(write_pyramid(tmp_path / "x.tif", [_PIXELS], KINDS["lzw"]))
    for wrong in (-1, 25, 1 << 40):
        with pytest.raises(FrameMissing):
            list(source.frames(0, [wrong]))
    source.close()


@pytest.fixture
def opened(tmp_path: Path) -> Source:
    """Open a pyramid, its file beside."""
    return open_tiff(write_pyramid(tmp_path / "x.tif", [_PIXELS], KINDS["uncompressed"]))


def _rewrite(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    before = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


@pytest.mark.parametrize("change", [_rewrite, lambda path: os.truncate(path, path.stat().st_size // 2)])
def test_file_that_changes_while_it_is_read(change: Callable[[Path], None], opened: Source, tmp_path: Path) -> None:
    """Old tiles and new ones do not mix: the second read is refused."""
    assert len(list(opened.frames(0, [0]))) == 1
    change(tmp_path / "x.tif")
    with pytest.raises(SourceUnreadable, match="changed"):
        list(opened.frames(0, [24]))
    opened.close()


def test_file_that_is_replaced(opened: Source, tmp_path: Path) -> None:
    """A file put in the place of another one is the next one's business: the one that was opened is read on."""
    before = bytes(next(iter(opened.frames(0, [24]))).data)
    write_pyramid(tmp_path / "new.tif", [255 - _PIXELS], KINDS["uncompressed"]).replace(tmp_path / "x.tif")
    assert bytes(next(iter(opened.frames(0, [24]))).data) == before
    opened.close()


def test_digest(tmp_path: Path) -> None:
    """The same file has the same digest whenever it is opened; a changed one has another, even of the same length."""
    path = write_pyramid(tmp_path / "x.tif", [_PIXELS, halved(_PIXELS)], KINDS["uncompressed"])
    first = _slide(path)
    assert _slide(path) == first
    _rewrite(path)
    second = _slide(path)
    for old, new in zip(first.levels, second.levels, strict=True):
        assert old.instances[0].digest != new.instances[0].digest
    assert len({level.instances[0].digest for level in first.levels}) == 2


def test_profile(tmp_path: Path) -> None:
    """The ICC profile of a level is given; a level without one has that of the finest; a file without one has none."""
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        write_level(file, _PIXELS, KINDS["lzw"], iccprofile=b"the profile")
        write_level(file, halved(_PIXELS), KINDS["lzw"], subfiletype=1)
    source = open_tiff(tmp_path / "x.tif")
    assert [source.icc_profile(level) for level in (0, 1)] == [b"the profile"] * 2
    assert source.header(0) is None
    source.close()
    bare = open_tiff(write_pyramid(tmp_path / "bare.tif", [_PIXELS], KINDS["lzw"]))
    assert bare.icc_profile(0) is None
    bare.close()


def test_traffic_of_a_few_tiles(tmp_path: Path) -> None:
    """Only the directories and the tiles asked for are read."""
    pixels: Pixels = np.tile(_PIXELS, (4, 4, 1))
    path = write_pyramid(tmp_path / "x.tif", [pixels], KINDS["uncompressed"])
    source = open_tiff(path)
    list(source.frames(0, [100, 101]))
    traffic = source.close()
    assert traffic == Traffic(2, 65536 + 2 * 128 * 160 * 3)
    assert traffic.bytes_read < path.stat().st_size / 50


def test_threads(tmp_path: Path) -> None:
    """Several threads read different tiles of one source, each its own."""
    source = open_tiff(write_pyramid(tmp_path / "x.tif", [_PIXELS], KINDS["deflate-predictor"]))
    whole = {frame.index: bytes(frame.data) for frame in source.frames(0, range(25))}
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: list(source.frames(0, range(start, 25, 8))), list(range(8)) * 4))
    for frame in (frame for part in parts for frame in part):
        assert bytes(frame.data) == whole[frame.index]
    source.close()


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is an error of ours."""
    with pytest.raises(SourceUnreadable):
        open_tiff(tmp_path / "none.tif")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.svs", "a"), ("block.1.svs", "block.1"), ("x.ome.tif", "x"), ("X.OME.TIFF", "X"), ("y.btf", "y"), ("z", "z")],
)
def test_name(name: str, expected: str, tmp_path: Path) -> None:
    """A slide is called after its file, without the suffix and nothing else: two blocks stay two."""
    assert _slide(write_pyramid(tmp_path / name, [_PIXELS], KINDS["lzw"])).name == expected
