"""Faults 20 and 21: archives and buckets that fail, lie or lose their answer while a result is stored."""

import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO

import pydicom
import pytest

from tests.faults.conftest import Fault as Record
from tests.faults.invariants import assert_sound, digests
from tests.faults.passing import nothing_waits
from tests.faults.quick import some_quick
from tests.services.command import Slidewire
from tests.services.fault_proxy import Fault, FaultProxy, fault_proxy, on_the_line, says
from tests.services.gcs import GcsServer
from tests.services.hostile import Answer, Asked
from tests.services.pacs import SlideInPacs, fetch_instance
from tests.services.ports import wait_until
from tests.services.s3 import S3Server
from tests.services.slides import SlideOnDisk

_WHAT = ("--encoder", "pixel-grid", "--all-patches")
_JSON = {"Content-Type": "application/dicom+json"}
_BUSY = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [42752]}}]}}'  # A700H


@contextmanager
def _before(slide: SlideInPacs, slidewire: Slidewire) -> Iterator[FaultProxy]:
    with fault_proxy(slide.orthanc.dicomweb) as proxy:
        pacs = "SLIDEWIRE_ENDPOINTS__PACS__"
        slidewire.environment |= {f"{pacs}URL": proxy.url, f"{pacs}TIMEOUTS__TOTAL_S": "2"}
        yield proxy


@pytest.fixture
def proxy(pacs_slide: SlideInPacs, slidewire: Slidewire) -> Iterator[FaultProxy]:
    """Put a proxy before the Orthanc, as the endpoint `pacs`."""
    with _before(pacs_slide, slidewire) as opened:
        yield opened


def _submitted(slidewire: Slidewire, slide: SlideInPacs) -> str:
    return str(slidewire.done("submit", slide.source, *_WHAT, "--write-back").json["job"])


def _kinds(proxy: FaultProxy) -> list[str]:
    """Return the modality of each object that was sent, in order."""
    return [
        str(pydicom.dcmread(BytesIO(file), stop_before_pixels=True).Modality)
        for asked in proxy.stored
        for file in asked.objects
    ]


def _stored_twice_over(slidewire: Slidewire, slide: SlideInPacs, job: str) -> None:
    """Ask for the same result from another ledger: nothing new comes into being, and the outputs are the same."""
    held = slide.instances()
    assert len(held) == len(slide.slide.levels) + 2
    again = slidewire.beside("again").done("embed", slide.source, *_WHAT, "--write-back").json
    assert again["outputs"] == slidewire.job(job)["outputs"]
    assert slide.instances() == held


_LOST: dict[str, Fault] = {
    "500 after storing": says(500),
    "reset after storing": on_the_line("reset"),
    "no answer after storing": on_the_line("stall"),
    "an answer that breaks off": on_the_line("cut"),
    "502 from a balancer": says(502, b"<html/>", Content_Type="text/html"),
}


@pytest.mark.parametrize("which", some_quick([1, 2], {1}))
@pytest.mark.parametrize("name", some_quick(_LOST, {"500 after storing"}))
def test_an_answer_to_stow_that_is_lost(
    slidewire: Slidewire, pacs_slide: SlideInPacs, proxy: FaultProxy, fault: Record, name: str, which: int
) -> None:
    """The object is there already: it is looked for and found, and not sent again."""
    fault.is_number(20, f"STOW: {name}", "the answer to one of the two STOWs, by a proxy before Orthanc")
    job = _submitted(slidewire, pacs_slide)
    proxy.spoil(_LOST[name], [which], "POST", "")
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert slidewire.job(job)["state"] == "succeeded", slidewire.job(job)
    assert proxy.schedule.struck == 1
    assert _kinds(proxy) == ["ANN", "SR"]
    assert_sound(slidewire)
    _stored_twice_over(slidewire, pacs_slide, job)


def _refusals(answer: Answer, times: int) -> Callable[[Asked], Answer | None]:
    left = [answer] * times
    return lambda asked: left.pop() if asked.method == "POST" and left else None


@pytest.mark.parametrize("status", some_quick([413, 409], ()))
def test_an_archive_that_refuses(
    slidewire: Slidewire, pacs_slide: SlideInPacs, proxy: FaultProxy, fault: Record, status: int
) -> None:
    """The job fails at once and nothing is there; once the archive takes it, the job ends with nothing doubled."""
    fault.is_number(20, f"STOW: {status}, nothing stored", "a proxy before Orthanc that does not pass it on")
    fault.outcome = "STORE_REFUSED"
    job = _submitted(slidewire, pacs_slide)
    before = pacs_slide.instances()
    proxy.before = _refusals(Answer(status), 1)
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    failed = slidewire.job(job)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "STORE_REFUSED")
    assert pacs_slide.instances() == before
    slidewire.done("jobs", "retry", job)
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire)
    _stored_twice_over(slidewire, pacs_slide, job)


@pytest.mark.faults
def test_an_archive_that_is_out_of_resources_for_long(
    slidewire: Slidewire, pacs_slide: SlideInPacs, proxy: FaultProxy, fault: Record
) -> None:
    """202 with A700H on and on: the job waits, embeds nothing again, and ends when there is room."""
    fault.is_number(20, "STOW: 202, out of resources", "a proxy before Orthanc that does not pass it on")
    job = _submitted(slidewire, pacs_slide)
    proxy.before = _refusals(Answer(202, _BUSY, _JSON), 5)
    worker = slidewire.start("worker")
    fault.strikes()
    given_back = "SELECT count(*) FROM attempt WHERE event IN ('failed', 'deferred')"
    wait_until(lambda: slidewire.rows(given_back) > [(0,)], "the publication to be given back", 60.0)
    frames = sum("/frames/" in asked.path for asked in proxy.asked)
    assert slidewire.job(job)["state"] == "running"

    def ended() -> bool:
        nothing_waits(slidewire)
        return bool(slidewire.rows("SELECT state FROM job") == [("succeeded",)])

    wait_until(ended, "the job to succeed", 60.0)
    fault.is_over()
    assert worker.terminate() == 0, worker.log
    # Opened anew the slide is asked for one frame; what is in checkpoints is not read again.
    assert sum("/frames/" in asked.path for asked in proxy.asked) <= frames + 2
    assert_sound(slidewire)
    _stored_twice_over(slidewire, pacs_slide, job)


_KILLED = [("before", 1, "ANN ANN SR"), ("after", 1, "ANN SR"), ("before", 2, "ANN SR SR"), ("after", 2, "ANN SR")]


@pytest.mark.parametrize("sent", some_quick(_KILLED, _KILLED[1:2]))
def test_a_worker_that_is_killed_between_its_objects(
    slidewire: Slidewire, pacs_slide: SlideInPacs, proxy: FaultProxy, fault: Record, sent: tuple[str, int, str]
) -> None:
    """Killed as the archive has not yet, or has just stored the one or the other: the next worker sends the rest."""
    when, which, kinds = sent
    fault.is_number(20, f"worker killed {when} STOW {which} of 2", "SIGKILL by the proxy before Orthanc")
    slidewire.environment["SLIDEWIRE_LEASE_S"] = "1"
    job = _submitted(slidewire, pacs_slide)
    worker = slidewire.start("worker")

    def kill(asked: Asked) -> Answer | None:
        if asked.method == "POST" and len(proxy.stored) == which and worker.process.poll() is None:
            os.kill(worker.process.pid, signal.SIGKILL)
            worker.wait()
            return Answer(500)
        return None

    setattr(proxy, when, kill)
    assert worker.wait() == -signal.SIGKILL, worker.log
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert slidewire.job(job)["state"] == "succeeded"
    assert _kinds(proxy) == kinds.split()
    assert_sound(slidewire)
    _stored_twice_over(slidewire, pacs_slide, job)


def test_other_values_under_our_uid(
    slidewire: Slidewire, pacs_slide: SlideInPacs, proxy: FaultProxy, fault: Record
) -> None:
    """Orthanc says 200 and keeps the old bytes: found out and said; nothing is overwritten, however often tried."""
    fault.is_number(20, "STOW: 200 and the old bytes kept", "an object of other values under our UID in Orthanc")
    fault.outcome = "STORE_MISMATCH"
    out = slidewire.beside("files").done("embed", pacs_slide.source, *_WHAT, "--out", "out", "--dicom")
    ours = pydicom.dcmread(out.output("report")["uri"])
    digest = next(item for item in ours.iterall() if item.keyword == "TextValue" and len(item.value) == 64)
    digest.value = "0" * 64
    foreign = slidewire.folder / "foreign.dcm"
    ours.save_as(foreign, enforce_file_format=True)
    pacs_slide.orthanc.load(foreign)
    job = _submitted(slidewire, pacs_slide)
    fault.strikes()
    for _ in range(2):
        assert slidewire("worker", "--drain").rc == 0
        failed = slidewire.job(job)
        assert (failed["state"], failed["error"]["code"]) == ("failed", "STORE_MISMATCH")
        assert str(ours.SOPInstanceUID) not in failed["error"]["message"]
        slidewire.done("jobs", "retry", job)
    fault.is_over()
    assert _kinds(proxy) == ["ANN"], "sent once, found there the second time; the report never"
    assert fetch_instance(pacs_slide.orthanc, f"/{ours.SOPInstanceUID}") == foreign.read_bytes()


class _Bucket:
    """A bucket behind a proxy.

    Parameters
    ----------
    proxy : FaultProxy
    uri : str
        Where results go.
    read : callable
        Returns an object's bytes by its URI, past the proxy.
    put : str
        Method and path by which an object is uploaded.
    got : str
        Path by which it is read.
    """

    def __init__(
        self, proxy: FaultProxy, uri: str, read: Callable[[str], bytes], put: tuple[str, str], got: str
    ) -> None:
        self.proxy, self.uri, self.read, self.put, self.got = proxy, uri, read, put, got


@pytest.fixture(params=some_quick(["gs", "s3"], {"s3"}))
def bucket(request: pytest.FixtureRequest, slidewire: Slidewire) -> Iterator[_Bucket]:
    """Put a proxy before Cloud Storage, and before S3."""
    if request.param == "gs":
        gcs: GcsServer = request.getfixturevalue("gcs")
        gcs.create_bucket("results")
        with fault_proxy(gcs.url) as proxy:
            slidewire.environment["STORAGE_EMULATOR_HOST"] = proxy.url
            put = ("POST", "/upload/")
            yield _Bucket(proxy, "gs://results/out", lambda uri: gcs.download("results", uri[13:]), put, "/o/.*out")
        return
    import requests

    s3: S3Server = request.getfixturevalue("s3")
    s3.upload("results", "there", b"so that the bucket is")
    with fault_proxy(s3.url) as proxy:
        slidewire.environment["AWS_ENDPOINT_URL"] = proxy.url

        def read(uri: str) -> bytes:
            signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
            answer = requests.get(f"{s3.url}/{uri[5:]}", headers=signed, timeout=30)
            answer.raise_for_status()
            return answer.content

        yield _Bucket(proxy, "s3://results/out", read, ("PUT", "/results/out"), "/results/out")


_HICCUPS: dict[str, Fault] = {
    "503": says(503, b"<Error><Code>SlowDown</Code></Error>"),
    "500 after storing": says(500, b"<Error><Code>InternalError</Code></Error>"),
    "reset after storing": on_the_line("reset"),
}


@pytest.mark.parametrize("name", some_quick(_HICCUPS, {"reset after storing"}))
def test_a_bucket_that_loses_answers(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, bucket: _Bucket, fault: Record, name: str
) -> None:
    """The upload is repeated, the same object: one result, its bytes those of a quiet run."""
    fault.is_number(21, f"{bucket.uri[:2]}: {name}", "the answers to the first uploads, by a proxy before an emulator")
    [golden] = digests(slidewire, [slidewire.done("embed", cmu_slide.folder, *_WHAT, "--out", "out").json["job"]])
    bucket.proxy.spoil(_HICCUPS[name], [1], *bucket.put)
    fault.strikes()
    done = slidewire.done("embed", cmu_slide.folder, *_WHAT, "--out", bucket.uri)
    fault.is_over()
    assert bucket.proxy.schedule.struck == 1
    table = done.output("parquet")
    assert table["sha256"] == golden[0]
    assert hashlib.sha256(bucket.read(table["uri"])).hexdigest() == table["sha256"]
    assert slidewire.done("embed", cmu_slide.folder, *_WHAT, "--out", bucket.uri).json == done.json


@pytest.mark.parametrize("name", some_quick(["other bytes", "nothing"], {"other bytes"}))
def test_a_bucket_that_does_not_give_back_what_it_took(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, bucket: _Bucket, fault: Record, name: str
) -> None:
    """No job succeeds with an output that cannot be read back; when it can, the job ends by itself."""
    fault.is_number(21, f"{bucket.uri[:2]}: {name} on reading back", "a proxy before an emulator")
    job = slidewire.done("submit", cmu_slide.folder, *_WHAT, "--out", bucket.uri).json["job"]
    spoilt = says(404, b"{}") if name == "nothing" else Fault(_flipped)
    bucket.proxy.spoil(spoilt, (), "GET", bucket.got)
    worker = slidewire.start("worker")
    wait_until(lambda: bool(slidewire.rows("SELECT 1 FROM attempt WHERE code = 'OUTPUT_UNAVAILABLE'")), "a refusal", 90)
    fault.strikes()
    assert slidewire.job(job)["outputs"] == []
    bucket.proxy.spoil(spoilt, [0])
    nothing_waits(slidewire)
    done = slidewire.wait_for(job)
    fault.is_over()
    assert worker.terminate() == 0, worker.log
    [table] = done["outputs"]
    assert hashlib.sha256(bucket.read(table["uri"])).hexdigest() == table["sha256"]
    assert_sound(slidewire)


def _flipped(answer: Answer) -> Answer:
    if len(answer.body) < 1000:
        return answer
    return Answer(answer.status, answer.body[:-9] + bytes(byte ^ 1 for byte in answer.body[-9:]), answer.headers)


@pytest.mark.faults
def test_a_bucket_that_is_not_there_for_a_while(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, s3: S3Server, fault: Record
) -> None:
    """Nobody listens: the job waits with its checkpoints, and ends when somebody does."""
    fault.is_number(21, "s3: nobody listens", "a proxy before an emulator that closes its port")
    s3.upload("results", "there", b"so that the bucket is")
    with fault_proxy(s3.url) as proxy:
        slidewire.environment["AWS_ENDPOINT_URL"] = proxy.url
        proxy.stop()
        fault.strikes()
        job = slidewire.done("submit", cmu_slide.folder, *_WHAT, "--out", "s3://results/out").json["job"]
        worker = slidewire.start("worker")
        wait_until(lambda: bool(slidewire.rows("SELECT 1 FROM attempt WHERE code LIKE 'OUTPUT%'")), "a refusal", 90)
        assert slidewire.rows("SELECT code, event FROM attempt WHERE code <> ''") == [("OUTPUT_UNAVAILABLE", "failed")]
        assert slidewire.job(job)["state"] == "running"
        proxy.start()
        nothing_waits(slidewire)
        slidewire.wait_for(job)
        fault.is_over()
        assert worker.terminate() == 0, worker.log
    assert_sound(slidewire)
