"""No patient, no UID, no token in a broker, a log line or a message; the ledger knows UIDs and nothing about people."""

import base64
import json
from pathlib import Path

import pytest
from redis import Redis

from tests.services.command import Slidewire
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs, load, renamed
from tests.services.ports import wait_until
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk

_NAME, _ID, _ACCESSION, _TOKEN = "Canaria^Serina", "CANARY-PID-77", "CANARYACC55", "canary-token-31337"
_PATIENT = ("Canaria", "Serina", _ID, _ACCESSION)


@pytest.fixture
def patient(orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path: Path) -> SlideInPacs:
    """Load a slide of a patient whose data can be told from anything else."""
    slide = renamed(
        cmu_slide, tmp_path / "slide", PatientName=_NAME, PatientID=_ID, AccessionNumber=_ACCESSION,
        PatientBirthDate="19120623",
    )  # fmt: skip
    return load(orthanc, slide)


def _uids(patient: SlideInPacs) -> tuple[str, ...]:
    return (patient.slide.study_uid, patient.slide.series_uid, *patient.instances())


def _found(words: tuple[str, ...], text: str) -> list[str]:
    return [word for word in words if word.lower() in text.lower()]


def _redis(server: RedisServer) -> str:
    """Return all keys and values, bodies in clear."""
    texts = []
    with Redis.from_url(server.url) as client:
        for key in client.scan_iter():
            texts.append(repr(key))
            if client.type(key) == b"list":
                for entry in client.lrange(key, 0, -1):
                    texts += [repr(entry), base64.b64decode(json.loads(entry)["body"]).decode()]
            else:
                texts.append(repr(client.dump(key)))
    return "\n".join(texts)


def _ledger(slidewire: Slidewire) -> str:
    """Return the bytes of the ledger's files and all else in the state folder."""
    files = [path for path in Path(slidewire.environment["SLIDEWIRE_STATE_FOLDER"]).rglob("*") if path.is_file()]
    assert files
    return "\n".join(path.read_bytes().decode("latin-1") for path in files)


def test_a_job_leaves_no_trace_of_the_patient(
    slidewire: Slidewire, redis_server: RedisServer, patient: SlideInPacs
) -> None:
    """Submit, broker, worker and ledger know no patient and no token; the token goes to the PACS and nowhere else."""
    redis_server.flush()
    with hostile_server(lambda _: None, patient.orthanc.dicomweb) as pacs:
        slidewire.environment |= {
            "SLIDEWIRE_BROKER_URL": redis_server.url,
            "SLIDEWIRE_ENDPOINTS__PACS__URL": pacs.url,
            "SLIDEWIRE_ENDPOINTS__PACS__AUTH": "bearer",
            "SLIDEWIRE_ENDPOINTS__PACS__SECRET": "env:PACS_TOKEN",
            "PACS_TOKEN": _TOKEN,
        }
        submitted = slidewire.done("submit", patient.source, "--encoder", "pixel-grid", "--write-back", "--out", "out")
        queued = _redis(redis_server)
        worker = slidewire.start("worker")
        done = slidewire.wait_for(submitted.json["job"])
        assert worker.terminate() == 0, worker.log
    assert all(asked.headers.get("Authorization") == f"Bearer {_TOKEN}" for asked in pacs.asked)
    assert not _found((*_PATIENT, _TOKEN), "\n".join(asked.path for asked in pacs.asked))
    secret = (*_PATIENT, _TOKEN)
    assert not _found((*secret, *_uids(patient)), queued)
    assert not _found((*secret, *_uids(patient)), _redis(redis_server))
    assert worker.log
    assert not _found((*secret, *_uids(patient)), worker.log)
    assert not _found(secret, submitted.stdout + json.dumps(done))
    assert not _found(secret, _ledger(slidewire))
    assert not _found((*secret, "19120623"), Path(done["outputs"][0]["uri"]).read_bytes().decode("latin-1"))
    assert patient.instance(done["outputs"][1]["uri"]).PatientID == _ID, "the PACS must know whose it is"


@pytest.mark.parametrize(
    "broken",
    [
        Answer(401, b"no access for Canaria, token canary-token-31337"),
        Answer(404, b"no frames of CANARY-PID-77"),
        pytest.param(Answer(200, b"<html>Serina</html>", {"Content-Type": "text/html"}), marks=pytest.mark.faults),
        pytest.param(
            Answer(200, b"--b\r\n\r\nCANARYACC55\r\n--b--\r\n", {"Content-Type": "multipart/related; boundary=b"}),
            marks=pytest.mark.faults,
        ),
    ],
    ids=lambda answer: str(answer.status),
)
def test_a_failure_leaves_no_trace_either(slidewire: Slidewire, patient: SlideInPacs, broken: Answer) -> None:
    """When the PACS fails in the middle, with the patient in its answer, neither log nor ledger repeats it."""
    failing = False

    def answer(asked: Asked) -> Answer | None:
        return broken if failing and "/frames/" in asked.path else None

    with hostile_server(answer, patient.orthanc.dicomweb) as pacs:
        slidewire.environment |= {
            "SLIDEWIRE_ENDPOINTS__PACS__URL": pacs.url,
            "SLIDEWIRE_ENDPOINTS__PACS__AUTH": "bearer",
            "SLIDEWIRE_ENDPOINTS__PACS__SECRET": "env:PACS_TOKEN",
            "PACS_TOKEN": _TOKEN,
        }
        submitted = slidewire.done("submit", patient.source, "--encoder", "pixel-grid", "--write-back")
        failing = True
        worker = slidewire.start("worker")
        ended = "SELECT event FROM attempt WHERE event IN ('failed', 'deferred')"
        wait_until(lambda: bool(slidewire.rows(ended)), "the failure to be noted")
        assert worker.terminate() == 0, worker.log
        inline = slidewire("embed", patient.source, "--encoder", "pixel-grid", "--write-back")
    failed = slidewire.job(submitted.json["job"])
    # Who is denied access waits until it is granted again; everything else has failed.
    assert failed["state"] == ("running" if broken.status == 401 else "failed")
    assert [one for one in failed["history"] if one["code"]]
    said = "\n".join((worker.log, inline.stdout, inline.stderr, json.dumps(failed)))
    assert not _found((*_PATIENT, _TOKEN, *_uids(patient)), said)
    assert not _found((*_PATIENT, _TOKEN), _ledger(slidewire))


def test_a_secret_in_the_settings_is_not_repeated(slidewire: Slidewire, patient: SlideInPacs) -> None:
    """Who writes the token itself where a reference belongs is told so, without the token."""
    slidewire.environment |= patient.endpoint | {
        "SLIDEWIRE_ENDPOINTS__PACS__AUTH": "bearer",
        "SLIDEWIRE_ENDPOINTS__PACS__SECRET": _TOKEN,
    }
    said = slidewire.failed("SETTINGS_INVALID", "embed", patient.source, "--encoder", "pixel-grid", "--write-back")
    assert not _found((_TOKEN, *_uids(patient)), said.stdout + said.stderr)
    slidewire.environment["SLIDEWIRE_ENDPOINTS__PACS__SECRET"] = "env:NO_SUCH_VARIABLE"
    slidewire.failed("SETTINGS_INVALID", "embed", patient.source, "--encoder", "pixel-grid", "--write-back")
