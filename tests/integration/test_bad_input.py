"""Whatever is wrong: one clear line, a stable code, an exit status, and nothing half-written."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.services.command import Said, Slidewire
from tests.services.gcs import GcsServer
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs
from tests.services.ports import free_port
from tests.services.slides import SlideOnDisk

_GRID = ("--encoder", "pixel-grid")
_OUT = ("--out", "out")
_UIDS = "studies/1.2.826.0.1.99.1/series/1.2.826.0.1.99.2"
_JSON = {"Content-Type": "application/dicom+json"}


def _refused(slidewire: Slidewire, code: str, *arguments: object, unsaid: tuple[str, ...] = ()) -> Said:
    """Run a command that must fail with `code`, write nothing, and not say what is identifying."""
    said = slidewire.failed(code, *arguments)
    assert not [word for word in ("1.2.826.0.1.99", "2.25.", *unsaid) if word in said.stderr], said
    assert not list(slidewire.folder.glob("out/**/*")), "something was written"
    return said


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Write a small image."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(3).integers(0, 255, (300, 300, 3), np.uint8)).save(path)
    return path


def test_an_unknown_encoder(slidewire: Slidewire, photo: Path) -> None:
    """The message lists the encoders there are; the installed program says it in plain text, too."""
    said = _refused(slidewire, "ENCODER_UNKNOWN", "embed", photo, "--encoder", "resnet", *_OUT)
    assert "path-foundation" in said.stderr
    assert "pixel-grid" in said.stderr
    plain = slidewire.program("embed", photo, "--encoder", "resnet", *_OUT)
    assert (plain.rc, plain.stdout, plain.stderr) == (said.rc, "", said.stderr)


def test_an_extra_that_is_missing(slidewire: Slidewire, photo: Path, tmp_path: Path) -> None:
    """Without PyTorch the message names the extra."""
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    slidewire.environment["PYTHONPATH"] = str(tmp_path / "blocked")
    said = slidewire.program("embed", photo, "--encoder", "efficientnet-lite0", "--all-patches", *_OUT, "--json")
    assert (said.rc, said.json["error"]["code"], said.json["state"]) == (1, "EXTRA_MISSING", "failed")
    assert said.stderr == f"slidewire: EXTRA_MISSING: {said.json['error']['message']}\n"
    assert "slidewire[torch]" in said.stderr
    assert not (slidewire.folder / "out").exists()


def test_an_unknown_series(slidewire: Slidewire, orthanc: Orthanc) -> None:
    """A series that Orthanc does not have is not found, by embed, submit and export."""
    url = f"{orthanc.dicomweb}/{_UIDS}"
    for command in ("embed", "submit"):
        _refused(slidewire, "SERIES_NOT_FOUND", command, url, *_GRID, *_OUT)
    _refused(slidewire, "SERIES_NOT_FOUND", "export", url, "--out", "out/back.npz")
    assert slidewire.done("jobs").json == []


def test_a_series_that_is_no_slide(slidewire: Slidewire, pacs_slide: SlideInPacs, tmp_path: Path) -> None:
    """Our own annotations and a CT are no slides; export finds nothing for a slide that was never embedded."""
    _refused(slidewire, "RESULT_NOT_FOUND", "export", pacs_slide.url, "--out", "out/back.npz")
    done = slidewire.done("embed", pacs_slide.url, *_GRID, "--write-back")
    before = pacs_slide.instances()
    for kind in ("annotations", "report"):
        series = f"{pacs_slide.study_url}/series/{done.output(kind)['series_uid']}"
        _refused(slidewire, "NOT_A_SLIDE", "embed", series, *_GRID, *_OUT, "--write-back")
    ct = pydicom.Dataset()
    ct.file_meta = FileMetaDataset()
    ct.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ct.SOPClassUID, ct.Modality, ct.PatientID = CTImageStorage, "CT", "none"
    ct.SOPInstanceUID, ct.SeriesInstanceUID = generate_uid(), generate_uid()
    ct.StudyInstanceUID = pacs_slide.slide.study_uid
    ct.Rows = ct.Columns = 4
    ct.save_as(tmp_path / "ct.dcm", enforce_file_format=True)
    _refused(slidewire, "NOT_A_SLIDE", "embed", tmp_path / "ct.dcm", *_GRID, *_OUT)
    assert pacs_slide.instances() == before


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(401), "ACCESS_DENIED"),
        (Answer(403), "ACCESS_DENIED"),
        (Answer(404), "SERIES_NOT_FOUND"),
        (Answer(204), "SERIES_NOT_FOUND"),
        (Answer(200, b"[]", _JSON), "SERIES_NOT_FOUND"),
        (Answer(500), "ENDPOINT_FAILED"),
        (Answer(429, b"", {"Retry-After": "3600"}), "ENDPOINT_BUSY"),
        (Answer(200, b"<html>Log in, canary</html>", {"Content-Type": "text/html"}), "RESPONSE_INVALID"),
        (Answer(200, b'[{"0008', _JSON), "RESPONSE_INVALID"),
        (Answer(200, b'{"a": 1}', _JSON), "RESPONSE_INVALID"),
        (Answer(200, b'[1, null, {"00080018": 7}]', _JSON), "NOT_A_SLIDE"),
    ],
    ids=lambda value: f"{value.status}-{value.body[:20]!r}" if isinstance(value, Answer) else value,
)
def test_a_server_that_misbehaves(slidewire: Slidewire, answer: Answer, code: str) -> None:
    """Every wrong answer to a request for metadata has its code, and its text is not repeated."""
    with hostile_server(lambda _: answer) as server:
        _refused(slidewire, code, "embed", f"{server.url}/{_UIDS}", *_GRID, *_OUT, "--write-back", unsaid=("canary",))
    assert 1 <= len(server.asked) <= 4
    assert not server.stored


def test_a_redirect_is_not_followed(slidewire: Slidewire) -> None:
    """A server that sends us elsewhere is refused, and the other place hears nothing (nor any token)."""
    with hostile_server(lambda _: Answer(200, b"[]", _JSON)) as other:
        there = Answer(302, b"", {"Location": f"{other.url}/{_UIDS}/metadata"})
        with hostile_server(lambda _: there) as server:
            _refused(slidewire, "RESPONSE_INVALID", "embed", f"{server.url}/{_UIDS}", *_GRID, *_OUT)
    assert not other.asked


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (Answer(404), "FRAME_MISSING"),
        (Answer(500), "ENDPOINT_FAILED"),
        (Answer(200, b"<html/>", {"Content-Type": "text/html"}), "RESPONSE_INVALID"),
        pytest.param(
            Answer(200, b"--e\r\ntorn", {"Content-Type": "multipart/related; boundary=e"}),
            "RESPONSE_INVALID",
            marks=pytest.mark.faults,
        ),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Answer) else value,
)
def test_frames_that_do_not_come(slidewire: Slidewire, pacs_slide: SlideInPacs, frames: Answer, code: str) -> None:
    """Metadata promise frames that the server then does not give: an error, never a black patch."""

    def answer(asked: Asked) -> Answer | None:
        # The first frame of each instance comes: it is what tells the transfer syntax.
        return frames if "/frames/" in asked.path and not asked.path.endswith("/frames/1") else None

    with hostile_server(answer, pacs_slide.orthanc.dicomweb) as server:
        url = f"{server.url}/studies/{pacs_slide.slide.study_uid}/series/{pacs_slide.slide.series_uid}"
        _refused(slidewire, code, "embed", url, *_GRID, "--all-patches", *_OUT, "--write-back")
    assert not server.stored


def test_tables_that_the_slide_cannot_fill(slidewire: Slidewire, photo: Path) -> None:
    """A layout in micrometres is refused for a slide without a spacing before the slide is embedded."""
    said = _refused(slidewire, "RESULT_INVALID", "embed", photo, *_GRID, "--all-patches", *_OUT, "--table", "stamp")
    assert "The layout stamp " in said.stderr


def test_frames_of_wrong_bytes(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """A frame whose JPEG is torn or of another size ends the job: nothing is invented."""

    def torn(asked: Asked) -> Answer | None:
        if "/frames/" not in asked.path or asked.path.endswith("/frames/1"):
            return None
        count = asked.path.rpartition("/")[2].count(",") + 1
        part = (
            b"--e\r\nContent-Type: image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.50\r\n\r\n\xff\xd8\xff\xdbnope\r\n"
        )
        kind = 'multipart/related; type="image/jpeg"; boundary=e'
        return Answer(200, part * count + b"--e--\r\n", {"Content-Type": kind})

    with hostile_server(torn, pacs_slide.orthanc.dicomweb) as server:
        url = f"{server.url}/studies/{pacs_slide.slide.study_uid}/series/{pacs_slide.slide.series_uid}"
        _refused(slidewire, "FRAME_UNDECODABLE", "embed", url, *_GRID, "--all-patches", *_OUT)


def test_no_network(slidewire: Slidewire) -> None:
    """A port on which nobody listens is unreachable."""
    url = f"http://127.0.0.1:{free_port()}/dicom-web/{_UIDS}"
    _refused(slidewire, "ENDPOINT_UNREACHABLE", "embed", url, *_GRID, *_OUT)


def test_patches_that_cannot_be(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Finer than the slide, outside of it, larger than it, contradictory, or no list at all."""
    embed = ("embed", cmu_slide.folder, *_GRID, *_OUT)
    said = _refused(slidewire, "SPACING_TOO_FINE", *embed, "--spacing-um", "0.25")
    assert "0.499" in said.stderr
    listed = slidewire.folder / "patches.csv"
    listed.write_text("x,y\n0,0\n2000,10\n")
    said = _refused(slidewire, "PATCH_OUTSIDE_SLIDE", *embed, "--coordinates", listed)
    assert "(2000, 10)" in said.stderr
    listed.write_text("a,b\n0,0\n")
    _refused(slidewire, "REQUEST_INVALID", *embed, "--coordinates", listed)
    listed.write_text("x,y\n0,zero\n")
    assert "line 2" in _refused(slidewire, "REQUEST_INVALID", *embed, "--coordinates", listed).stderr
    _refused(slidewire, "SOURCE_UNREADABLE", *embed, "--coordinates", "none.csv")
    _refused(slidewire, "SLIDE_TOO_SMALL", *embed, "--spacing-um", "4", "--patch-px", "1024", "--all-patches")
    for wrong in (("--native", "--spacing-um", "1"), ("--patch-px", "0"), ("--stride-px", "0"), ("--min-tissue", "2")):
        _refused(slidewire, "REQUEST_INVALID", *embed, *wrong)


def test_a_patch_request_that_is_none(slidewire: Slidewire) -> None:
    """A file that is no request says which field, and is refused whole."""
    file = slidewire.folder / "request.json"
    for text in ("{", "[]", '{"instances": []}', '{"instances": [{"raw_image_bytes": "AA=="}]}'):
        file.write_text(text)
        _refused(slidewire, "REQUEST_INVALID", "embed", "--request", file, *_GRID, *_OUT)
    file.write_text(json.dumps({"instances": [{"image_file_uri": "gs://a/b", "patch_coordinates": [{"x_origin": 0}]}]}))
    said = _refused(slidewire, "REQUEST_INVALID", "embed", "--request", file, *_GRID, *_OUT)
    assert "instances[0].patch_coordinates[0]" in said.stderr


def test_files_that_are_no_slide(slidewire: Slidewire, cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """Nothing there, nothing in it, text, and DICOM that breaks off."""
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "text.png"
    text.write_text("no image")
    torn = tmp_path / "torn.dcm"
    torn.write_bytes(cmu_slide.levels[0].read_bytes()[:150_000])
    embed = (*_GRID, *_OUT, "--all-patches")
    _refused(slidewire, "SOURCE_UNREADABLE", "embed", tmp_path / "none", *embed)
    _refused(slidewire, "NOT_A_SLIDE", "embed", empty, *embed)
    _refused(slidewire, "PIXELS_UNSUPPORTED", "embed", text, *embed)
    _refused(slidewire, "SOURCE_UNREADABLE", "embed", torn, *embed)
    torn.write_bytes(cmu_slide.levels[0].read_bytes()[:1000])
    _refused(slidewire, "NOT_A_SLIDE", "embed", torn, *embed)


def test_an_output_that_cannot_be_written(slidewire: Slidewire, photo: Path, gcs: GcsServer) -> None:
    """A file where the folder should be, no such bucket, a PACS for a slide that is in none."""
    embed = ("embed", photo, *_GRID, "--all-patches")
    (slidewire.folder / "taken").write_text("a file")
    slidewire.failed("OUTPUT_UNWRITABLE", *embed, "--out", "taken")
    assert (slidewire.folder / "taken").read_text() == "a file"
    slidewire.failed("OUTPUT_UNWRITABLE", *embed, "--out", "gs://there-is-no-such-bucket/x")
    _refused(slidewire, "REQUEST_INVALID", *embed, "--write-back")
    _refused(slidewire, "REQUEST_INVALID", *embed, *_OUT, "--dicom")
    gcs.create_bucket("slides")
    _refused(slidewire, "SOURCE_UNREADABLE", "embed", "gs://slides/none.png", *_GRID, *_OUT)


def test_settings_that_cannot_be(slidewire: Slidewire, photo: Path) -> None:
    """A wrong value, a broken file, a missing file, an unknown name: each is named, no value is shown."""
    embed = ("embed", photo, *_GRID, *_OUT)
    cases = {
        "SLIDEWIRE_BATCH_SIZE": "canary",
        "SLIDEWIRE_CONFIG": "canary.toml",
        "SLIDEWIRE_ENDPOINTS": "canary",
        "SLIDEWIRE_ENDPOINTS__PACS__URL": "ftp://canary",
        "SLIDEWIRE_LEDGER_URL": "mysql://canary:canary@host/name",
    }
    for name, value in cases.items():
        wrong = slidewire.beside(name.lower(), **{name: value})
        unsaid = () if name == "SLIDEWIRE_CONFIG" else ("canary",)
        _refused(wrong, "SETTINGS_INVALID", *embed, unsaid=unsaid)
    file = slidewire.folder / "slidewire.toml"
    for text in ("ledger_url = [", 'no_such_setting = "canary"', '[endpoints.pacs]\nurl = "canary"'):
        file.write_text(text)
        _refused(slidewire, "SETTINGS_INVALID", *embed, unsaid=("canary",))


def test_a_ledger_that_is_none(slidewire: Slidewire, photo: Path, tmp_path: Path) -> None:
    """A database that does not answer, and a file that is no ledger; a password stays unsaid."""
    embed = ("embed", photo, *_GRID, *_OUT)
    slidewire.environment["SLIDEWIRE_LEDGER_URL"] = f"postgresql://canary:canary@127.0.0.1:{free_port()}/ledger"
    _refused(slidewire, "LEDGER_UNAVAILABLE", *embed, unsaid=("canary",))
    (tmp_path / "none.sqlite").write_text("this is no database at all, " * 100)
    slidewire.environment["SLIDEWIRE_LEDGER_URL"] = f"sqlite:///{tmp_path / 'none.sqlite'}"
    _refused(slidewire, "LEDGER_INVALID", *embed)
    _refused(slidewire, "LEDGER_INVALID", "jobs")


def test_addresses_that_are_refused(slidewire: Slidewire) -> None:
    """No such endpoint, on no allow-list, with a password in it, no series in it, no UID."""
    embed = (*_GRID, *_OUT)
    _refused(slidewire, "REQUEST_INVALID", "embed", "archive/1.2.826.0.1.99.1/1.2.826.0.1.99.2", *embed)
    with_password = f"https://me:canary@pacs.example.org/{_UIDS}"
    _refused(slidewire, "REQUEST_INVALID", "embed", with_password, *embed, unsaid=("canary",))
    _refused(slidewire, "REQUEST_INVALID", "embed", "https://pacs.example.org/studies/1.2.826.0.1.99.1", *embed)
    _refused(slidewire, "REQUEST_INVALID", "embed", "https://pacs.example.org/studies/1.2/series/one", *embed)
    slidewire.environment["SLIDEWIRE_ALLOWED_URLS"] = '["https://pacs.example.org"]'
    evil = f"https://pacs.example.org.evil/{_UIDS}"
    _refused(slidewire, "ENDPOINT_NOT_ALLOWED", "embed", evil, *embed)


def test_options_of_the_encoder(slidewire: Slidewire, photo: Path) -> None:
    """Options and weights that the encoder does not have, and weights that are not there."""
    embed = ("embed", photo, *_OUT, "--all-patches", "--encoder")
    _refused(slidewire, "REQUEST_INVALID", *embed, "pixel-grid", "--encoder-option", "colour")
    _refused(slidewire, "REQUEST_INVALID", *embed, "pixel-grid", "--encoder-option", "colour=blue")
    _refused(slidewire, "WEIGHTS_INVALID", *embed, "pixel-grid", "--weights", photo)
    _refused(slidewire, "WEIGHTS_INVALID", *embed, "efficientnet-lite0", "--weights", "none.pth")


def test_jobs_and_exports_that_are_not_there(slidewire: Slidewire, pacs_slide: SlideInPacs, photo: Path) -> None:
    """Unknown jobs are not found, and export writes only what it can."""
    for command in ("show", "cancel", "retry"):
        _refused(slidewire, "JOB_NOT_FOUND", "jobs", command, "abc")
    _refused(slidewire, "REQUEST_INVALID", "export", photo, "--out", "out/back.npz")
    slidewire.done("embed", pacs_slide.url, *_GRID, "--write-back")
    _refused(slidewire, "REQUEST_INVALID", "export", pacs_slide.url, "--out", "out/back.csv")
    (slidewire.folder / "taken").write_text("a file")
    _refused(slidewire, "OUTPUT_UNWRITABLE", "export", pacs_slide.url, "--out", "taken/back.npz")
