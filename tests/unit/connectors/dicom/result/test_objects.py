"""The objects of a result: in the order in which they refer to each other, each with what identifies its file."""

import hashlib
from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
import pytest

from connectors.dicom.readback.stored_objects import values_digest
from connectors.dicom.result import parts
from connectors.dicom.result.objects import build_objects
from tests.unit.connectors.dicom.results import make_result, rich_header


def test_size_and_digest_are_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of each object's file holds of its chunks, however often they are asked for."""
    monkeypatch.setattr(parts, "PART_BYTES", 10 * 8 * 4)
    for made in build_objects(make_result(25, 8, rich_header())):
        content = b"".join(made.chunks())
        assert (len(content), hashlib.sha256(content).hexdigest()) == (made.size, made.sha256)
        assert b"".join(made.chunks()) == content


def test_all_parts_come_before_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is last, since it refers to the others; file names differ."""
    monkeypatch.setattr(parts, "PART_BYTES", 10 * 8 * 4)
    objects = list(build_objects(make_result(25, 8, rich_header())))
    assert [(made.kind, made.number) for made in objects] == [
        ("annotations", 1),
        ("annotations", 2),
        ("annotations", 3),
        ("report", 1),
    ]
    suffixes = [made.suffix for made in objects]
    assert suffixes == [".annotations.dcm", ".annotations-2.dcm", ".annotations-3.dcm", ".report.dcm"]


def test_each_object_tells_its_values_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest of its values is what a reader finds in the file, and another one's is another."""
    monkeypatch.setattr(parts, "PART_BYTES", 10 * 8 * 4)
    result, other = make_result(25, 8, rich_header()), make_result(25, 8, rich_header())
    other.embeddings.matrix[17, 3] += np.float32(0.5)
    ours, theirs = list(build_objects(result)), list(build_objects(other))
    for made in ours:
        read = pydicom.dcmread(BytesIO(b"".join(made.chunks())))
        assert values_digest(made.kind, read) == made.values_sha256
    same = [one.values_sha256 == two.values_sha256 for one, two in zip(ours, theirs, strict=True)]
    assert same == [True, False, True, False]  # the value is in the second part, and the report is on all of them


@pytest.mark.parametrize("holes", [0, 3])
def test_without_a_patch_there_is_the_report_alone(holes: int) -> None:
    """No patches, or none but holes, are no annotations."""
    result = make_result(holes, 8, rich_header())
    result.embeddings.matrix[:] = np.nan
    result = replace(result, embeddings=replace(result.embeddings))
    assert [made.kind for made in build_objects(result)] == ["report"]


def test_holes_reach_the_annotations_and_no_values_of_theirs() -> None:
    """Their boxes are a group of the first object; the values are those of the other patches."""
    result = make_result(9, 8, rich_header())
    result.embeddings.matrix[[2, 5]] = np.nan
    result = replace(result, embeddings=replace(result.embeddings))
    annotations = next(build_objects(result))
    measured, holes = annotations.dataset.AnnotationGroupSequence
    assert (measured.NumberOfAnnotations, holes.NumberOfAnnotations) == (7, 2)
    corners = np.frombuffer(holes.PointCoordinatesData, "<f4").reshape(-1, 4, 2)
    assert np.array_equal(corners[:, 0], result.embeddings.boxes[[2, 5], :2])
    assert annotations.values_sha256 == result.embeddings.digest
