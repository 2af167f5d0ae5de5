"""Parametric Maps read back as embeddings: Slidewire's own, highdicom's, and ones that do not hold together."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from connectors.dicom.readback.stored_objects import read_objects
from connectors.dicom.result.header import dataset_of
from connectors.dicom.result.objects import build_objects
from models.domain.errors import ResultCorrupt, ResultNotFound
from tests.unit.connectors.dicom.instances import element, instance, sequence
from tests.unit.connectors.dicom.results import SERIES_UID, make_result, rich_header

HEIGHT, WIDTH, TILE = 5, 7, 4


def planes() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return two planes, (5, 7, 2), with a hole in the middle and at the edge."""
    values = np.random.default_rng(3).standard_normal((HEIGHT, WIDTH, 2)).astype(np.float32)
    values[2, 3] = values[4, 6] = np.nan
    return values


def made(values: np.ndarray[Any, Any], *, sparse: bool) -> Dataset:
    """Return a map as PS3.3 A.75 has it, in tiles of 4 x 4 that reach over its edges."""
    dataset = Dataset()
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = "1.2.1", "1.2.2", "1.2.3"
    height, width, count = values.shape
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = height, width
    dataset.Rows = dataset.Columns = TILE
    padded = np.full((8, 8, count), 99, values.dtype)
    padded[:height, :width] = values
    frames, groups = [], []
    for plane in range(count):
        for row, column in ((0, 0), (0, 4), (4, 0), (4, 4)):
            frames.append(padded[row : row + 4, column : column + 4, plane])
            groups.append(_group(f"plane {'ab'[plane]}", row if sparse else None, column))
    dataset.NumberOfFrames = len(frames)
    data = np.stack(frames)
    if values.dtype == np.float64:
        dataset.DoubleFloatPixelData = data.astype("<f8").tobytes()
    else:
        dataset.FloatPixelData = data.astype("<f4").tobytes()
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset


def _group(label: str, row: int | None, column: int) -> Dataset:
    mapping = Dataset()
    mapping.LUTLabel = label
    group = Dataset()
    group.RealWorldValueMappingSequence = [mapping]
    if row is not None:
        position = Dataset()
        position.RowPositionInTotalImagePixelMatrix = row + 1
        position.ColumnPositionInTotalImagePixelMatrix = column + 1
        group.PlanePositionSlideSequence = [position]
    return group


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tiles_become_rows(*, sparse: bool, dtype: Any) -> None:
    """One row a pixel with numbers, row by row, whether tiles say where they lie or come in turn."""
    values = planes()
    read = read_objects([made(values.astype(dtype), sparse=sparse)])
    there = ~np.isnan(values).any(axis=-1)
    rows, columns = np.nonzero(there)
    assert np.array_equal(read.matrix, values[there])
    assert np.array_equal(read.boxes, np.stack([columns, rows, np.ones_like(rows), np.ones_like(rows)], axis=1))
    assert read.columns == ("plane a", "plane b")
    assert [note for note in read.notes if "pixels of the image" in note]


def test_padding_and_gaps_are_no_patches() -> None:
    """The padding value stands for nothing, and a pixel that only some planes know is left out, and counted."""
    values = planes()
    values[0, 0] = -1000
    values[1, 1, 0] = np.nan
    dataset = made(values, sparse=True)
    dataset.FloatPixelPaddingValue = -1000.0
    read = read_objects([dataset])
    values[0, 0] = np.nan
    assert np.array_equal(read.matrix, values[~np.isnan(values).any(axis=-1)])
    assert read.notes[0] == "1 pixels have a value in some planes only: they were left out"


def test_slope_and_intercept_are_applied() -> None:
    """Stored numbers stand for others where the map says so."""
    values = planes()
    dataset = made(values, sparse=True)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.RealWorldValueMappingSequence[0].RealWorldValueSlope = 2.0
        group.RealWorldValueMappingSequence[0].RealWorldValueIntercept = 1.0
    expected = values[~np.isnan(values).any(axis=-1)] * np.float32(2) + np.float32(1)
    assert np.array_equal(read_objects([dataset]).matrix, expected)


def placed(header: dict[str, Any], columns: int, rows: int, step_mm: float) -> dict[str, Any]:
    """Return a level that says where it lies on the glass."""
    return header | {
        "00480006": element("UL", columns),
        "00480007": element("UL", rows),
        "00480001": element("FL", step_mm * columns),
        "00480002": element("FL", step_mm * rows),
        "00480008": sequence(
            {"0040072A": element("DS", 20 + step_mm / 2), "0040073A": element("DS", 40 + step_mm / 2)}
        ),
        "00480102": element("DS", 1, 0, 0, 0, 1, 0),
        "52009229": sequence({"00289110": sequence({"00280030": element("DS", step_mm, step_mm)})}),
    }


def test_highdicoms_maps_are_read() -> None:
    """A map of highdicom's, tile for tile, lies on its slide where highdicom put it."""
    header = placed(rich_header(), 640, 320, 0.0005)
    source = dataset_of(header)
    source.Rows = source.Columns = 64
    values = np.random.default_rng(5).standard_normal((1, 5, 10, 2)).astype(np.float32)
    mappings = [
        hd.pm.RealWorldValueMapping(name, name, codes.UCUM.NoUnits, (-1e30, 1e30), 1.0, 0.0)
        for name in ("first", "second")
    ]
    measures = hd.PixelMeasuresSequence([0.032, 0.032], 0.001)
    theirs = hd.pm.ParametricMap(
        [source], values, hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "2",
        contains_recognizable_visual_features=False, real_world_value_mappings=[[one] for one in mappings],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=0.0, window_width=1.0)],
        pixel_measures=measures,
        plane_orientation=hd.PlaneOrientationSequence("SLIDE", [1, 0, 0, 0, 1, 0]),
        plane_positions=[hd.PlanePositionSequence("SLIDE", [20.016, 40.016, 0.0], (1, 1))],
    )  # fmt: skip
    buffer = BytesIO()
    theirs.save_as(buffer)
    read = read_objects(
        [pydicom.dcmread(BytesIO(buffer.getvalue()))],
        find_slide=lambda uid: [instance("1.2.3") | header] if uid == SERIES_UID else [],
    )
    assert np.array_equal(read.matrix, values.reshape(-1, 2))
    assert [name.split(" ")[0] for name in read.columns] == ["first", "second"]
    assert np.allclose(read.positions_px[11], [64, 64], atol=0.01), read.notes
    assert read.boxes[11].tolist() == [64, 64, 64, 64]


def test_slidewires_own_map_is_read() -> None:
    """The planes of our own map are those of its file, at the patches they were made of."""
    header = placed(rich_header(), 50000, 40000, 0.0005)
    result = make_result(40, 8, header)
    result = replace(result, step_px=(224.0, 224.0))
    found = [one for one in build_objects(result, maps=True) if one.kind == "map"]
    assert found, "the slide says where it lies: there is a map"
    content = pydicom.dcmread(BytesIO(b"".join(found[0].chunks())))
    read = read_objects([content], find_slide=lambda _: [instance("1.2.3") | header])
    assert len(read) == 40
    assert read.matrix.shape[1] == content.NumberOfFrames
    assert np.allclose(read.positions_px, result.embeddings.boxes[:, :2], atol=0.5)


def _outside(dataset: Dataset) -> None:
    group = dataset.PerFrameFunctionalGroupsSequence[3]
    group.PlanePositionSlideSequence[0].RowPositionInTotalImagePixelMatrix = 100


def _unplaced(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[7]


def _short(dataset: Dataset) -> None:
    dataset.FloatPixelData = dataset.FloatPixelData[:-4]


def _frameless(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.NumberOfFrames = 7
    dataset.FloatPixelData = dataset.FloatPixelData[: 7 * 64]


def _vast(dataset: Dataset) -> None:
    dataset.TotalPixelMatrixColumns = dataset.TotalPixelMatrixRows = 2**31 - 1


def _infinite(dataset: Dataset) -> None:
    dataset.FloatPixelData = np.full(16 * 8, np.inf, "<f4").tobytes()


def _sizeless(dataset: Dataset) -> None:
    dataset.Rows = 0


@pytest.mark.parametrize(
    "damage", [_outside, _unplaced, _short, _frameless, _vast, _infinite, _sizeless], ids=lambda one: one.__name__
)
def test_a_map_that_does_not_hold_together_is_corrupt(damage: Callable[[Dataset], None]) -> None:
    """Frames outside, missing, too few pixels, a size of exabytes: refused before memory is asked for."""
    dataset = made(planes(), sparse=True)
    damage(dataset)
    with pytest.raises(ResultCorrupt):
        read_objects([dataset])


def test_a_map_of_integers_holds_no_embeddings() -> None:
    """Pixel Data of integers are not what is looked for."""
    dataset = made(planes(), sparse=True)
    del dataset.FloatPixelData
    with pytest.raises(ResultNotFound):
        read_objects([dataset])


def test_only_one_map_is_read_at_a_time() -> None:
    """Two maps are two results."""
    maps: Sequence[Dataset] = [made(planes(), sparse=True)] * 2
    with pytest.raises(ResultNotFound):
        read_objects(maps)
