"""Slidewire's own objects read back: every bit or an error, and no identifying word in it."""

import hashlib
import pickle
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from connectors.dicom.readback import joined
from connectors.dicom.readback.part10 import instance_of
from connectors.dicom.readback.stored_objects import compare_stored, read_annotations, read_objects, report_digest
from connectors.dicom.result import parts
from connectors.dicom.result.derived import to_bytes
from connectors.dicom.result.header import dataset_of
from connectors.dicom.result.objects import build_objects
from connectors.protocols import Result
from models.domain.errors import ResultCorrupt, ResultNotFound, SlidewireError
from tests.unit.connectors.dicom.results import (
    INSTANCE_UID,
    SERIES_UID,
    STUDY_UID,
    annotation_files,
    annotations,
    make_result,
    rich_header,
)

UID_LIKE = re.compile(r"\d+(\.\d+){3,}")


def marked(count: int = 60, dimension: int = 8) -> Result:
    """Return a result of which every seventh patch fell back."""
    result = make_result(count, dimension, rich_header())
    return replace(result, embeddings=replace(result.embeddings, fallbacks=np.arange(count) % 7 == 0))


def stored() -> Dataset:
    """Return an annotations object as an archive gives it back."""
    return annotations(marked())


@pytest.mark.parametrize(("count", "dimension"), [(1, 1), (300, 8), (300, 384)])
def test_all_comes_back_to_the_bit(count: int, dimension: int) -> None:
    """What is read is what was written: values, boxes, positions in both units, fallbacks, provenance."""
    result = marked(count, dimension)
    read = read_annotations(annotations(result))
    written = result.embeddings
    assert np.array_equal(read.matrix, written.matrix)
    assert np.array_equal(read.boxes, written.boxes)
    assert np.array_equal(read.positions_px, written.positions_px)
    assert np.array_equal(read.positions_um, written.positions_um)  # type: ignore[arg-type]
    assert np.array_equal(read.fallbacks, written.fallbacks)  # type: ignore[arg-type]
    assert (read.matrix.dtype, read.boxes.dtype) == (np.float32, np.int32)
    assert (read.digest, read.digest_verified, read.notes) == (written.digest, True, ())
    assert read.provenance == result.provenance
    assert (read.encoder, read.encoder_revision) == ("efficientnet-lite0", "r1")
    assert read.columns == tuple(f"Embedding component {index + 1}" for index in range(dimension))
    assert (read.origin.study_uid, read.origin.image_series_uid, read.origin.image_uid) == (
        STUDY_UID,
        SERIES_UID,
        INSTANCE_UID,
    )


def test_an_encoder_that_cannot_fall_back_has_no_marks() -> None:
    """None stays None, and none of several stays none."""
    assert read_annotations(annotations(make_result(9, 3, rich_header()))).fallbacks is None
    none = replace(make_result(9, 3, rich_header()).embeddings, fallbacks=np.zeros(9, np.bool_))
    marks = read_annotations(annotations(replace(make_result(9, 3, rich_header()), embeddings=none))).fallbacks
    assert marks is not None
    assert not marks.any()


def test_holes_are_told_of() -> None:
    """Patches without an embedding are not among the others; a note counts them, and their boxes are kept."""
    result = make_result(20, 4, rich_header())
    result.embeddings.matrix[[3, 5]] = np.nan
    result = replace(result, embeddings=replace(result.embeddings))
    read = read_annotations(annotations(result))
    assert np.array_equal(read.matrix, result.embeddings.whole().matrix)
    assert read.notes == ("2 patches have no embedding: their pixels could not be had",)
    assert np.array_equal(read.hole_boxes, result.embeddings.boxes[[3, 5]])


def test_lost_holes_are_noticed() -> None:
    """A result that is said to have holes, and whose group of holes is gone, is not whole."""
    result = make_result(20, 4, rich_header())
    result.embeddings.matrix[[3, 5]] = np.nan
    dataset = annotations(replace(result, embeddings=replace(result.embeddings)))
    del dataset.AnnotationGroupSequence[1]
    with pytest.raises(ResultCorrupt, match="which patches have none"):
        read_annotations(dataset)


def group_of(dataset: Dataset) -> Dataset:
    """Return the first group."""
    group: Dataset = dataset.AnnotationGroupSequence[0]
    return group


def values_of(dataset: Dataset) -> Dataset:
    """Return the values of the fourth component."""
    values: Dataset = group_of(dataset).MeasurementsSequence[3].MeasurementValuesSequence[0]
    return values


def flip(dataset: Dataset) -> None:
    """Change one bit of one value."""
    data = bytearray(values_of(dataset).FloatingPointValues)
    data[4] ^= 1
    values_of(dataset).FloatingPointValues = bytes(data)


def move(dataset: Dataset) -> None:
    """Move one rectangle by a pixel."""
    points = np.frombuffer(group_of(dataset).PointCoordinatesData, "<f4").copy()
    points[8:16:2] += 1
    group_of(dataset).PointCoordinatesData = points.tobytes()


def nudge(dataset: Dataset) -> None:
    """Move one rectangle by a quarter of a pixel, which a digest of whole pixels would not see."""
    points = np.frombuffer(group_of(dataset).PointCoordinatesData, "<f4").copy()
    points[8:16:2] += 0.25
    group_of(dataset).PointCoordinatesData = points.tobytes()


def shorten(dataset: Dataset) -> None:
    """Keep one value of a component, as Orthanc's metadata do."""
    values_of(dataset).FloatingPointValues = values_of(dataset).FloatingPointValues[:4]


def miscount(dataset: Dataset) -> None:
    """Claim more annotations than there are."""
    group_of(dataset).NumberOfAnnotations = 2**31


def drop_component(dataset: Dataset) -> None:
    """Lose a measurement."""
    del group_of(dataset).MeasurementsSequence[5]


def swap_components(dataset: Dataset) -> None:
    """Change the order of two measurements."""
    items = group_of(dataset).MeasurementsSequence
    items[1], items[2] = items[2], items[1]


def make_nan(dataset: Dataset) -> None:
    """Make a value NaN."""
    values_of(dataset).FloatingPointValues = b"\x00\x00\xc0\x7f" + values_of(dataset).FloatingPointValues[4:]


def make_a_hole(dataset: Dataset) -> None:
    """Make all values of the last patch NaN: a hole, which a digest leaves out."""
    for item in group_of(dataset).MeasurementsSequence:
        values = item.MeasurementValuesSequence[0]
        values.FloatingPointValues = values.FloatingPointValues[:-4] + b"\x00\x00\xc0\x7f"


def lose_record(dataset: Dataset) -> None:
    """Lose the record with the digest."""
    del group_of(dataset).AnnotationGroupAlgorithmIdentificationSequence


def damage_record(dataset: Dataset) -> None:
    """Cut the record down to its name."""
    group_of(dataset).AnnotationGroupAlgorithmIdentificationSequence[0].AlgorithmParameters = '{"record":1}'


def age_record(dataset: Dataset) -> None:
    """Store with a version of the future."""
    group_of(dataset).AnnotationGroupAlgorithmIdentificationSequence[0].AlgorithmParameters = '{"record":99}'


def change_digest(dataset: Dataset) -> None:
    """Record another digest of the part, and leave that of the whole."""
    item = group_of(dataset).AnnotationGroupAlgorithmIdentificationSequence[0]
    item.AlgorithmParameters = re.sub('"values_sha256":"..', '"values_sha256":"--', item.AlgorithmParameters)


def lose_reference(dataset: Dataset) -> None:
    """Lose the image that the rectangles count in."""
    del dataset.ReferencedImageSequence


def lose_fallbacks(dataset: Dataset) -> None:
    """Lose the group that says which patches fell back."""
    del dataset.AnnotationGroupSequence[1]


def move_fallback(dataset: Dataset) -> None:
    """Say of another place that it fell back."""
    group = dataset.AnnotationGroupSequence[1]
    points = np.frombuffer(group.PointCoordinatesData, "<f4").copy()
    group.PointCoordinatesData = (points + 1).tobytes()


DAMAGES = [
    flip, move, nudge, shorten, miscount, drop_component, swap_components, make_nan, make_a_hole, lose_record,
    damage_record, age_record, change_digest, lose_reference, lose_fallbacks, move_fallback,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_an_error_without_a_uid(damage: Callable[[Dataset], None]) -> None:
    """A changed, lost or added number is never a smaller or different result."""
    dataset, digest = stored(), marked().embeddings.digest
    assert compare_stored(digest, "annotations", dataset)
    damage(dataset)
    with pytest.raises(ResultCorrupt) as caught:
        read_annotations(dataset)
    assert not UID_LIKE.search(str(pickle.loads(pickle.dumps(caught.value))))
    assert not compare_stored(digest, "annotations", dataset)


def test_other_objects_hold_no_embeddings() -> None:
    """A slide, a report, and annotations without measurements are not found rather than corrupt."""
    bare = stored()
    del group_of(bare).MeasurementsSequence
    *_, report = build_objects(marked())
    for other in (dataset_of(rich_header()), report.dataset, bare, Dataset()):
        with pytest.raises(ResultNotFound):
            read_annotations(other)


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> tuple[Result, list[Dataset]]:
    """Return a result that fills three annotations objects and a bit, and these."""
    for module in (parts, joined):
        monkeypatch.setattr(module, "PART_BYTES", 20 * 8 * 4)
    result = marked(65)
    return result, [pydicom.dcmread(BytesIO(file)) for file in annotation_files(result)]


def test_parts_are_joined_in_any_order(divided: tuple[Result, list[Dataset]]) -> None:
    """Four objects are one result, to the bit, whichever comes first."""
    result, datasets = divided
    assert len(datasets) == 4
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)):
        read = read_objects(datasets[index] for index in order)
        assert np.array_equal(read.matrix, result.embeddings.matrix)
        assert np.array_equal(read.boxes, result.embeddings.boxes)
        assert np.array_equal(read.positions_um, result.embeddings.positions_um)  # type: ignore[arg-type]
        assert np.array_equal(read.fallbacks, result.embeddings.fallbacks)  # type: ignore[arg-type]
        assert (read.provenance, read.digest_verified) == (result.provenance, True)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ((0, 1, 3), "part 3 of 4 is missing"),
        ((1,), "part 1, 3, 4 of 4 is missing"),
        ((0, 1, 2, 3, 1), "Part 2 of 4 of the stored embeddings is there twice"),
    ],
)
def test_each_part_is_wanted_once(divided: tuple[Result, list[Dataset]], kept: tuple[int, ...], said: str) -> None:
    """A part that is missing or there twice is named."""
    with pytest.raises(ResultCorrupt, match=said):
        read_objects(divided[1][index] for index in kept)


def test_parts_of_two_results_are_none(divided: tuple[Result, list[Dataset]]) -> None:
    """Objects that record another whole, or nothing at all, are not mixed in."""
    other = [pydicom.dcmread(BytesIO(file)) for file in annotation_files(marked(64))]
    small = annotations(marked(12))
    for mixed in ([*divided[1][:3], other[3]], [small, small]):
        with pytest.raises(ResultCorrupt):
            read_objects(mixed)
    lost = list(divided[1])
    lose_record(lost[2])
    with pytest.raises(ResultCorrupt):
        read_objects(lost)


def test_a_part_is_compared_by_its_own_values(divided: tuple[Result, list[Dataset]]) -> None:
    """Each stored part is held against the digest of that part."""
    made = [one for one in build_objects(divided[0]) if one.kind == "annotations"]
    for one, dataset in zip(made, divided[1], strict=True):
        assert [compare_stored(one.values_sha256, "annotations", other) for other in divided[1]].count(True) == 1
        assert compare_stored(one.values_sha256, "annotations", dataset)


def in_syntax(dataset: Dataset, syntax: str) -> bytes:
    """Return an object in another transfer syntax, with its binary values turned for a big-endian one."""
    if syntax == ExplicitVRBigEndian:
        for element in dataset.iterall():
            if element.VR in {"OF", "OL"}:
                element.value = np.frombuffer(element.value, "<u4").astype(">u4").tobytes()
    made, buffer = Dataset(dataset), BytesIO()  # one that was never read in another byte order
    made.file_meta = dataset.file_meta
    made.file_meta.TransferSyntaxUID = syntax
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_the_transfer_syntax_does_not_matter(syntax: str) -> None:
    """An archive may store the object in another native syntax; the values are the same."""
    result = marked()
    read = read_annotations(instance_of(in_syntax(annotations(result), syntax)))
    assert np.array_equal(read.matrix, result.embeddings.matrix)
    assert np.array_equal(read.fallbacks, result.embeddings.fallbacks)  # type: ignore[arg-type]


def test_a_bomb_is_not_inflated() -> None:
    """A small file that inflates to gigabytes is refused, and one that is cut off, too."""
    whole = in_syntax(stored(), DeflatedExplicitVRLittleEndian)
    meta = 144 + struct.unpack_from("<I", whole, 140)[0]
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join([squeezed.compress(bytes(1 << 20)) for _ in range(80)] + [squeezed.flush()])
    for content in (whole[:meta] + bomb, whole[: len(whole) // 2]):
        with pytest.raises(ResultCorrupt):
            instance_of(content)


def test_the_report_gives_its_digest() -> None:
    """The recorded digest is that of the embeddings, and a foreign report has none."""
    result = marked()
    *_, made = build_objects(result)
    dataset = pydicom.dcmread(BytesIO(b"".join(made.chunks())))
    assert report_digest(dataset) == result.embeddings.digest
    dataset.ContentSequence = []
    for other in (dataset, stored()):
        with pytest.raises(ResultNotFound):
            report_digest(other)


def test_a_damaged_report_is_corrupt() -> None:
    """A text item without its concept is no excuse for a traceback."""
    *_, made = build_objects(marked())
    for item in made.dataset.ContentSequence[-1].ContentSequence[0].ContentSequence:
        item.pop("ConceptNameCodeSequence", None)
    with pytest.raises(ResultCorrupt):
        report_digest(made.dataset)


def test_the_stored_object_is_compared_by_its_values() -> None:
    """Equal values are equal whatever else an archive changed; other values or kinds are not."""
    result, other = marked(), marked(61)
    *_, report = build_objects(result)
    *_, another = build_objects(other)
    coerced = annotations(result)
    coerced.PatientID = "other"
    digest = result.embeddings.digest
    assert compare_stored(digest, "annotations", coerced)
    assert not compare_stored(digest, "annotations", annotations(other))
    assert compare_stored(report.values_sha256, "report", pydicom.dcmread(BytesIO(to_bytes(report.dataset))))
    assert not compare_stored(report.values_sha256, "report", another.dataset)
    assert not compare_stored(report.values_sha256, "report", coerced)
    assert not compare_stored(digest, "annotations", Dataset())
    assert not compare_stored(digest, "map", coerced)


def test_a_stored_map_is_compared_by_its_pixels() -> None:
    """The pixels decide, and an object that is no map is none."""
    pixels = np.arange(12, dtype="<f4").tobytes()
    stored_map = Dataset()
    stored_map.SOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
    assert not compare_stored(hashlib.sha256(pixels).hexdigest(), "map", stored_map)
    stored_map.FloatPixelData = pixels
    assert compare_stored(hashlib.sha256(pixels).hexdigest(), "map", stored_map)
    stored_map.FloatPixelData = pixels[::-1]
    assert not compare_stored(hashlib.sha256(pixels).hexdigest(), "map", stored_map)


CONTENT = annotation_files(marked(12, 4))[0]


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_mutilation_gives_other_numbers(data: st.DataObject) -> None:
    """Bytes changed, cut out or put in at random: the same numbers or an error of ours, never others."""
    content = bytearray(CONTENT)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(0, 64))
        content[at : at + length] = data.draw(st.binary(max_size=64))
    result = marked(12, 4).embeddings
    try:
        read = read_annotations(instance_of(bytes(content)))
    except SlidewireError:
        return
    if read.digest_verified:  # without a record it is somebody else's object
        assert np.array_equal(read.matrix, result.matrix)
        assert np.array_equal(read.boxes, result.boxes)
