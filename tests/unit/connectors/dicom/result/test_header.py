"""The source header: what is kept, what is left out, and that nothing hostile gets through."""

import json
import pickle
from typing import Any

import pytest
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from connectors.dicom.result.derived import moment_of
from connectors.dicom.result.header import dataset_of
from models.domain.errors import SourceError
from tests.unit.connectors.dicom.results import INSTANCE_UID, SERIES_UID, STUDY_UID, poor_header, rich_header, slide


def test_a_scanners_header_comes_through_as_it_is() -> None:
    """Names in two scripts, dates, sequences in sequences and UIDs are those of the slide."""
    dataset, source = dataset_of(rich_header()), slide()
    for element in source:
        if element.keyword != "OpticalPathSequence":
            assert dataset[element.tag].value == element.value, element.keyword
    assert str(dataset.PatientName) == "Müller^Jürgen=山田^太郎"


def test_binary_values_are_left_out() -> None:
    """An ICC profile inside a sequence, a bulk data URI and pixels do not travel."""
    header = rich_header()
    header["00282000"] = {"vr": "OB", "BulkDataURI": "https://pacs/bulk/1"}
    header["00081030"] = {"vr": "LO", "BulkDataURI": "https://pacs/bulk/2"}
    header["7FE00010"] = {"vr": "OB", "InlineBinary": "AAAA"}
    dataset = dataset_of(header)
    assert "ICCProfile" not in dataset.OpticalPathSequence[0]
    assert not {"ICCProfile", "StudyDescription", "PixelData"} & set(dataset.dir())


def test_attributes_of_type_2_are_there_if_only_empty() -> None:
    """A header of four UIDs gives empty patient and study attributes."""
    dataset = dataset_of(poor_header())
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
        assert str(dataset[keyword].value) == ""
    for keyword in ("AccessionNumber", "StudyID", "ReferringPhysicianName"):
        assert str(dataset[keyword].value) == ""


@pytest.mark.parametrize("tag", ["00080016", "00080018", "0020000D", "0020000E"])
@pytest.mark.parametrize(
    "attribute",
    [None, {}, {"vr": "UI"}, {"vr": "UI", "Value": ["not a uid"]}, {"vr": "UI", "Value": ["1.2", "1.3"]}, []],
)
def test_a_header_without_its_uids_is_an_error(tag: str, attribute: Any) -> None:
    """Each of the four UIDs must be there, single and well-formed; the message holds none of the others."""
    header = poor_header()
    header[tag] = attribute
    with pytest.raises(SourceError) as caught:
        dataset_of(header)
    message = str(pickle.loads(pickle.dumps(caught.value)))
    assert not any(uid in message for uid in (INSTANCE_UID, SERIES_UID, STUDY_UID, "not a uid"))


HOSTILE: dict[str, Any] = {
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "\ud800\x00A^B", "Ideographic": 7, "Phonetic": None}]},
    "00100020": {"vr": "LO", "Value": ["P" * 200]},
    "00100030": {"vr": "DA", "Value": ["born in May"]},
    "00100040": {"vr": "CS", "Value": ["female"]},
    "00101030": {"vr": "DS", "Value": ["heavy"]},
    "00101020": {"vr": "DS", "Value": [1.23456789012345678]},
    "00081030": {"vr": "LO", "Value": [{"a": 1}]},
    "00321033": {"vr": "LO", "Value": ["x" * 70000]},
    "00100021": {"vr": "OB", "Value": [1, 2]},
    "00101010": {"vr": "AS", "Value": "069Y"},
    "00081110": {"vr": "SQ", "Value": [None, 3, {"00081150": {"vr": "UI", "Value": ["x"]}}]},
    "00400512": {"vr": "LO", "Value": ["S\\26"]},
    "00091010": {"vr": "LO", "Value": ["private"]},
    "0020000": {"vr": "UL", "Value": [1]},
    "zzzzzzzz": {"vr": "LO", "Value": ["?"]},
    "00020010": {"vr": "UI", "Value": ["1.2.840.10008.1.2.1"]},
    "00280010": {"vr": "US", "Value": [70000]},
    "00480006": {"vr": "UL", "Value": [float("nan")]},
    "00480001": {"vr": "FL", "Value": [1e300]},
    "00280008": {"vr": "IS", "Value": ["9" * 40]},
}


def test_hostile_values_neither_raise_nor_warn_and_can_be_written(tmp_path: Any) -> None:
    """What remains of a header full of nonsense is a data set that pydicom writes."""
    dataset = dataset_of(poor_header() | HOSTILE)
    assert str(dataset.PatientName) == "A^B=7"
    assert dataset.PatientSex == ""
    assert len(str(dataset.PatientSize)) <= 16
    for keyword in ("PatientWeight", "StudyDescription", "RequestingService", "Rows", "NumberOfFrames"):
        assert keyword not in dataset
    assert not [element for element in dataset if element.tag.is_private]
    dataset.save_as(tmp_path / "x.dcm", implicit_vr=False, little_endian=True)


def test_sequences_without_end_are_cut() -> None:
    """Sequences nested a thousand deep end after a few levels."""
    inner: dict[str, Any] = {}
    for _ in range(400):
        inner = {"00081110": {"vr": "SQ", "Value": [inner]}}
    dataset = dataset_of(poor_header() | inner)
    depth = 0
    while "ReferencedStudySequence" in dataset:
        dataset = dataset.ReferencedStudySequence[0]
        depth += 1
    assert depth < 20


def test_a_header_survives_json() -> None:
    """The header of a plan that was stored as JSON gives the same data set."""
    assert dataset_of(json.loads(json.dumps(rich_header()))) == dataset_of(rich_header())


@pytest.mark.parametrize(
    ("values", "moment"),
    [
        ({"AcquisitionDateTime": "20260111101112.5+0100"}, ("20260111", "101112.5")),
        ({"AcquisitionDateTime": "20260111"}, ("20260111", "000000")),
        ({"AcquisitionDateTime": "2026", "ContentDate": "20260112", "ContentTime": "12"}, ("20260112", "12")),
        ({"ContentDate": "20260231", "StudyDate": "20260110", "StudyTime": "99"}, ("20260110", "000000")),
        ({}, ("19000101", "000000")),
    ],
)
def test_the_moment_of_a_slide_falls_back_step_by_step(values: dict[str, str], moment: tuple[str, str]) -> None:
    """Acquisition, content, study, 1900: the first that is a date."""
    dataset = Dataset()
    for keyword, value in values.items():
        tag = tag_for_keyword(keyword)
        dataset.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE))
    assert moment_of(dataset) == moment
