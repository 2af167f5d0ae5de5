"""De-identified export, the whole way: a slide in a real Orthanc, its result stored there, and taken out nameless."""

from pathlib import Path

import pydicom
import pytest

from tests.services.command import Said, Slidewire
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs, assert_valid, load, renamed
from tests.services.slides import SlideOnDisk

_KEY = "6e1f0d2c3b4a59687786f5e4d3c2b1a00f1e2d3c4b5a69788796a5b4c3d2e1f0"
_NAMED = {
    "PatientName": "Meyerbeer^Giacomo",
    "PatientID": "MRN-8841273",
    "AccessionNumber": "ACC-5511",
    "StudyID": "STU-77",
    "StudyDate": "20240229",
    "ContainerIdentifier": "H24-00817-B-3",
    "InstitutionName": "Klinikum Musterstadt",
    "ReferringPhysicianName": "Spontini^Gaspare",
    "DeviceSerialNumber": "SN-99120",
    "SeriesDescription": "Left breast, second opinion",
}


@pytest.fixture
def named_slide(orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path: Path) -> SlideInPacs:
    """Load a slide that says whose it is into the session's Orthanc."""
    return load(orthanc, renamed(cmu_slide, tmp_path / "slide", **_NAMED))


def _words(slide: SlideInPacs) -> list[str]:
    header = slide.slide.header
    uids = [str(element.value) for element in header.iterall() if element.VR == "UI"]
    specimen = header.SpecimenDescriptionSequence[0]
    named = [*_NAMED.values(), "Meyerbeer", "Spontini", str(specimen.SpecimenIdentifier)]
    own = [uid for uid in uids if not uid.startswith("1.2.840.10008.")]
    return [*named, *own, *(str(pydicom.dcmread(level, stop_before_pixels=True).SOPInstanceUID)
                            for level in slide.slide.levels)]  # fmt: skip


def _export(slidewire: Slidewire, source: object, out: Path) -> Said:
    """Export de-identified, as tables and objects, with days moved."""
    what = ("--dicom", "--table", "numpy", "--deidentify", "--dates", "shift")
    return slidewire.done("export", source, "--out", out, *what)


def test_nothing_names_the_patient(slidewire: Slidewire, named_slide: SlideInPacs, tmp_path: Path) -> None:
    """Tables, objects, file names and what the command says hold no word of the slide; the objects are valid."""
    (tmp_path / "key").write_text(_KEY)
    slidewire.environment |= named_slide.endpoint | {"SLIDEWIRE_DEIDENTIFY_KEY": f"file:{tmp_path / 'key'}"}
    own, shared, again = (tmp_path / name for name in ("own", "shared", "again"))
    stored = slidewire.done(
        "embed", named_slide.source, "--encoder", "pixel-grid", "--write-back", "--out", own, "--dicom"
    )
    uids = [output.get(kind, "") for output in stored.json["outputs"] for kind in ("series_uid", "instance_uid")]
    words = [*_words(named_slide), *filter(None, uids), _KEY]
    said = _export(slidewire, named_slide.source, shared)
    files = sorted(path for path in shared.rglob("*") if path.is_file())
    assert sorted(path.suffix for path in files) == [".dcm", ".dcm", ".npz", ".parquet"]
    everything = {path.name: path.read_bytes() for path in files} | {"what it says": said.stdout.encode()}
    for word in words:
        assert not [name for name, data in everything.items() if word in name or word.encode() in data], word
    for path in (path for path in files if path.suffix == ".dcm"):
        assert_valid(path)
        dataset = pydicom.dcmread(path)
        assert (dataset.PatientIdentityRemoved, dataset.LongitudinalTemporalInformationModified) == ("YES", "MODIFIED")
        assert 2014 <= int(dataset.StudyDate[:4]) <= 2024

    _export(slidewire, next(own.glob("*.annotations.dcm")), again)
    names = [path.name for path in sorted(again.iterdir())]
    assert names == [path.name for path in files], "from files the pseudonyms are those from the archive"


def test_without_a_key_nothing_is_written(slidewire: Slidewire, named_slide: SlideInPacs, tmp_path: Path) -> None:
    """The command says what to set, before it asks the server for anything."""
    slidewire.environment |= named_slide.endpoint
    said = slidewire.failed("SETTINGS_INVALID", "export", named_slide.source, "--out", tmp_path / "out", "--deidentify")
    assert "openssl rand -hex 32" in said.stderr
    assert not (tmp_path / "out").exists()
