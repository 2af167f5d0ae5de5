"""Local DICOM files that are damaged or incomplete."""

import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from connectors import dicom_file
from connectors.endpoints import Endpoints
from connectors.registry import open_source
from models.domain.errors import FrameMissing, SlidewireError, SourceUnreadable
from models.imaging.decode import decode_frame
from tests.services.slides import SlideOnDisk

ENDPOINTS = Endpoints()


def changed(slide: SlideOnDisk, folder: Path, change: Callable[[pydicom.Dataset], None]) -> Path:
    """Write the smallest level with something changed; return its folder."""
    dataset = pydicom.dcmread(slide.levels[-1])
    change(dataset)
    folder.mkdir()
    dataset.save_as(folder / "level.dcm")
    return folder


def test_a_volume_of_zero_is_no_spacing(cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """An Imaged Volume of zero and no Pixel Spacing leave the spacing unknown, not zero."""

    def change(dataset: pydicom.Dataset) -> None:
        dataset.ImagedVolumeWidth = dataset.ImagedVolumeHeight = 0.0
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence

    source = open_source(ENDPOINTS.locate(str(changed(cmu_slide, tmp_path / "slide", change))), ENDPOINTS)
    assert source.slide.levels[0].spacing_um is None
    assert any("spacing is unknown" in note for note in source.slide.notes)
    source.close()


def read_all(path: Path) -> int:
    """Open a slide and read every frame of its finest level; return how many there are."""
    source = open_source(ENDPOINTS.locate(str(path)), ENDPOINTS)
    level = source.slide.levels[0]
    frames = [decode_frame(frame, level) for frame in source.frames(0, range(level.rows * level.columns))]
    source.close()
    return len(frames)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_a_torn_file_is_an_error_of_ours(cmu_slide: SlideOnDisk, tmp_path: Path, share: float) -> None:
    """Wherever a file is cut off, opening it or reading its frames ends in an error with a code."""
    data = cmu_slide.levels[-2].read_bytes()
    path = tmp_path / "torn.dcm"
    path.write_bytes(data)
    assert read_all(path) > 0
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlidewireError):
        read_all(path)


def test_a_file_that_is_cut_off_while_it_is_read(cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """A file that shrinks, or is written to, under an open slide is an error; the process lives on."""
    path = tmp_path / "level.dcm"
    data = cmu_slide.levels[-2].read_bytes()
    path.write_bytes(data)
    source = open_source(ENDPOINTS.locate(str(path)), ENDPOINTS)
    feed = source.frames(0, range(4))
    assert next(feed).data
    os.truncate(path, 5000)
    with pytest.raises(SourceUnreadable, match="changed while"):
        list(source.frames(0, range(4)))
    path.unlink()
    with pytest.raises(SourceUnreadable, match="cannot be read any more"):
        list(source.frames(0, range(4)))
    source.close()


def test_frames_side_by_side_are_one_read(cmu_slide: SlideOnDisk) -> None:
    """Traffic is what was read of frames; a row of tiles is read at once, and nothing twice."""
    source = open_source(ENDPOINTS.locate(str(cmu_slide.folder)), ENDPOINTS)
    looked = source.close()  # the first frame of each level is looked at
    level = source.slide.levels[0]
    frames = list(source.frames(0, range(level.rows * level.columns)))
    traffic = source.close()
    assert traffic.requests - looked.requests == 1
    size = sum(len(frame.data) for frame in frames)
    assert size <= traffic.bytes_read - looked.bytes_read <= size + 8 * len(frames)


def test_opening_reads_no_pixels(cmu_slide: SlideOnDisk) -> None:
    """Opening and reading one frame take a small part of the slide into memory; EZ-WSI is given headers."""
    whole = sum(path.stat().st_size for path in cmu_slide.levels)
    open_source(ENDPOINTS.locate(str(cmu_slide.folder)), ENDPOINTS).close()  # imports and caches are there
    tracemalloc.start()
    try:
        source = open_source(ENDPOINTS.locate(str(cmu_slide.folder)), ENDPOINTS)
        [frame] = source.frames(0, [50])
        assert len(list(source.ez_wsi.levels)) == len(source.slide.levels)  # type: ignore[attr-defined]
        assert tracemalloc.get_traced_memory()[1] < whole // 3
        assert frame.data
    finally:
        tracemalloc.stop()
    source.close()


def test_ez_wsi_reads_the_same_pixels(cmu_slide: SlideOnDisk) -> None:
    """The slide that EZ-WSI opened over our headers gives its pixels when it is asked for them."""
    source = open_source(ENDPOINTS.locate(str(cmu_slide.folder)), ENDPOINTS)
    level = source.slide.levels[0]
    slide = source.ez_wsi  # type: ignore[attr-defined]
    theirs = slide.get_patch(slide.native_level, x=256, y=512, width=256, height=256).image_bytes()
    [frame] = source.frames(0, [2 * level.columns + 1])
    assert np.array_equal(theirs, decode_frame(frame, level))
    source.close()


def deflated(slide: SlideOnDisk, path: Path, body: bytes) -> Path:
    """Write a file whose data set is deflated, and is `body`."""
    dataset = pydicom.dcmread(slide.levels[-1], stop_before_pixels=True)
    meta = pydicom.Dataset()
    meta.file_meta = dataset.file_meta
    meta.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    pydicom.dcmwrite(path, meta, enforce_file_format=True)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    length = int(pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength)
    path.write_bytes(path.read_bytes()[: 144 + length] + packer.compress(body) + packer.flush())
    return path


def test_a_deflated_bomb(cmu_slide: SlideOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that inflates without end is given up on at a bound, before pydicom gets it."""
    monkeypatch.setattr(dicom_file, "_MOST_INFLATED_BYTES", 8 << 20)
    path = deflated(cmu_slide, tmp_path / "bomb.dcm", bytes(200 << 20))
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(SourceUnreadable, match="inflates to more than 8 MiB"):
            open_source(ENDPOINTS.locate(str(path)), ENDPOINTS)
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


def test_a_deflated_file_that_is_cut_off(cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """Deflated data without an end are an error, and so are data that do not inflate."""
    path = deflated(cmu_slide, tmp_path / "cut.dcm", bytes(range(256)) * 4000)
    data = path.read_bytes()
    for wrong in (data[:-3], data[:-3] + b"zzz" * 50, data[:500] + b"\xff" * 600):
        path.write_bytes(wrong)
        with pytest.raises(SlidewireError):
            open_source(ENDPOINTS.locate(str(path)), ENDPOINTS)


def test_a_frame_that_is_not_there(cmu_slide: SlideOnDisk) -> None:
    """Frame numbers beyond the file's are refused, and so is 0."""
    file = dicom_file.DicomFile(cmu_slide.levels[-1])
    for number in (0, 2, -1):
        with pytest.raises(FrameMissing):
            list(file.frames([number]))


def test_frames_in_any_order(cmu_slide: SlideOnDisk) -> None:
    """Frames come as they are asked for, also backwards, repeated and with gaps: runs are an optimisation only."""
    file = dicom_file.DicomFile(cmu_slide.levels[0])
    one_by_one = {number: bytes(next(iter(file.frames([number])))) for number in (1, 2, 3, 40, 108)}
    asked = [3, 2, 40, 108, 1, 1, 2, 3]
    assert [bytes(frame) for frame in file.frames(asked)] == [one_by_one[number] for number in asked]
    assert list(file.frames([])) == []
