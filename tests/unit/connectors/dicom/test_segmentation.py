"""DICOM Segmentations as masks: every type and tiling that highdicom writes, and only of this slide."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.sr.codedict import codes
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless, generate_uid

from connectors.dicom import segmentation
from connectors.dicom.segmentation import is_dicom, read_segmentation
from models.domain.errors import TissueFileInvalid
from models.domain.slide import Instance, Level, Slide, SlideRef
from tests.services.slides import SlideOnDisk

_LEVEL = 2  # 555 x 741 px
_COLUMN, _ROW = "ColumnPositionInTotalImagePixelMatrix", "RowPositionInTotalImagePixelMatrix"


@pytest.fixture(scope="module")
def source(cmu_slide: SlideOnDisk) -> pydicom.Dataset:
    """Read the level that is segmented."""
    return pydicom.dcmread(cmu_slide.levels[_LEVEL])


@pytest.fixture(scope="module")
def header(cmu_slide: SlideOnDisk) -> dict[str, Any]:
    """Return level 0 as DICOM JSON."""
    return dict(cmu_slide.header.to_json_dict())


@pytest.fixture(scope="module")
def slide(cmu_slide: SlideOnDisk) -> Slide:
    """Describe the slide as a source does."""
    levels = []
    for path in cmu_slide.levels:
        item = pydicom.dcmread(path, stop_before_pixels=True)
        whole = Instance(str(item.SOPInstanceUID), 0, int(item.NumberOfFrames), "")
        spacing = (float(item.ImagedVolumeWidth) * 1000 / item.TotalPixelMatrixColumns,) * 2
        size = (item.TotalPixelMatrixColumns, item.TotalPixelMatrixRows, item.Columns, item.Rows)
        levels.append(Level(*(int(side) for side in size), spacing, "YBR_FULL_422", (whole,)))
    return Slide(SlideRef("dicom-files", "x"), tuple(levels), "x")


Opened = tuple[Slide, dict[str, Any]]


@pytest.fixture
def opened(slide: Slide, header: dict[str, Any]) -> Opened:
    """Return slide and header."""
    return slide, header


def _drawn(width: int, height: int, shift: int = 0) -> NDArray[np.uint8]:
    """Return a blob with a hole that crosses tiles at no round numbers."""
    field = np.zeros((height, width), np.uint8)
    cv2.ellipse(field, (201 + shift, 333), (150, 257), 17, 0, 360, 1, -1)
    cv2.circle(field, (211 + shift, 311), 61, 0, -1)
    return field


def _segment(number: int, label: str) -> highdicom.seg.SegmentDescription:
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def _write(path: Path, source: pydicom.Dataset, pixels: NDArray[Any], kind: str = "BINARY", **options: Any) -> Path:
    labels = ["Tumour", "Stroma"][: int(pixels.max())]
    made = highdicom.seg.Segmentation(
        source_images=[source],
        pixel_array=pixels[None],
        segmentation_type=kind,
        segment_descriptions=[_segment(number + 1, label) for number, label in enumerate(labels or ["Tumour"])],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Slidewire",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="1",
        tile_pixel_array=True,
        **options,
    )
    made.save_as(path)
    return path


@pytest.fixture
def write(tmp_path: Path, source: pydicom.Dataset) -> Callable[..., Path]:
    """Write a Segmentation of the level into a file."""

    def written(pixels: NDArray[Any], kind: str = "BINARY", **options: Any) -> Path:
        return _write(tmp_path / "seg.dcm", source, pixels, kind, **options)

    return written


Write = Callable[..., Path]


@pytest.fixture
def field(source: pydicom.Dataset) -> NDArray[np.uint8]:
    """Draw the tissue."""
    return _drawn(source.TotalPixelMatrixColumns, source.TotalPixelMatrixRows)


def _changed(path: Path, change: Callable[[pydicom.Dataset], object]) -> Path:
    dataset = pydicom.dcmread(path)
    change(dataset)
    dataset.save_as(path)
    return path


def test_no_segmentation(tmp_path: Path, cmu_slide: SlideOnDisk, slide: Slide, header: dict[str, Any]) -> None:
    """The slide itself, junk and a missing file are no Segmentation."""
    with pytest.raises(TissueFileInvalid, match="no Segmentation"):
        read_segmentation(cmu_slide.levels[0], slide, header)
    for data in (b"", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 500):
        (tmp_path / "junk").write_bytes(data)
        with pytest.raises(TissueFileInvalid, match=r"damaged|no Segmentation"):
            read_segmentation(tmp_path / "junk", slide, header)
    with pytest.raises(TissueFileInvalid, match="damaged"):
        read_segmentation(tmp_path / "none", slide, header)
    assert not is_dicom(tmp_path / "none")
    assert is_dicom(cmu_slide.levels[0])


def test_of_another_slide(write: Write, field: NDArray[np.uint8], slide: Slide, header: dict[str, Any]) -> None:
    """A Segmentation that shares neither frame of reference nor instance is refused, without a UID in the message."""
    path = write(field)
    stranger = header | {"00200052": {"vr": "UI", "Value": ["1.2.3"]}}
    assert read_segmentation(path, slide, stranger).mask.any(), "the instance that it names is this slide's"

    def moved(dataset: pydicom.Dataset) -> None:
        dataset.FrameOfReferenceUID = "1.2.4"

    _changed(path, moved)
    assert read_segmentation(path, slide, header).mask.any()

    def lost(dataset: pydicom.Dataset) -> None:
        for holder in dataset.ReferencedSeriesSequence:
            for item in holder.ReferencedInstanceSequence:
                item.ReferencedSOPInstanceUID = "1.2.5"
        for item in dataset.get("SourceImageSequence", []):
            item.ReferencedSOPInstanceUID = "1.2.5"

    _changed(path, lost)
    with pytest.raises(TissueFileInvalid, match="another slide") as caught:
        read_segmentation(path, slide, header)
    assert "1.2." not in str(caught.value)
    with pytest.raises(TissueFileInvalid, match="DICOM slide"):
        read_segmentation(path, slide, None)


def test_of_a_part(write: Write, field: NDArray[np.uint8], slide: Slide, header: dict[str, Any]) -> None:
    """A matrix of another shape, or one that begins elsewhere on the glass, does not cover the slide."""

    def shifted(dataset: pydicom.Dataset) -> None:
        dataset.TotalPixelMatrixOriginSequence[0].XOffsetInSlideCoordinateSystem += 0.4

    with pytest.raises(TissueFileInvalid, match="another place of the glass"):
        read_segmentation(_changed(write(field), shifted), slide, header)

    def cropped(dataset: pydicom.Dataset) -> None:
        dataset.TotalPixelMatrixColumns = 400

    with pytest.raises(TissueFileInvalid, match="another aspect ratio"):
        read_segmentation(_changed(write(field), cropped), slide, header)


def test_nothing_marked(write: Write, field: NDArray[np.uint8], slide: Slide, header: dict[str, Any]) -> None:
    """A Segmentation without one marked pixel is refused; so is a segment that it does not have."""
    with pytest.raises(TissueFileInvalid, match="marks nothing"):
        read_segmentation(write(np.zeros_like(field), omit_empty_frames=False), slide, header)
    with pytest.raises(TissueFileInvalid, match="no such segment"):
        read_segmentation(write(field), slide, header, "Necrosis")


def _frames_lost(dataset: pydicom.Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:-1]


def _frame_outside(dataset: pydicom.Dataset) -> None:
    setattr(dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSlideSequence[0], _COLUMN, 5000)


def _frame_nowhere(dataset: pydicom.Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSlideSequence


def _frame_of_no_segment(dataset: pydicom.Dataset) -> None:
    for group in (*dataset.PerFrameFunctionalGroupsSequence, *dataset.SharedFunctionalGroupsSequence):
        group.pop("SegmentIdentificationSequence", None)


def _pixels_lost(dataset: pydicom.Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:100]


def _pixels_lost_before_more(dataset: pydicom.Dataset) -> None:
    _pixels_lost(dataset)
    dataset.DataSetTrailingPadding = b"\1" * 1_000_000


def _deflated(dataset: pydicom.Dataset) -> None:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian


def _many_bits(dataset: pydicom.Dataset) -> None:
    dataset.BitsAllocated = 32


def _no_size(dataset: pydicom.Dataset) -> None:
    dataset.TotalPixelMatrixRows = 2**31 - 1


def _no_segments(dataset: pydicom.Dataset) -> None:
    del dataset.SegmentSequence


@pytest.mark.parametrize(
    "damage",
    [
        _frames_lost,
        _frame_outside,
        _frame_nowhere,
        _frame_of_no_segment,
        _pixels_lost,
        _pixels_lost_before_more,
        _deflated,
        _many_bits,
        _no_size,
        _no_segments,
    ],
)
def test_damage(
    write: Write,
    field: NDArray[np.uint8],
    slide: Slide,
    header: dict[str, Any],
    damage: Callable[[pydicom.Dataset], object],
) -> None:
    """A Segmentation that contradicts itself is refused, whatever of it is wrong; nothing is taken for glass."""
    with pytest.raises(TissueFileInvalid, match="Segmentation"):
        read_segmentation(_changed(write(field), damage), slide, header)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize(
    ("tiling", "tile"),
    [("TILED_FULL", (256, 256)), ("TILED_SPARSE", (256, 256)), ("TILED_FULL", (101, 39)), ("TILED_SPARSE", (101, 39))],
)
def test_every_type_and_tiling(
    write: Write, field: NDArray[np.uint8], opened: Opened, kind: str, tiling: str, tile: tuple[int, int]
) -> None:
    """What was drawn comes back, pixel by pixel, also in tiles whose bits do not fill bytes."""
    sparse = tiling == "TILED_SPARSE"
    path = write(field, kind, tile_size=tile, dimension_organization_type=tiling, omit_empty_frames=sparse)
    found = read_segmentation(path, *opened)
    assert np.array_equal(found.mask, field > 0)
    assert (found.method, found.looked_at) == ("mask", "all segments of a DICOM Segmentation")


def test_compressed(write: Write, field: NDArray[np.uint8], opened: Opened) -> None:
    """Compressed frames are decoded, and a torn one is an error."""
    path = write(field, "FRACTIONAL", transfer_syntax_uid=RLELossless)
    assert np.array_equal(read_segmentation(path, *opened).mask, field > 0)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(TissueFileInvalid, match="damaged"):
        read_segmentation(path, *opened)


def test_half_a_probability_is_tissue(
    write: Write, field: NDArray[np.uint8], slide: Slide, header: dict[str, Any]
) -> None:
    """Fractions count from one half of their maximum on."""
    shares = np.where(field > 0, 0.6, 0.4).astype(np.float32)
    found = read_segmentation(write(shares, "FRACTIONAL", max_fractional_value=200), slide, header)
    assert np.array_equal(found.mask, field > 0)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("tiling", ["TILED_FULL", "TILED_SPARSE"])
def test_segments(
    write: Write, field: NDArray[np.uint8], slide: Slide, header: dict[str, Any], kind: str, tiling: str
) -> None:
    """All segments together are tissue; one that is named by number or label is all there is."""
    other = _drawn(field.shape[1], field.shape[0], 200) & (field == 0)
    path = write(
        field + 2 * other, kind, dimension_organization_type=tiling, omit_empty_frames=tiling == "TILED_SPARSE"
    )
    for segment, expected in (("", field | other), ("1", field), ("Stroma", other)):
        assert np.array_equal(read_segmentation(path, slide, header, segment).mask, expected > 0), segment


@pytest.mark.parametrize("longest_px", [400, 100])
def test_large_matrices_are_brought_down(
    write: Write,
    field: NDArray[np.uint8],
    slide: Slide,
    header: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    longest_px: int,
) -> None:
    """A matrix beyond the bound becomes blocks: tissue where half of the block or more is, also at the edges."""
    monkeypatch.setattr(segmentation, "_LONGEST_PX", longest_px)
    found = read_segmentation(write(field, tile_size=(101, 39)), slide, header).mask
    factor = -(-741 // longest_px)
    expected = [
        [2 * block.sum() >= block.size and block.any() for block in _blocks(band, factor)]
        for band in np.split(field, range(factor, len(field), factor))
    ]
    assert np.array_equal(found, expected)
    assert max(found.shape) <= longest_px


def _blocks(band: NDArray[np.uint8], factor: int) -> Sequence[NDArray[np.uint8]]:
    return np.split(band, range(factor, band.shape[1], factor), axis=1)
