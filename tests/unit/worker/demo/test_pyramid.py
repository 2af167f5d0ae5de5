"""The pyramid is valid DICOM, holds the source's pixels, and is the same every time."""

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import generate_frames, parse_basic_offsets

from models.domain.errors import OutputUnwritable, PixelsUnsupported, RequestError
from tests.services.slides import SlideOnDisk
from worker.demo.pyramid import PyramidOptions, write_pyramid

_SMALL = PyramidOptions(frame_px=32, smallest_px=40)


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """Make a smooth picture of odd size, 101 rows x 75 columns, its three colours all different."""
    rows, columns = np.mgrid[0:101, 0:75]
    return np.stack([rows * 2, columns * 3, 255 - rows - columns], axis=2).astype(np.uint8)


def _decode(dataset: pydicom.Dataset) -> NDArray[np.uint8]:
    """Put the frames together as RGB; the padding stays."""
    side, across = dataset.Rows, -(-dataset.TotalPixelMatrixColumns // dataset.Columns)
    down = dataset.NumberOfFrames // across
    whole = np.empty((down * side, across * side, 3), np.uint8)
    for index, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=dataset.NumberOfFrames)):
        y, x = divmod(index, across)
        bgr = cv2.imdecode(np.frombuffer(frame, np.uint8), cv2.IMREAD_COLOR)
        whole[y * side : (y + 1) * side, x * side : (x + 1) * side] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return whole


def _distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def test_levels_are_valid_dicom(cmu_slide: SlideOnDisk) -> None:
    """The validator has not one error for any level."""
    program = Path(sys.executable).with_name("dciodvfy")
    for level in cmu_slide.levels:
        done = subprocess.run([program, str(level)], capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).splitlines()
        assert "VLWholeSlideMicroscopyImage" in said
        assert [line for line in said if line.startswith(("Error", "Abort"))] == []


def test_geometry_of_the_sample(cmu_slide: SlideOnDisk) -> None:
    """Each level halves the one above; spacing and imaged volume say the same as its pixels."""
    expected = [(2220, 2967, 108), (1110, 1483, 30), (555, 741, 9), (277, 370, 4), (138, 185, 1)]
    series = set()
    for number, (path, (columns, rows, frames)) in enumerate(zip(cmu_slide.levels, expected, strict=True)):
        level = pydicom.dcmread(path)
        found = (level.TotalPixelMatrixColumns, level.TotalPixelMatrixRows, level.NumberOfFrames)
        assert found == (columns, rows, frames)
        spacing_mm = level.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        assert [float(value) for value in spacing_mm] == pytest.approx([0.000499 * 2**number] * 2, rel=1e-12)
        assert level.ImagedVolumeWidth == pytest.approx(columns * float(spacing_mm[1]), rel=1e-7)
        assert level.ImagedVolumeHeight == pytest.approx(rows * float(spacing_mm[0]), rel=1e-7)
        assert level.DimensionOrganizationType == "TILED_FULL"
        assert level.OpticalPathSequence[0].ICCProfile[36:40] == b"acsp"
        series.add((level.StudyInstanceUID, level.SeriesInstanceUID, level.FrameOfReferenceUID))
    assert len(series) == 1


def test_frames_of_the_large_slide(cmu_slide_6x6: SlideOnDisk) -> None:
    """Six by six samples make 3,710 + 945 + 252 + 63 frames and smaller levels."""
    levels = [pydicom.dcmread(path, stop_before_pixels=True) for path in cmu_slide_6x6.levels]
    assert [level.NumberOfFrames for level in levels] == [3710, 945, 252, 63, 20, 6, 2, 1]
    assert (levels[0].TotalPixelMatrixColumns, levels[0].TotalPixelMatrixRows) == (13320, 17802)


def test_pixels_are_the_sources(picture: NDArray[np.uint8], tmp_path: Path) -> None:
    """Every level holds the source, averaged; what lies beyond the edge is white."""
    expected = picture
    for path in write_pyramid(picture, 0.5, tmp_path, options=_SMALL):
        level = pydicom.dcmread(path)
        rows, columns = level.TotalPixelMatrixRows, level.TotalPixelMatrixColumns
        assert (rows, columns) == expected.shape[:2]
        found = _decode(level)
        assert _distance(found[:rows, :columns], expected) < 3
        assert _distance(found[:rows, columns + 6 :], np.uint8([255])) < 3
        assert _distance(found[rows + 6 :], np.uint8([255])) < 3
        even = expected[: rows // 2 * 2, : columns // 2 * 2].astype(np.uint16)
        blocks = even.reshape(rows // 2, 2, columns // 2, 2, 3)
        expected = ((blocks.sum(axis=(1, 3)) + 2) // 4).astype(np.uint8)


def test_tiled_is_the_mosaic(picture: NDArray[np.uint8], tmp_path: Path) -> None:
    """Tiling by three is the same as tiling the pixels first, level by level."""
    tiled = write_pyramid(picture, 0.5, tmp_path / "tiled", tiles=3, options=_SMALL)
    whole = write_pyramid(np.tile(picture, (3, 3, 1)), 0.5, tmp_path / "whole", options=_SMALL)
    for one, other in zip(tiled, whole, strict=True):
        assert pydicom.dcmread(one).PixelData == pydicom.dcmread(other).PixelData
        assert pydicom.dcmread(one).SOPInstanceUID != pydicom.dcmread(other).SOPInstanceUID


def test_same_arguments_same_bytes(picture: NDArray[np.uint8], tmp_path: Path) -> None:
    """Writing twice, with any number of threads, gives the same files; another spacing is another slide."""
    one = write_pyramid(picture, 0.5, tmp_path / "one", options=_SMALL)
    other = write_pyramid(picture, 0.5, tmp_path / "other", options=PyramidOptions(32, smallest_px=40, threads=1))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]
    coarse = write_pyramid(picture, 1.0, tmp_path / "coarse", options=_SMALL)
    uids = [pydicom.dcmread(path).SeriesInstanceUID for path in (one[0], coarse[0])]
    assert uids[0] != uids[1]
    assert all(uid.startswith("2.25.") for uid in uids)


@pytest.mark.parametrize("extended", [False, True])
def test_offset_tables_point_at_the_frames(picture: NDArray[np.uint8], tmp_path: Path, *, extended: bool) -> None:
    """Both kinds of offset table lead to the start of each frame's item."""
    options = PyramidOptions(frame_px=32, extended_offsets=extended)
    level = pydicom.dcmread(write_pyramid(picture, 0.5, tmp_path, options=options)[0])
    frames = list(generate_frames(level.PixelData, number_of_frames=level.NumberOfFrames))
    starts = [0, *itertools.accumulate(8 + len(frame) for frame in frames)][:-1]
    if extended:
        assert parse_basic_offsets(level.PixelData) == []
        assert np.frombuffer(level.ExtendedOffsetTable, "<u8").tolist() == starts
        lengths = np.frombuffer(level.ExtendedOffsetTableLengths, "<u8")
        assert all(len(frame) - length in (0, 1) for frame, length in zip(frames, lengths, strict=True))
    else:
        assert parse_basic_offsets(level.PixelData) == starts
        assert "ExtendedOffsetTable" not in level


def test_photometric_interpretation_is_true(cmu_slide: SlideOnDisk) -> None:
    """Frames are baseline JPEG whose chroma is sampled 2 x 1, as YBR_FULL_422 says."""
    level = pydicom.dcmread(cmu_slide.levels[-1])
    frame = next(generate_frames(level.PixelData, number_of_frames=1))
    header = frame[frame.index(b"\xff\xc0") :]
    assert level.PhotometricInterpretation == "YBR_FULL_422"
    assert level.file_meta.TransferSyntaxUID == pydicom.uid.JPEGBaseline8Bit
    assert [header[11], header[14], header[17]] == [0x21, 0x11, 0x11]


def test_ez_wsi_reads_the_same_pixels(cmu_slide: SlideOnDisk) -> None:
    """A patch read by EZ-WSI is the source's, within what JPEG changes."""
    from ez_wsi_dicomweb import dicom_slide

    slide = dicom_slide.LocalDicomSlide([str(path) for path in cmu_slide.levels])
    level = slide.native_level
    assert (level.width, level.height) == (2220, 2967)
    assert [one.width for one in slide.levels] == [2220, 1110, 555, 277, 138]
    assert level.pixel_spacing.column_spacing_mm == pytest.approx(0.000499)
    for x, y in ((0, 0), (701, 1203), (2220 - 224, 2967 - 224)):
        found = slide.get_patch(level, x=x, y=y, width=224, height=224).image_bytes()
        assert found.shape == (224, 224, 3)
        assert _distance(found, cmu_slide.patch(x, y, 224)) < 3


def test_pixels_of_another_kind_are_refused(tmp_path: Path) -> None:
    """Grey or 16-bit pixels are refused before anything is written."""
    for pixels in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.uint16), np.zeros((0, 8, 3), np.uint8)):
        with pytest.raises(PixelsUnsupported):
            write_pyramid(pixels, 0.5, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_senseless_arguments_are_refused(picture: NDArray[np.uint8], tmp_path: Path) -> None:
    """No tiles, no spacing, an odd tile side and a quality beyond 100 are all refused."""
    with pytest.raises(RequestError):
        write_pyramid(picture, 0.5, tmp_path, tiles=0)
    with pytest.raises(RequestError):
        write_pyramid(picture, 0.0, tmp_path)
    with pytest.raises(RequestError):
        PyramidOptions(frame_px=255)
    with pytest.raises(RequestError):
        PyramidOptions(quality=101)


def test_folder_that_is_a_file(picture: NDArray[np.uint8], tmp_path: Path) -> None:
    """A folder that cannot be written is reported as such."""
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputUnwritable):
        write_pyramid(picture, 0.5, tmp_path / "out", options=_SMALL)
