"""The file written around its values: what pydicom would write, without ever holding it."""

from io import BytesIO

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from connectors.dicom.result import concepts, measurements
from connectors.dicom.result.annotations import annotate
from connectors.dicom.result.measurements import file_chunks
from connectors.dicom.result.result_object import ResultObject
from models.domain.errors import ResultError
from tests.unit.connectors.dicom.results import make_result, rich_header, slide

NO_HOLES = np.zeros((0, 4), np.int32)
HOLES = np.array([[0, 9000, 224, 224]], np.int32)


def made(count: int, dimension: int, holes: NDArray[np.int32] = NO_HOLES) -> ResultObject:
    """Return the annotations of a small result."""
    [result_object] = annotate(make_result(count, dimension, rich_header()), holes)
    return result_object


@pytest.mark.parametrize("holes", [NO_HOLES, HOLES], ids=["one group", "two groups"])
@pytest.mark.parametrize(("count", "dimension"), [(1, 1), (7, 12), (2, 1001)])
def test_it_is_the_file_that_pydicom_writes(count: int, dimension: int, holes: NDArray[np.int32]) -> None:
    """The data set with all its measurements, made item by item and written by pydicom, has the same bytes."""
    ours = made(count, dimension, holes)
    assert ours.measured is not None
    whole = pydicom.dcmread(BytesIO(b"".join(ours.chunks())))
    items = []
    for index in range(dimension):
        values = pydicom.Dataset()
        values.FloatingPointValues = ours.measured.matrix[:, index].astype("<f4").tobytes()
        item = pydicom.Dataset()
        item.ConceptNameCodeSequence = [concepts.code_item(concepts.component(index))]
        item.MeasurementUnitsCodeSequence = [concepts.code_item(concepts.NO_UNITS)]
        item.MeasurementValuesSequence = [values]
        items.append(item)
    whole.AnnotationGroupSequence[0].MeasurementsSequence = items
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, whole, enforce_file_format=True)
    assert buffer.getvalue() == b"".join(ours.chunks())


def test_the_values_are_highdicoms() -> None:
    """An object that highdicom makes of the same numbers has the same bytes in values and coordinates."""
    result = make_result(40, 24, rich_header())
    boxes = result.embeddings.boxes.astype(np.float32)
    x, y, right, low = boxes[:, 0], boxes[:, 1], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]
    corners = np.stack([x, y, right, y, right, low, x, low], axis=1).reshape(-1, 4, 2)
    group = hd.ann.AnnotationGroup(
        number=1,
        uid=hd.UID(),
        label="theirs",
        annotated_property_category=concepts.SPATIAL_CONCEPT,
        annotated_property_type=concepts.SELECTED_REGION,
        graphic_type=hd.ann.GraphicTypeValues.RECTANGLE,
        graphic_data=list(corners),
        algorithm_type=hd.ann.AnnotationGroupGenerationTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence("e", concepts.ARTIFICIAL_INTELLIGENCE, "1"),
        measurements=[
            hd.ann.Measurements(concepts.component(index), result.embeddings.matrix[:, index], concepts.NO_UNITS)
            for index in range(24)
        ],
    )
    theirs = hd.ann.MicroscopyBulkSimpleAnnotations(
        [slide()], "2D", [group], hd.UID(), 1, hd.UID(), 1, "made", "by", "1", "0"
    ).AnnotationGroupSequence[0]
    [ours] = pydicom.dcmread(BytesIO(b"".join(made(40, 24).chunks()))).AnnotationGroupSequence
    assert ours.PointCoordinatesData == theirs.PointCoordinatesData
    for mine, other in zip(ours.MeasurementsSequence, theirs.MeasurementsSequence, strict=True):
        (mine_values,), (other_values,) = mine.MeasurementValuesSequence, other.MeasurementValuesSequence
        assert mine_values.FloatingPointValues == other_values.FloatingPointValues
        assert mine.ConceptNameCodeSequence[0].CodeValue == other.ConceptNameCodeSequence[0].CodeValue


@pytest.mark.parametrize("block_bytes", [1, 4 * 9 * 5, 2**30])
def test_how_it_is_cut_changes_nothing(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One component at a time, some, or all at once: the same file; in the end it is one file."""
    expected = b"".join(made(9, 17).chunks())
    monkeypatch.setattr(measurements, "_BLOCK_BYTES", block_bytes)
    assert b"".join(made(9, 17).chunks()) == expected


def test_a_chunk_is_a_small_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """No chunk is larger than a block and the names of what is in it."""
    monkeypatch.setattr(measurements, "_BLOCK_BYTES", 4 * 500 * 10)
    assert max(len(chunk) for chunk in made(500, 200).chunks()) < 4 * 500 * 10 + 10 * 300


@pytest.mark.parametrize("order", ["F", "strided"])
def test_a_matrix_may_lie_in_memory_as_it_likes(order: str) -> None:
    """Columns first, or every other row of something: the same bytes."""
    ours = made(9, 17)
    assert ours.measured is not None
    matrix = ours.measured.matrix
    other = np.asfortranarray(matrix) if order == "F" else np.repeat(matrix, 2, axis=0)[::2]
    assert b"".join(file_chunks(ours.dataset, other)) == b"".join(ours.chunks())


def test_what_32_bits_cannot_say_is_refused() -> None:
    """Four gigabytes of values are refused before the first byte, and not written with a length cut short."""
    ours = made(1, 1)
    endless = np.broadcast_to(np.float32(1), (2**20, 2**10))
    with pytest.raises(ResultError, match="too large"):
        next(file_chunks(ours.dataset, endless))
