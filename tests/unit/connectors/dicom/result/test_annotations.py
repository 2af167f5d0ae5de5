"""The annotations: valid, lossless, the same to the byte, divided by a fixed rule, and read by highdicom."""

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from connectors.dicom.result import parts
from connectors.dicom.result.record import Record
from connectors.protocols import Result
from models.domain.errors import ResultError, SourceError
from tests.unit.connectors.dicom.result.test_header import HOSTILE
from tests.unit.connectors.dicom.results import (
    FRAME_OF_REFERENCE_UID,
    INSTANCE_UID,
    SERIES_UID,
    SPECIMEN_UID,
    STUDY_UID,
    annotation_files,
    annotations,
    dciodvfy,
    make_result,
    poor_header,
    rich_header,
)

HEADERS = [pytest.param(rich_header(), id="rich"), pytest.param(poor_header(), id="poor")]


def with_groups(count: int, holes: tuple[int, ...], fallbacks: tuple[int, ...] | None) -> Result:
    """Return a result of which some patches are holes or fallbacks."""
    result = make_result(count, 8, rich_header())
    result.embeddings.matrix[list(holes)] = np.nan
    marks = None if fallbacks is None else np.isin(np.arange(count), fallbacks)
    return replace(result, embeddings=replace(result.embeddings, fallbacks=marks))


def record_of(dataset: Dataset) -> Record:
    """Return the record of an object."""
    (algorithm,) = dataset.AnnotationGroupSequence[0].AnnotationGroupAlgorithmIdentificationSequence
    record = Record.from_text(algorithm.AlgorithmParameters)
    assert record is not None
    return record


def rectangles(group: Dataset) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return x, y, width, height of each."""
    corners = np.frombuffer(group.PointCoordinatesData, "<f4").reshape(-1, 4, 2)
    return np.hstack([corners[:, 0], corners[:, 2] - corners[:, 0]])


@pytest.mark.parametrize("dimension", [8, 384])
@pytest.mark.parametrize("header", HEADERS)
def test_dciodvfy_finds_no_error(header: dict[str, Any], dimension: int, tmp_path: Path) -> None:
    """David Clunie's validator has nothing against the object but warnings."""
    [data] = annotation_files(make_result(300, dimension, header))
    lines = dciodvfy(data, tmp_path)
    assert "MicroscopyBulkSimpleAnnotations" in lines
    assert [line for line in lines if line.startswith("Error")] == []


@pytest.mark.parametrize("header", HEADERS)
def test_highdicom_reads_the_same_bits(header: dict[str, Any]) -> None:
    """Another library gives back every value, every rectangle and every code."""
    result = make_result(250, 384, header)
    [data] = annotation_files(result)
    (group,) = hd.ann.annread(BytesIO(data)).get_annotation_groups()
    names, values, units = group.get_measurements()
    assert np.array_equal(values, result.embeddings.matrix)
    assert [name.value for name in names] == [f"EC{index:05d}" for index in range(1, 385)]
    assert {unit.value for unit in units} == {"1"}
    x, y, width, height = result.embeddings.boxes[33]
    corners = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    assert np.array_equal(group.get_graphic_data("2D")[33], corners)
    assert group.algorithm_identification.name == "efficientnet-lite0"


def test_it_belongs_to_its_slide() -> None:
    """Patient, study, specimen, frame of reference and references are the slide's, the series is its own."""
    result = make_result(20, 8, rich_header())
    dataset = annotations(result)
    assert str(dataset.PatientName) == "Müller^Jürgen=山田^太郎"
    assert (dataset.PatientIdentityRemoved, dataset.DeidentificationMethod) == ("YES", "Basic profile")
    assert dataset.StudyInstanceUID == STUDY_UID
    assert dataset.SeriesInstanceUID == result.key.uid("annotations/series") != SERIES_UID
    assert dataset.SOPInstanceUID == result.key.uid("annotations")
    assert dataset.FrameOfReferenceUID == FRAME_OF_REFERENCE_UID
    assert dataset.SpecimenDescriptionSequence[0].SpecimenUID == SPECIMEN_UID
    assert dataset.ContainerIdentifier == "S26-17-A-1"
    assert dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID == INSTANCE_UID
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == SERIES_UID
    scanner, ours = dataset.ContributingEquipmentSequence
    assert (scanner.Manufacturer, ours.ManufacturerModelName) == ("Scanner Works", "Slidewire")
    assert dataset.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99SLIDEWIRE"
    assert result.embeddings.digest in dataset.AnnotationGroupSequence[0].AnnotationGroupDescription
    assert record_of(dataset).provenance["weights_sha256"] == "ab" * 32


def test_the_same_result_is_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock and no random number: a year later the bytes are the same, and the preamble is zero."""
    first = annotation_files(make_result(50, 8, rich_header()))

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2031, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr("datetime.datetime", Later)
    monkeypatch.setattr("time.time", lambda: 1_930_000_000.0)
    assert annotation_files(make_result(50, 8, rich_header())) == first
    assert first[0][:132] == b"\x00" * 128 + b"DICM"


def test_times_are_the_slides() -> None:
    """Every date in the object is the acquisition's, and 1900 for a slide that has none."""
    rich = annotations(make_result(5, 8, rich_header()))
    poor = annotations(make_result(5, 8, poor_header()))
    for event in ("InstanceCreation", "Series", "Content"):
        assert (rich[f"{event}Date"].value, rich[f"{event}Time"].value) == ("20260111", "101112.5")
        assert poor[f"{event}Date"].value == "19000101"
    assert rich.ContributingEquipmentSequence[1].ContributionDateTime == "20260111101112.5"


def test_a_hostile_header_is_written_all_the_same(tmp_path: Path) -> None:
    """Nonsense in the header neither raises nor warns on the way to the file."""
    [data] = annotation_files(make_result(5, 8, poor_header() | HOSTILE))
    assert "MicroscopyBulkSimpleAnnotations" in dciodvfy(data, tmp_path)


@pytest.mark.parametrize("holes", [(), (0, 1, 2)])
def test_no_patches_are_no_annotations(holes: tuple[int, ...]) -> None:
    """An annotation group cannot be empty, so there is no object for no patches, or for none but holes."""
    assert annotation_files(with_groups(len(holes), holes, None)) == []


@pytest.mark.parametrize("holes", [(), (1,)])
def test_a_slide_beyond_float32_is_refused(holes: tuple[int, ...]) -> None:
    """Pixels that float32 cannot count would move the rectangles, those of holes as well."""
    result = with_groups(3, holes, None)
    result.embeddings.boxes[1, 0] = 2**24 - 224
    assert annotation_files(result)
    result.embeddings.boxes[1, 0] += 1
    with pytest.raises(ResultError, match="too large"):
        annotation_files(result)


def test_an_image_file_has_no_dicom_result() -> None:
    """A source without a header is refused by name of what to do instead."""
    with pytest.raises(SourceError, match="folder"):
        annotation_files(make_result(3, 8, None))


def test_notes_without_end_still_fit() -> None:
    """Algorithm Parameters stay within VR LT, and say that notes are missing."""
    result = make_result(3, 8, rich_header(), tuple(f"{index} " + "ä" * 200 for index in range(200)))
    group = annotations(result).AnnotationGroupSequence[0]
    text = group.AnnotationGroupAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert len(text) <= 10240
    assert "further notes" in text


@pytest.mark.parametrize("name", ["e" * 5000, "病理エンコーダ" * 40, "кодировщик\\\n\x00" * 2, "مُرمِّز", "\ud800x"])
def test_any_name_of_an_encoder_is_written(name: str, tmp_path: Path) -> None:
    """Names of any length and alphabet are cut to what an attribute holds; whole they are in the record."""
    result = make_result(3, 8, rich_header())
    result = replace(result, provenance=replace(result.provenance, encoder=name, encoder_revision=name[:20]))
    [data] = annotation_files(result)
    errors = [line for line in dciodvfy(data, tmp_path) if line.startswith("Error")]
    counted = ("Length invalid for this VR", "contains invalid data values")  # in bytes; PS3.5 6.2 has characters
    assert [line for line in errors if name.isascii() or not any(text in line for text in counted)] == []
    dataset = annotations(result)
    (algorithm,) = dataset.AnnotationGroupSequence[0].AnnotationGroupAlgorithmIdentificationSequence
    assert 0 < len(algorithm.AlgorithmName) <= 64
    assert record_of(dataset).provenance["encoder"] == name


def test_an_encoder_with_an_endless_name_is_refused() -> None:
    """What does not fit into the record is no half a record."""
    result = make_result(3, 8, rich_header())
    with pytest.raises(ResultError, match="too long"):
        annotation_files(replace(result, provenance=replace(result.provenance, encoder="e" * 10_000)))


def test_fallbacks_and_holes_are_groups_of_their_own(tmp_path: Path) -> None:
    """They are rectangles with a code and without measurements; the patches with values are group 1."""
    result = with_groups(30, (3, 17), (0, 5, 29))
    [data] = annotation_files(result)
    assert [line for line in dciodvfy(data, tmp_path) if line.startswith("Error")] == []
    dataset = annotations(result)
    measured, fallbacks, holes = dataset.AnnotationGroupSequence
    boxes = result.embeddings.boxes
    for group, kept in ((measured, ~np.isin(np.arange(30), [3, 17])), (fallbacks, [0, 5, 29]), (holes, [3, 17])):
        assert np.array_equal(rectangles(group), boxes[kept])
        assert group.NumberOfAnnotations == len(boxes[kept])
    assert [group.AnnotationGroupNumber for group in dataset.AnnotationGroupSequence] == [1, 2, 3]
    assert len({group.AnnotationGroupUID for group in dataset.AnnotationGroupSequence}) == 3
    codes = [group.AnnotationPropertyTypeCodeSequence[0].CodeValue for group in (fallbacks, holes)]
    assert codes == ["FALLBACK_PATCHES", "HOLE_PATCHES"]
    assert "MeasurementsSequence" not in fallbacks
    assert "MeasurementsSequence" not in holes
    record = record_of(dataset)
    assert (record.fallbacks, record.holes, record.patches) == (3, 2, 28)
    read = hd.ann.annread(BytesIO(data)).get_annotation_groups()
    assert [group.number_of_annotations for group in read] == [28, 3, 2]


@pytest.mark.parametrize(("fallbacks", "recorded"), [(None, None), ((), 0)])
def test_no_step_that_may_fail_is_not_no_failure(fallbacks: tuple[int, ...] | None, recorded: int | None) -> None:
    """No group is written for none, and the record tells the two apart."""
    dataset = annotations(with_groups(4, (), fallbacks))
    assert len(dataset.AnnotationGroupSequence) == 1
    assert record_of(dataset).fallbacks == recorded


def test_a_large_result_is_several_instances(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Consecutive patches, as many as fit; each object says which part it is, and what the whole is."""
    monkeypatch.setattr(parts, "PART_BYTES", 10 * 8 * 4 + 31)  # ten patches of eight components, and not quite one more
    result = with_groups(27, (4, 22), (1, 11, 24))
    whole = result.embeddings.whole()
    files = annotation_files(result)
    datasets = [pydicom.dcmread(BytesIO(data)) for data in files]
    for data in files:
        assert [line for line in dciodvfy(data, tmp_path) if line.startswith("Error")] == []
    records = [record_of(dataset) for dataset in datasets]
    assert [(record.part, record.parts, record.first) for record in records] == [(1, 3, 0), (2, 3, 10), (3, 3, 20)]
    assert {(record.patches, record.whole_sha256, record.holes) for record in records} == {(25, whole.digest, 2)}
    assert [record.fallbacks for record in records] == [1, 1, 1]
    pieces = [whole.rows(0, 10), whole.rows(10, 20), whole.rows(20, 30)]
    assert [record.values_sha256 for record in records] == [piece.digest for piece in pieces]
    for data, piece in zip(files, pieces, strict=True):
        group = hd.ann.annread(BytesIO(data)).get_annotation_groups()[0]
        assert np.array_equal(group.get_measurements()[1], piece.matrix)
    boxes = np.vstack([rectangles(dataset.AnnotationGroupSequence[0]) for dataset in datasets])
    assert np.array_equal(boxes, whole.boxes)
    types = [[group.AnnotationPropertyTypeCodeSequence[0].CodeValue for group in dataset.AnnotationGroupSequence[1:]]
             for dataset in datasets]  # fmt: skip
    assert types == [["FALLBACK_PATCHES", "HOLE_PATCHES"], ["FALLBACK_PATCHES"], ["FALLBACK_PATCHES"]]
    assert np.array_equal(rectangles(datasets[1].AnnotationGroupSequence[1]), result.embeddings.boxes[[11]])


def test_parts_are_one_series_of_distinct_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """One series, numbered; the first has the UIDs of an undivided result, no UID is there twice."""
    undivided = annotations(make_result(20, 8, rich_header()))
    monkeypatch.setattr(parts, "PART_BYTES", 7 * 8 * 4)
    result = make_result(20, 8, rich_header())
    datasets = [pydicom.dcmread(BytesIO(data)) for data in annotation_files(result)]
    assert [dataset.InstanceNumber for dataset in datasets] == [1, 2, 3]
    assert {dataset.SeriesInstanceUID for dataset in datasets} == {undivided.SeriesInstanceUID}
    assert datasets[0].SOPInstanceUID == undivided.SOPInstanceUID
    assert datasets[1].SOPInstanceUID == result.key.uid("annotations/2")
    assert all(dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID for dataset in datasets)
    groups = [dataset.AnnotationGroupSequence[0].AnnotationGroupUID for dataset in datasets]
    assert len({dataset.SOPInstanceUID for dataset in datasets} | set(groups)) == 6
    assert groups[0] == undivided.AnnotationGroupSequence[0].AnnotationGroupUID


def test_one_patch_is_never_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch with more values than a part holds is a part by itself."""
    monkeypatch.setattr(parts, "PART_BYTES", 5)
    assert len(annotation_files(make_result(3, 8, rich_header()))) == 3


def test_the_rule_never_changes() -> None:
    """Another size would give another meaning to UIDs that archives hold."""
    assert parts.PART_BYTES == 2**28
