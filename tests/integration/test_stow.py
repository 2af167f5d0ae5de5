"""Write-back into archives that refuse, lie, fail once, or hold something else already."""

import json
import threading
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.services.command import Said, Slidewire
from tests.services.hostile import Answer, Asked, HostileServer, hostile_server
from tests.services.pacs import SlideInPacs, fetch_instance

_JSON = {"Content-Type": "application/dicom+json"}
_ASK = ("--encoder", "pixel-grid", "--write-back")


def _failed(reason: int, failures: str = "00081198") -> bytes:
    """Return a STOW response that says an instance was not stored (PS3.18 10.5.3)."""
    sop_class, sop, failure = "00081150", "00081155", "00081197"
    item = {
        sop_class: {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.91.1"]},
        sop: {"vr": "UI", "Value": ["1.2.3"]},
        failure: {"vr": "US", "Value": [reason]},
    }
    return json.dumps({failures: {"vr": "SQ", "Value": [item]}}).encode()


def _failed_in_xml(reason: int) -> bytes:
    """Return the same in the Native DICOM Model (PS3.19 A.1)."""
    number = f'<DicomAttribute tag="00081197" vr="US" keyword="FailureReason"><Value number="1">{reason}</Value>'
    item = f'<Item number="1">{number}</DicomAttribute></Item>'
    failed = f'<DicomAttribute tag="00081198" vr="SQ" keyword="FailedSOPSequence">{item}</DicomAttribute>'
    return f'<?xml version="1.0"?><NativeDicomModel>{failed}</NativeDicomModel>'.encode()


def _embed(slidewire: Slidewire, server: HostileServer, slide: SlideInPacs, *more: str) -> Said:
    slidewire.environment["SLIDEWIRE_ENDPOINTS__PACS__URL"] = server.url
    return slidewire("embed", slide.source, *_ASK, *more, "--json")


def _refusing(answer: Answer) -> Callable[[Asked], Answer | None]:
    return lambda asked: answer if asked.method == "POST" else None


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(400), "STORE_REFUSED"),
        (Answer(400, b"<html>no</html>", {"Content-Type": "text/html"}), "STORE_REFUSED"),
        (Answer(409), "STORE_REFUSED"),
        (Answer(409, _failed(0xA900), _JSON), "STORE_REFUSED"),
        (Answer(202, _failed(0xC000), _JSON), "STORE_REFUSED"),
        (Answer(202, _failed(0x0122), _JSON), "STORE_REFUSED"),
        (Answer(202, _failed(0xA700), _JSON), "ENDPOINT_BUSY"),
        (Answer(413), "STORE_REFUSED"),
        (Answer(415), "STORE_REFUSED"),
        (Answer(200), "STORE_REFUSED"),
        (Answer(200, b"{}", _JSON), "STORE_REFUSED"),
        (Answer(200, b"not json", _JSON), "STORE_REFUSED"),
        (Answer(200, b"no type"), "STORE_REFUSED"),
        (Answer(200, b"<broken", {"Content-Type": "application/dicom+xml"}), "STORE_REFUSED"),
        pytest.param(
            Answer(202, _failed_in_xml(0xA701), {"Content-Type": "application/dicom+xml"}),
            "ENDPOINT_BUSY",
            marks=pytest.mark.faults,
        ),
        pytest.param(Answer(202, _failed(0xA700, "0008119A"), _JSON), "ENDPOINT_BUSY", marks=pytest.mark.faults),
        (Answer(200, b'{"00081198": {"vr": "LO", "Value": ["x"]}}', _JSON), "STORE_REFUSED"),
        (Answer(403), "ACCESS_DENIED"),
        (Answer(302, b"", {"Location": "http://127.0.0.1:1/"}), "RESPONSE_INVALID"),
    ],
    ids=lambda value: f"{value.status}-{value.body[-20:]!r}" if isinstance(value, Answer) else value,
)
def test_a_refusal_is_an_error(slidewire: Slidewire, pacs_slide: SlideInPacs, answer: Answer, code: str) -> None:
    """Whatever way an archive says no, or says yes and has nothing: one line, and no report sent."""
    before = pacs_slide.instances()
    with hostile_server(_refusing(answer), pacs_slide.orthanc.dicomweb) as server:
        said = _embed(slidewire, server, pacs_slide)
    assert (said.rc, said.json["state"]) == (1, "failed"), said
    assert said.json["error"]["code"] == code, said
    assert said.json["outputs"] == []
    assert said.stderr == f"slidewire: {code}: {said.json['error']['message']}\n"
    assert pacs_slide.instances() == before
    sent = [pydicom.dcmread(BytesIO(file)) for asked in server.stored for file in asked.objects]
    assert {dataset.Modality for dataset in sent} == {"ANN"}
    uids = (pacs_slide.slide.study_uid, pacs_slide.slide.series_uid, str(sent[0].SOPInstanceUID))
    assert not [uid for uid in uids if uid in said.stderr]


def test_a_server_that_fails_once_gets_all_of_it(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """After a 500 the whole object is sent again, and so is one of more than a chunk."""
    failures = [Answer(500), Answer(503, b"", {"Retry-After": "0"})]
    answer = lambda asked: failures.pop() if asked.method == "POST" and failures else None  # noqa: E731
    with hostile_server(answer, pacs_slide.orthanc.dicomweb) as server:
        said = _embed(slidewire, server, pacs_slide, "--stride-px", "48")
    assert said.rc == 0, said
    first, second, third, report = server.stored
    assert first.body == second.body == third.body
    assert len(first.body) > 1_000_000
    assert first.headers["Content-Length"] == str(len(first.body)), "servers that want no chunks are told the length"
    assert report.body != third.body
    assert len(pacs_slide.instances()) == len(pacs_slide.slide.levels) + 2


@pytest.mark.parametrize(
    "said", [Answer(409), Answer(400), Answer(202, _failed(0xC000), _JSON)], ids=lambda one: one.status
)
def test_a_server_that_stores_what_it_refuses(slidewire: Slidewire, pacs_slide: SlideInPacs, said: Answer) -> None:
    """Whatever is said of an object that is there with our values, it is stored, and not sent twice."""

    def answer(asked: Asked) -> Answer | None:
        if asked.method == "POST":
            for file in asked.objects:
                path = slidewire.folder / "sent.dcm"
                path.write_bytes(file)
                pacs_slide.orthanc.load(path)
            return said
        return None

    with hostile_server(answer, pacs_slide.orthanc.dicomweb) as server:
        done = _embed(slidewire, server, pacs_slide)
    assert done.rc == 0, done
    assert len(server.stored) == 2


def _changed(file: bytes) -> bytes:
    """Return an annotations object with one number changed."""
    dataset = pydicom.dcmread(BytesIO(file))
    measurement = dataset.AnnotationGroupSequence[0].MeasurementsSequence[5]
    values = measurement.MeasurementValuesSequence[0]
    numbers = np.frombuffer(values.FloatingPointValues, "<f4").copy()
    numbers[0] += 0.25
    values.FloatingPointValues = numbers.tobytes()
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_a_server_that_holds_other_bytes_is_found_out(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """200 for an object that comes back with one number changed is STORE_MISMATCH."""
    sent: dict[str, bytes] = {}

    def answer(asked: Asked) -> Answer | None:
        if asked.method == "POST":
            [file] = asked.objects
            sent[str(pydicom.dcmread(BytesIO(file)).SOPInstanceUID)] = _changed(file)
            return Answer(200, b"{}", _JSON)
        held = sent.get(asked.path.rpartition("/")[2])
        if held is None:
            return None
        body = b"--edge\r\nContent-Type: application/dicom\r\n\r\n" + held + b"\r\n--edge--\r\n"
        return Answer(200, body, {"Content-Type": 'multipart/related; type="application/dicom"; boundary=edge'})

    with hostile_server(answer, pacs_slide.orthanc.dicomweb) as server:
        said = _embed(slidewire, server, pacs_slide)
    assert (said.rc, said.json["error"]["code"]) == (1, "STORE_MISMATCH"), said
    assert len(server.stored) == 1, "no report on what is not there"


def test_other_values_in_the_archive_are_not_overwritten(
    slidewire: Slidewire, pacs_slide: SlideInPacs, tmp_path: Path
) -> None:
    """Orthanc holds our UID with another number: STORE_MISMATCH, both stay as they are; export notices, too."""
    files = slidewire.beside("files").done(
        "embed", pacs_slide.url, "--encoder", "pixel-grid", "--out", "out", "--dicom"
    )
    ours = files.output("annotations")
    foreign = tmp_path / "foreign.dcm"
    foreign.write_bytes(_changed(Path(ours["uri"]).read_bytes()))
    pacs_slide.orthanc.load(foreign)
    before = pacs_slide.instances()
    for _ in range(2):
        slidewire.failed("STORE_MISMATCH", "embed", pacs_slide.url, *_ASK)
    assert pacs_slide.instances() == before
    assert fetch_instance(pacs_slide.orthanc, f"/{ours['instance_uid']}") == foreign.read_bytes()
    slidewire.failed("RESULT_CORRUPT", "export", pacs_slide.url, "--out", "back.parquet")
    assert not (slidewire.folder / "back.parquet").exists()


def test_a_server_that_is_away_has_lost_nothing(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Asked again while the PACS cannot say whether it still has the result, a job that succeeded stays succeeded."""
    base = pacs_slide.orthanc.dicomweb
    away = threading.Event()
    stored = set[str]()

    def answer(asked: Asked) -> Answer | None:
        about = any(uid in asked.path for uid in stored)
        return Answer(403) if away.is_set() and about else None

    with hostile_server(answer, base) as server:
        ask = ("embed", server.url + pacs_slide.url.removeprefix(base), "--encoder", "pixel-grid", "--write-back")
        first = slidewire.done(*ask).json
        stored |= {output["instance_uid"] for output in first["outputs"]}
        away.set()
        slidewire.failed("ACCESS_DENIED", *ask)
        assert slidewire.job(first["job"])["state"] == "succeeded"
        away.clear()
        slidewire.done("endpoints", "resume", server.url.removesuffix("/dicom-web"))
        assert slidewire.done(*ask).json == first


def _about(asked: Asked, modality: str) -> bool:
    """Whether an object of a modality is sent."""
    return any(pydicom.dcmread(BytesIO(file)).Modality == modality for file in asked.objects)


def _values(slide: SlideInPacs, output: Mapping[str, str]) -> set[str]:
    """Return all values of a stored object."""
    return {str(element.value) for element in slide.instance(output["uri"]).iterall() if element.VR != "SQ"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [(Answer(202, _failed(0x0122), _JSON), "0122H"), (Answer(415), "415"), (Answer(200, b"{}", _JSON), "said yes")],
    ids=["failure reason", "status", "discarded"],
)
def test_annotations_may_be_left_out_if_refused(
    slidewire: Slidewire, pacs_slide: SlideInPacs, answer: Answer, why: str
) -> None:
    """If that is allowed, the report alone is stored and says so, as do command and ledger; asked again, it is held."""
    refuse = lambda asked: answer if asked.method == "POST" and _about(asked, "ANN") else None  # noqa: E731
    ask = ("--out", "out", "--dicom", "--annotations", "if-accepted")
    with hostile_server(refuse, pacs_slide.orthanc.dicomweb) as server:
        said = _embed(slidewire, server, pacs_slide, *ask)
        assert said.rc == 0, said
        outputs = said.json["outputs"]
        assert [output["kind"] for output in outputs] == ["parquet", "annotations", "report", "report"]
        *files, stored = outputs
        assert not [output for output in files if "note" in output]
        assert why in stored["note"]
        assert "refused the annotations" in stored["note"]
        assert slidewire.job(said.json["job"])["outputs"] == outputs
        shown = slidewire("jobs", "show", said.json["job"]).stdout
        assert stored["note"] in shown
        before = len(server.stored)
        assert slidewire.done("embed", pacs_slide.source, *_ASK, *ask).json == said.json
        assert len(server.stored) == before, "what is complete is not done again"
    said_there = _values(pacs_slide, stored)
    assert stored["note"] in said_there, "the report does not say what is missing"
    assert files[0]["sha256"] in said_there, "the report does not name the table"
    assert files[1]["instance_uid"] not in said_there, "the report refers to what is not there"
    assert stored["instance_uid"] != files[2]["instance_uid"], "two reports that differ under one UID"
    assert len(pacs_slide.instances()) == len(pacs_slide.slide.levels) + 1


def test_once_annotations_are_accepted_nothing_stands_in_the_way(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """After a report without annotations, an archive that takes them gets them, with a report of their own."""
    refuse = lambda asked: Answer(415) if asked.method == "POST" and _about(asked, "ANN") else None  # noqa: E731
    ask = ("--out", "out", "--annotations", "if-accepted")
    with hostile_server(refuse, pacs_slide.orthanc.dicomweb) as server:
        first = _embed(slidewire, server, pacs_slide, *ask).output("report")
    slidewire.environment["SLIDEWIRE_ENDPOINTS__PACS__URL"] = pacs_slide.orthanc.dicomweb
    again = slidewire.beside("again").done("embed", pacs_slide.source, *_ASK, *ask)
    assert "note" not in again.output("report")
    assert again.output("report")["instance_uid"] != first["instance_uid"]
    held = pacs_slide.instances()
    assert {again.output("annotations")["instance_uid"], first["instance_uid"]} <= set(held)


def test_a_report_that_is_refused_ends_the_job(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Without a report nothing would say what happened: that is never left out."""
    refuse = lambda asked: Answer(415) if asked.method == "POST" and _about(asked, "SR") else None  # noqa: E731
    with hostile_server(refuse, pacs_slide.orthanc.dicomweb) as server:
        said = _embed(slidewire, server, pacs_slide, "--out", "out", "--annotations", "if-accepted")
    assert said.json["error"]["code"] == "STORE_REFUSED", said
    assert "415" in said.json["error"]["message"]


def test_a_refusal_names_the_way_out(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Who wants the annotations at any price is told the reason, and the option."""
    with hostile_server(_refusing(Answer(202, _failed(0x0122), _JSON)), pacs_slide.orthanc.dicomweb) as server:
        said = _embed(slidewire, server, pacs_slide)
    assert "0122H" in said.json["error"]["message"]
    assert "--annotations if-accepted" in said.json["error"]["message"]


def test_the_report_is_the_same_everywhere(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """What lies in the folder and what the PACS holds are the same bytes, and name the table by its digest."""
    said = slidewire.done("embed", pacs_slide.url, *_ASK, "--out", "out", "--dicom")
    table, *objects = said.json["outputs"]
    for kind in ("annotations", "report"):
        file, stored = [output for output in objects if output["kind"] == kind]
        assert file["sha256"] == stored["sha256"]
        assert fetch_instance(pacs_slide.orthanc, stored["uri"]) == Path(file["uri"]).read_bytes()
    assert table["sha256"] in _values(pacs_slide, stored)
