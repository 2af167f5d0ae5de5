"""Reading results back: every bit or an error, and no identifying word in it."""

import pickle
import re
from collections.abc import Callable
from io import BytesIO

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from connectors.dicom.annotations import build_annotations
from connectors.dicom.derived import to_bytes
from connectors.dicom.header import dataset_of
from connectors.dicom.readback import compare_stored, read_annotations, report_digest
from connectors.dicom.report import build_report
from models.domain.embedding import Embeddings, Provenance
from models.domain.errors import ResultCorrupt, ResultError, ResultNotFound
from tests.unit.connectors.dicom.results import INSTANCE_UID, STUDY_UID, make_result, rich_header

UID_LIKE = re.compile(r"\d+(\.\d+){3,}")


def stored(count: int = 60, dimension: int = 8) -> Dataset:
    """Return an annotations object as an archive gives it back."""
    return pydicom.dcmread(BytesIO(to_bytes(build_annotations(make_result(count, dimension, rich_header())))))


@pytest.mark.parametrize(("count", "dimension"), [(1, 1), (300, 8), (300, 384)])
def test_values_boxes_and_positions_come_back_to_the_bit(count: int, dimension: int) -> None:
    """What is read is what was written, positions in both units included."""
    result = make_result(count, dimension, rich_header())
    read = read_annotations(stored(count, dimension))
    assert np.array_equal(read.matrix, result.embeddings.matrix)
    assert np.array_equal(read.boxes, result.embeddings.boxes)
    assert (read.matrix.dtype, read.boxes.dtype) == (np.float32, np.int32)
    assert read.digest == result.embeddings.digest
    assert (read.encoder, read.encoder_revision) == ("efficientnet-lite0", "r1")
    assert (read.study_uid, read.image_uid) == (STUDY_UID, INSTANCE_UID)
    assert Provenance.from_json(read.provenance) == result.provenance
    pixels, micrometres = read.positions()
    assert np.array_equal(pixels, result.embeddings.positions_px)
    assert np.array_equal(micrometres, result.embeddings.positions_um)


def flip(dataset: Dataset) -> None:
    """Change one bit of one value."""
    values = dataset.AnnotationGroupSequence[0].MeasurementsSequence[3].MeasurementValuesSequence[0]
    data = bytearray(values.FloatingPointValues)
    data[4] ^= 1
    values.FloatingPointValues = bytes(data)


def move(dataset: Dataset) -> None:
    """Move one rectangle by a pixel."""
    group = dataset.AnnotationGroupSequence[0]
    points = np.frombuffer(group.PointCoordinatesData, "<f4").copy()
    points[8:16:2] += 1
    group.PointCoordinatesData = points.tobytes()


def shorten(dataset: Dataset) -> None:
    """Keep one value of a component, as Orthanc's metadata do."""
    values = dataset.AnnotationGroupSequence[0].MeasurementsSequence[3].MeasurementValuesSequence[0]
    values.FloatingPointValues = values.FloatingPointValues[:4]


def miscount(dataset: Dataset) -> None:
    """Claim more annotations than there are."""
    dataset.AnnotationGroupSequence[0].NumberOfAnnotations = 2**31


def drop_component(dataset: Dataset) -> None:
    """Lose a measurement."""
    del dataset.AnnotationGroupSequence[0].MeasurementsSequence[5]


def swap_components(dataset: Dataset) -> None:
    """Change the order of two measurements."""
    items = dataset.AnnotationGroupSequence[0].MeasurementsSequence
    items[1], items[2] = items[2], items[1]


def make_nan(dataset: Dataset) -> None:
    """Make a value NaN."""
    values = dataset.AnnotationGroupSequence[0].MeasurementsSequence[3].MeasurementValuesSequence[0]
    values.FloatingPointValues = b"\x00\x00\xc0\x7f" + values.FloatingPointValues[4:]


def lose_record(dataset: Dataset) -> None:
    """Lose the record with the digest."""
    del dataset.AnnotationGroupSequence[0].AnnotationGroupAlgorithmIdentificationSequence


def damage_record(dataset: Dataset) -> None:
    """Cut the record down to its name."""
    item = dataset.AnnotationGroupSequence[0].AnnotationGroupAlgorithmIdentificationSequence[0]
    item.AlgorithmParameters = '{"record":1}'


def age_record(dataset: Dataset) -> None:
    """Store with a version of the future."""
    item = dataset.AnnotationGroupSequence[0].AnnotationGroupAlgorithmIdentificationSequence[0]
    item.AlgorithmParameters = '{"record":2}'


def lose_reference(dataset: Dataset) -> None:
    """Lose the image that the rectangles count in."""
    del dataset.ReferencedImageSequence


DAMAGES = [
    flip, move, shorten, miscount, drop_component, swap_components, make_nan, lose_record, damage_record,
    age_record, lose_reference,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_an_error_without_a_uid(damage: Callable[[Dataset], None]) -> None:
    """A changed, lost or added number is never a smaller or different result."""
    dataset = stored()
    damage(dataset)
    with pytest.raises(ResultCorrupt) as caught:
        read_annotations(dataset)
    assert not UID_LIKE.search(str(pickle.loads(pickle.dumps(caught.value))))
    assert not compare_stored(stored(), dataset)


def test_other_objects_hold_no_embeddings() -> None:
    """A slide, a report, and annotations of other kinds are not found rather than corrupt."""
    result = make_result(4, 8, rich_header())
    polygons, bare, solid = stored(), stored(), stored()
    polygons.AnnotationGroupSequence[0].GraphicType = "POLYGON"
    del bare.AnnotationGroupSequence[0].MeasurementsSequence
    solid.AnnotationCoordinateType = "3D"
    for other in (dataset_of(rich_header()), build_report(result, None), polygons, bare, solid, Dataset()):
        with pytest.raises(ResultNotFound):
            read_annotations(other)


def test_annotations_of_others_can_be_read() -> None:
    """Points that highdicom wrote come back as boxes without extent, without provenance."""
    source = dataset_of(rich_header())
    values = np.random.default_rng(1).standard_normal((9, 3)).astype(np.float32)
    points = [np.array([[index * 10.0, 5.0]], np.float64) for index in range(9)]
    group = hd.ann.AnnotationGroup(
        number=1, uid=hd.UID(), label="cells", annotated_property_category=codes.SCT.AnatomicalStructure,
        annotated_property_type=codes.SCT.Cell, graphic_type="POINT", graphic_data=points,
        algorithm_type="MANUAL",
        measurements=[hd.ann.Measurements(codes.SCT.Area, column, codes.UCUM.NoUnits) for column in values.T],
    )  # fmt: skip
    theirs = hd.ann.MicroscopyBulkSimpleAnnotations(
        [source], "2D", [group], hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "2"
    )
    read = read_annotations(theirs)
    assert np.array_equal(read.matrix, values)
    assert read.boxes[3].tolist() == [30, 5, 0, 0]
    assert (read.scale, dict(read.provenance), read.positions()) == (None, {}, (None, None))


def test_the_report_gives_its_digest() -> None:
    """The recorded digest is that of the embeddings, and a foreign report has none."""
    result = make_result(30, 8, rich_header())
    dataset = pydicom.dcmread(BytesIO(to_bytes(build_report(result, build_annotations(result)))))
    assert report_digest(dataset) == result.embeddings.digest
    dataset.ContentSequence = []
    for other in (dataset, stored()):
        with pytest.raises(ResultNotFound):
            report_digest(other)


def test_a_damaged_report_is_corrupt() -> None:
    """A text item without its concept is no excuse for a traceback."""
    dataset = build_report(make_result(3, 8, rich_header()), None)
    for item in dataset.ContentSequence[-1].ContentSequence[0].ContentSequence:
        item.pop("ConceptNameCodeSequence", None)
    with pytest.raises(ResultCorrupt):
        report_digest(dataset)


def test_the_stored_object_is_compared_by_its_values() -> None:
    """Equal values are equal whatever else an archive changed; other values or kinds are not."""
    result, other = make_result(30, 8, rich_header()), make_result(31, 8, rich_header())
    annotations, report = build_annotations(result), build_report(result, None)
    coerced = pydicom.dcmread(BytesIO(to_bytes(annotations)))
    coerced.PatientID = "other"
    assert compare_stored(annotations, coerced)
    assert not compare_stored(annotations, build_annotations(other))
    assert compare_stored(report, pydicom.dcmread(BytesIO(to_bytes(report))))
    assert not compare_stored(report, build_report(other, None))
    assert not compare_stored(report, annotations)
    assert not compare_stored(annotations, Dataset())
    with pytest.raises(ResultError):
        compare_stored(Dataset(), annotations)


def test_the_digest_is_that_of_the_domain() -> None:
    """The recomputed digest is the one that tables record."""
    read = read_annotations(stored())
    assert read.digest == Embeddings(read.matrix, read.boxes, read.boxes[:, :2].astype(np.float64), None).digest
