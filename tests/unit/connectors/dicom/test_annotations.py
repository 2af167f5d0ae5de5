"""The annotations object: valid, lossless, the same to the byte, and read by highdicom."""

from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest

from connectors.dicom.annotations import build_annotations
from connectors.dicom.derived import to_bytes
from models.domain.errors import ResultError, SourceError
from tests.unit.connectors.dicom.results import (
    FRAME_OF_REFERENCE_UID,
    INSTANCE_UID,
    SERIES_UID,
    SPECIMEN_UID,
    STUDY_UID,
    dciodvfy,
    make_result,
    poor_header,
    rich_header,
)
from tests.unit.connectors.dicom.test_header import HOSTILE

HEADERS = [pytest.param(rich_header(), id="rich"), pytest.param(poor_header(), id="poor")]


@pytest.mark.parametrize("dimension", [8, 384])
@pytest.mark.parametrize("header", HEADERS)
def test_dciodvfy_finds_no_error(header: dict[str, Any], dimension: int, tmp_path: Path) -> None:
    """David Clunie's validator has nothing against the object but warnings."""
    lines = dciodvfy(to_bytes(build_annotations(make_result(300, dimension, header))), tmp_path)
    assert "MicroscopyBulkSimpleAnnotations" in lines
    assert [line for line in lines if line.startswith("Error")] == []


@pytest.mark.parametrize("header", HEADERS)
def test_highdicom_reads_the_same_bits(header: dict[str, Any]) -> None:
    """Another library gives back every value, every rectangle and every code."""
    result = make_result(250, 384, header)
    read = hd.ann.annread(BytesIO(to_bytes(build_annotations(result))))
    (group,) = read.get_annotation_groups()
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
    dataset = pydicom.dcmread(BytesIO(to_bytes(build_annotations(result))))
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


def test_the_same_result_is_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock and no random number: a year later the bytes are the same, and the preamble is zero."""
    first = to_bytes(build_annotations(make_result(50, 8, rich_header())))

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2031, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr("datetime.datetime", Later)
    monkeypatch.setattr("time.time", lambda: 1_930_000_000.0)
    second = to_bytes(build_annotations(make_result(50, 8, rich_header())))
    assert first == second
    assert first[:132] == b"\x00" * 128 + b"DICM"


def test_times_are_the_slides() -> None:
    """Every date in the object is the acquisition's, and 1900 for a slide that has none."""
    rich = build_annotations(make_result(5, 8, rich_header()))
    poor = build_annotations(make_result(5, 8, poor_header()))
    for event in ("InstanceCreation", "Series", "Content"):
        assert (rich[f"{event}Date"].value, rich[f"{event}Time"].value) == ("20260111", "101112.5")
        assert poor[f"{event}Date"].value == "19000101"
    assert rich.ContributingEquipmentSequence[1].ContributionDateTime == "20260111101112.5"


def test_a_hostile_header_is_written_all_the_same(tmp_path: Path) -> None:
    """Nonsense in the header neither raises nor warns on the way to the file."""
    data = to_bytes(build_annotations(make_result(5, 8, poor_header() | HOSTILE)))
    assert "MicroscopyBulkSimpleAnnotations" in dciodvfy(data, tmp_path)


def test_no_patches_are_no_annotations() -> None:
    """An annotation group cannot be empty, so it is refused with a hint."""
    with pytest.raises(ResultError, match="report alone"):
        build_annotations(make_result(0, 8, rich_header()))


def test_a_slide_beyond_float32_is_refused() -> None:
    """Pixels that float32 cannot count would move the rectangles."""
    result = make_result(3, 8, rich_header())
    result.embeddings.boxes[1, 0] = 2**24
    with pytest.raises(ResultError, match="too large"):
        build_annotations(result)


def test_an_image_file_has_no_dicom_result() -> None:
    """A source without a header is refused by name of what to do instead."""
    with pytest.raises(SourceError, match="folder"):
        build_annotations(make_result(3, 8, None))


def test_notes_without_end_still_fit() -> None:
    """Algorithm Parameters stay within VR LT, and say that notes are missing."""
    result = make_result(3, 8, rich_header(), tuple(f"{index} " + "ä" * 200 for index in range(200)))
    group = build_annotations(result).AnnotationGroupSequence[0]
    text = group.AnnotationGroupAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert len(text) <= 10240
    assert "further notes" in text
