"""Annotations of other writers read back: every way of drawing, counting and leaving out that the standard has."""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from connectors.dicom.readback.stored_objects import no_slide, read_objects
from connectors.dicom.result.header import dataset_of
from models.domain.errors import ResultCorrupt, ResultNotFound
from tests.unit.connectors.dicom.instances import element, instance, sequence
from tests.unit.connectors.dicom.results import INSTANCE_UID, SERIES_UID, STUDY_UID, rich_header

VALUES = np.random.default_rng(1).standard_normal((9, 3)).astype(np.float32)
CORNERS = np.stack([np.arange(9) * 10.0, np.full(9, 5.0)], axis=1)
Shape = NDArray[Any]


def slide(*, mirrored: bool = False) -> list[dict[str, Any]]:
    """Return a slide of two levels, 640 and 160 px wide at 0.5 um/px, on the glass; the image is the smaller."""
    levels = []
    for uid, columns, more in (("1.2.3", 640, {}), (INSTANCE_UID, 160, {"00480007": element("UL", 80)})):
        step = (-0.16 if mirrored else 0.16) / columns  # half a pixel: the origin is the centre of the first
        placed = {
            "00480008": sequence({"0040072A": element("DS", 20 + step), "0040073A": element("DS", 40 + step)}),
            "00480102": element("DS", *((0, -1, 0, -1, 0, 0) if mirrored else (1, 0, 0, 0, 1, 0))),
            "00480002": element("FL", 0.16),
            "52009229": sequence({"00289110": sequence({"00280030": element("DS", 0.32 / columns, 0.32 / columns)})}),
        }
        levels.append(instance(uid, columns) | more | placed)
    return levels


def find_slide(series_uid: str) -> Sequence[dict[str, Any]]:
    """Return the slide, if it is asked for."""
    return slide() if series_uid == SERIES_UID else []


def group(
    graphic: str, shapes: Sequence[Shape], values: NDArray[np.float32] = VALUES, number: int = 1, label: str = "cells"
) -> hd.ann.AnnotationGroup:
    """Return a group as highdicom makes it, with an index list where a value is NaN."""
    measured = [hd.ann.Measurements(codes.SCT.Area, column, codes.UCUM.NoUnits) for column in values.T]
    return hd.ann.AnnotationGroup(
        number=number, uid=hd.UID(), label=label, annotated_property_category=codes.SCT.AnatomicalStructure,
        annotated_property_type=codes.SCT.Cell, graphic_type=graphic, graphic_data=list(shapes),
        algorithm_type="MANUAL", measurements=measured,
    )  # fmt: skip


def written(*groups: hd.ann.AnnotationGroup, kind: str = "2D") -> Dataset:
    """Return an object that highdicom wrote to a file."""
    theirs = hd.ann.MicroscopyBulkSimpleAnnotations(
        [dataset_of(rich_header())], kind, list(groups), hd.UID(), 1, hd.UID(), 1, "maker", "model", "1", "2"
    )
    buffer = BytesIO()
    theirs.save_as(buffer)
    return pydicom.dcmread(BytesIO(buffer.getvalue()))


def points() -> list[Shape]:
    """Return a point an annotation."""
    return [corner[None].astype(np.float32) for corner in CORNERS]


def theirs() -> Dataset:
    """Return nine points with three measurements."""
    return written(group("POINT", points()))


def rectangle(x: float, y: float) -> Shape:
    """Return the corners of a rectangle of 8 x 4 px."""
    return np.array([[x, y], [x + 8, y], [x + 8, y + 4], [x, y + 4]])


def ellipse(x: float, y: float) -> Shape:
    """Return the ends of the axes of an ellipse of 5 and 2 px, turned so that the long one is (3, 4)."""
    centre, long, short = np.array([x + 4, y + 5]), np.array([3.0, 4.0]), np.array([1.6, -1.2])
    return np.array([centre - long, centre + long, centre - short, centre + short])


def polygon(x: float, y: float) -> Shape:
    """Return a triangle, or a pentagon: their lengths differ."""
    more = [[x + 1, y + 4], [x + 2, y + 6]] if x % 20 else []
    return np.array([[x, y], [x + 8, y + 1], [x + 4, y + 6], *more])


REACH = (np.hypot(3, 1.6), np.hypot(4, 1.2))


@pytest.mark.parametrize(
    ("graphic", "shape", "box"),
    [
        ("RECTANGLE", rectangle, (0, 0, 8, 4)),
        ("ELLIPSE", ellipse, (4 - REACH[0], 5 - REACH[1], 2 * REACH[0], 2 * REACH[1])),
        ("POLYGON", polygon, (0, 0, 8, 6)),
        ("POLYLINE", polygon, (0, 0, 8, 6)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_shape_becomes_its_box(
    graphic: str, shape: Callable[[float, float], Shape], box: tuple[float, ...], dtype: Any
) -> None:
    """Whatever is drawn, in floats or doubles: the box around it, and the values untouched."""
    read = read_objects([written(group(graphic, [shape(x, y).astype(dtype) for x, y in CORNERS]))])
    assert np.array_equal(read.matrix, VALUES)
    assert np.allclose(read.positions_px, CORNERS + box[:2], atol=1e-4)
    assert np.array_equal(read.boxes[:, 2:], np.rint(np.tile(box[2:], (9, 1))))


def test_points_without_their_slide_stay_in_its_image() -> None:
    """Positions are the image's, a note says so, and what nobody said is empty."""
    read = read_objects([theirs()])
    assert np.array_equal(read.positions_px, CORNERS)
    assert read.boxes[3].tolist() == [30, 5, 0, 0]
    assert (read.positions_um, read.digest_verified, read.fallbacks) == (None, False, None)
    assert [note for note in read.notes if "pixels of the image" in note]
    assert (read.provenance.slidewire, read.provenance.encoder, read.provenance.weights_sha256) == ("", "", "")
    assert read.slide == SERIES_UID
    assert len(read.columns) == 3
    assert (read.origin.study_uid, read.origin.image_uid) == (STUDY_UID, INSTANCE_UID)
    assert read.provenance.result_key == read_objects([theirs_again(read.origin.instance_uid)]).provenance.result_key


def theirs_again(uid: str) -> Dataset:
    """Return the same values under an instance UID."""
    dataset = theirs()
    dataset.SOPInstanceUID = uid
    return dataset


def test_points_with_their_slide_are_in_its_finest_level() -> None:
    """The slide tells how many pixels of level 0 one of the image's is, and how large those are."""
    read = read_objects([theirs()], find_slide=find_slide)
    assert np.array_equal(read.positions_px, CORNERS * 4)
    assert read.positions_um is not None
    assert np.allclose(read.positions_um, CORNERS * 4 * 0.5)
    assert (read.provenance.level, read.provenance.level_scale, read.provenance.slide_px) == (1, (4.0, 4.0), (640, 320))
    assert read.notes == ()


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("mirrored", [True, False])
def test_millimetres_become_pixels_of_the_image(*, flat: bool, mirrored: bool) -> None:
    """3D coordinates, with one z for all or one each, lie where they lie on the glass, however that is turned."""
    across = CORNERS * 0.002
    offset = -across[:, ::-1] if mirrored else across
    z = np.zeros(9) if flat else np.arange(9) / 1000
    millimetres = np.column_stack([offset + np.array([20, 40]), z])
    dataset = written(group("POINT", [point[None] for point in millimetres]), kind="3D")
    assert ("CommonZCoordinateValue" in dataset.AnnotationGroupSequence[0]) is flat
    with pytest.raises(ResultNotFound, match="millimetres"):
        read_objects([dataset])
    read = read_objects([dataset], find_slide=lambda _: slide(mirrored=mirrored))
    assert np.allclose(read.positions_px, CORNERS * 4, atol=1e-3)


def test_a_missing_value_makes_a_hole() -> None:
    """A list of some annotations only, and a NaN, leave rows out as a whole; a note counts them."""
    values = VALUES.copy()
    values[2, 1] = values[4, 0] = np.nan
    dataset = written(group("POINT", points(), values))
    assert (
        "AnnotationIndexList" in dataset.AnnotationGroupSequence[0].MeasurementsSequence[1].MeasurementValuesSequence[0]
    )
    _column(dataset, 2).FloatingPointValues = np.where(np.arange(9) == 7, np.nan, VALUES[:, 2]).astype("<f4").tobytes()
    read = read_objects([dataset])
    assert np.flatnonzero(read.embeddings.holes).tolist() == [2, 4, 7]
    assert np.array_equal(read.embeddings.whole().matrix, np.delete(VALUES, [2, 4, 7], axis=0))
    assert read.notes[0] == "3 of 9 annotations lack a measurement: they are holes"


def test_one_of_several_groups_is_chosen() -> None:
    """By number or label; without a choice they are named, and one that is not there is not found."""
    dataset = written(group("POINT", points()), group("POINT", points(), VALUES + 1, 2, "nuclei"))
    for choice in ("2", "nuclei"):
        assert np.array_equal(read_objects([dataset], choice).matrix, VALUES + 1)
    with pytest.raises(ResultNotFound, match=r"1 \(cells\), 2 \(nuclei\). Choose one with --group"):
        read_objects([dataset])
    with pytest.raises(ResultNotFound):
        read_objects([dataset], "3")


def test_several_objects_are_to_be_told_apart() -> None:
    """Two objects of another writer are no parts of one result; none is nothing at all."""
    with pytest.raises(ResultNotFound):
        read_objects([theirs(), theirs()])
    with pytest.raises(ResultNotFound):
        read_objects([])


def _column(dataset: Dataset, index: int) -> Dataset:
    found: Dataset = dataset.AnnotationGroupSequence[0].MeasurementsSequence[index].MeasurementValuesSequence[0]
    return found


def _indexed(*indices: int) -> Callable[[Dataset], None]:
    def damage(dataset: Dataset) -> None:
        values = _column(dataset, 1)
        values.AnnotationIndexList = np.array(indices, "<u4").tobytes()
        values.FloatingPointValues = VALUES[: len(indices), 1].tobytes()

    return damage


def _infinite(dataset: Dataset) -> None:
    _column(dataset, 0).FloatingPointValues = np.where(np.arange(9) == 4, np.inf, VALUES[:, 0]).astype("<f4").tobytes()


def _short(dataset: Dataset) -> None:
    _column(dataset, 0).FloatingPointValues = VALUES[:8, 0].tobytes()


def _torn(dataset: Dataset) -> None:
    _column(dataset, 0).FloatingPointValues = VALUES[:, 0].tobytes()[:-2]


def _empty(dataset: Dataset) -> None:
    _column(dataset, 0).FloatingPointValues = b""


def _no_values(dataset: Dataset) -> None:
    del dataset.AnnotationGroupSequence[0].MeasurementsSequence[0].MeasurementValuesSequence


def _few_points(dataset: Dataset) -> None:
    held = dataset.AnnotationGroupSequence[0]
    held.PointCoordinatesData = held.PointCoordinatesData[:-8]


def _far(dataset: Dataset) -> None:
    dataset.AnnotationGroupSequence[0].PointCoordinatesData = np.full(18, 3e9, "<f4").tobytes()


def _nowhere(dataset: Dataset) -> None:
    dataset.AnnotationGroupSequence[0].PointCoordinatesData = np.full(18, np.nan, "<f4").tobytes()


def _groupless(dataset: Dataset) -> None:
    del dataset.AnnotationGroupSequence


def _many(dataset: Dataset) -> None:
    """Claim a matrix of terabytes in a few bytes."""
    held = dataset.AnnotationGroupSequence[0]
    held.NumberOfAnnotations = 2000
    held.PointCoordinatesData = bytes(2000 * 8)
    item = held.MeasurementsSequence[0]
    item.MeasurementValuesSequence[0].AnnotationIndexList = b""
    item.MeasurementValuesSequence[0].FloatingPointValues = b""
    held.MeasurementsSequence = [item] * 500


CORRUPTIONS = {
    "unordered": _indexed(1, 3, 2),
    "duplicated": _indexed(1, 2, 2),
    "out of range": _indexed(1, 2, 10),
    "0-based": _indexed(*range(9)),
    "infinite": _infinite,
    "short": _short,
    "torn": _torn,
    "empty": _empty,
    "no values": _no_values,
    "few points": _few_points,
    "far": _far,
    "nowhere": _nowhere,
    "many": _many,
    "groupless": _groupless,
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_does_not_fit_is_corrupt(name: str) -> None:
    """A list that is no list of the annotations is refused, not guessed at."""
    dataset = theirs()
    CORRUPTIONS[name](dataset)
    with pytest.raises(ResultCorrupt):
        read_objects([dataset])


def test_full_index_lists_and_none_are_the_same() -> None:
    """A list of all annotations changes nothing."""
    dataset = theirs()
    _indexed(*range(1, 10))(dataset)
    assert np.array_equal(read_objects([dataset]).matrix, VALUES)


@pytest.mark.parametrize("starts", [(1, 7, 5), (0, 6, 12), (1, 8, 13), (1, 7, 700), (1, 7)])
def test_point_indices_that_divide_nothing_are_corrupt(starts: tuple[int, ...]) -> None:
    """Indices count numbers from 1, upwards, to whole points."""
    dataset = written(group("POLYGON", [polygon(x, 5.0) for x in (0.0, 20.0, 40.0)], VALUES[:3]))
    dataset.AnnotationGroupSequence[0].LongPrimitivePointIndexList = np.array(starts, "<u4").tobytes()
    with pytest.raises(ResultCorrupt):
        read_objects([dataset])


def test_what_has_no_place_in_the_slide_is_not_found() -> None:
    """Coordinates in single frames, graphics nobody knows, and no group."""
    frames, unknown, none = theirs(), theirs(), theirs()
    frames.PixelOriginInterpretation = "FRAME"
    unknown.AnnotationGroupSequence[0].GraphicType = "SPLINE"
    none.AnnotationGroupSequence = []
    for dataset in (frames, unknown, none):
        with pytest.raises(ResultNotFound):
            read_objects([dataset])


def test_a_slide_that_is_of_no_help_is_passed_over() -> None:
    """A series without that image, without a slide, or of nonsense leaves the positions in the image."""
    for found in ([instance("1.2.3")], [{}], [{"00080018": 5}], []):
        read = read_objects([theirs()], find_slide=lambda _, found=found: found)
        assert np.array_equal(read.positions_px, CORNERS)
        assert read.provenance.level_scale == (1.0, 1.0)
    assert no_slide(SERIES_UID) == ()
