"""Faults 13 to 19: what a PACS and the line to it may do while a worker reads; a real Orthanc behind a proxy."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from PIL import Image

from tests.faults.conftest import Fault as Record
from tests.faults.fleet import Fleet
from tests.faults.invariants import assert_silent, assert_sound, digests
from tests.faults.passing import nothing_waits
from tests.faults.quick import some_quick
from tests.services.command import Running, Slidewire
from tests.services.fault_proxy import (
    Fault,
    FaultProxy,
    fault_proxy,
    in_each_content,
    in_its_headers,
    in_its_parts,
    on_the_line,
    says,
)
from tests.services.hostile import Answer, Asked
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs, load, renamed
from tests.services.ports import free_port, wait_until
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--stride-px", "112", "--out", "out")
_TIMEOUT_S = 30.0
_HTML = b"<html>Log in, canary</html>"
_READING = {"SLIDEWIRE_SHARD_PATCHES": "128", "SLIDEWIRE_BATCH_SIZE": "32", "SLIDEWIRE_CHECKPOINT_S": "0.05"}
_CANARY = ("canary", "1.2.826.0.1.99")


@pytest.fixture(scope="module")
def slide(orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path_factory: pytest.TempPathFactory) -> SlideInPacs:
    """Load a slide that nobody changes."""
    return load(orthanc, renamed(cmu_slide, tmp_path_factory.mktemp("pacs") / "slide"))


def _golden(slide: SlideInPacs, quiet: Slidewire) -> tuple[str, ...]:
    quiet.environment |= _READING
    return digests(quiet, [quiet.done("embed", slide.url, *_WHAT).json["job"]])[0]


@pytest.fixture(scope="module")
def golden(slide: SlideInPacs, warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Embed that slide without trouble; give the digests of what came out."""
    return _golden(slide, Slidewire(tmp_path_factory.mktemp("golden"), warm))


@contextmanager
def _proxied(slide: SlideInPacs, slidewire: Slidewire) -> Iterator[FaultProxy]:
    with fault_proxy(slide.orthanc.dicomweb) as opened:
        limits = {"URL": opened.url, "FRAMES_PER_REQUEST": "9"} | {
            f"TIMEOUTS__{name}": value
            for name, value in {"READ_S": "0.8", "LEAST_BYTES_S": "100", "WINDOW_S": "0.8"}.items()
        }
        slidewire.environment |= _READING | {f"SLIDEWIRE_ENDPOINTS__PACS__{name}": limits[name] for name in limits}
        yield opened


@pytest.fixture
def proxy(slide: SlideInPacs, slidewire: Slidewire) -> Iterator[FaultProxy]:
    """Put a proxy before the Orthanc, as the endpoint `pacs`, read in several shards and some dozen requests."""
    with _proxied(slide, slidewire) as opened:
        yield opened


def _submitted(slidewire: Slidewire, slide: SlideInPacs, *more: str) -> str:
    return str(slidewire.done("submit", slide.source, *_WHAT, *more).json["job"])


def _ends(slidewire: Slidewire, job: str, state: str = "succeeded") -> None:
    """Wait for the end of a job, without the waits between its attempts."""

    def ended() -> bool:
        nothing_waits(slidewire)
        found = slidewire.rows(f"SELECT state FROM job WHERE id = '{job}'")[0][0]
        assert found in {"queued", "running", state}, slidewire.job(job)
        return bool(found == state)

    wait_until(ended, f"the job to be {state}", 90.0)


def _recompressed(content: bytes, side: int) -> bytes:
    """Return a JPEG of another size in place of one."""
    buffer = BytesIO()
    Image.fromarray(np.full((side, side, 3), 200, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def _relabelled(part: bytes) -> bytes:
    return part.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.90")


def _located(parts: list[bytes]) -> list[bytes]:
    """Return nothing of the kind: a header that claims to be of another frame."""
    return [b"Content-Location: http://pacs/studies/1/series/2/instances/3/frames/9999\r\n" + part for part in parts]


_SPOILT: dict[str, tuple[int, Fault]] = {
    "503 with Retry-After": (13, says(503, Retry_After="0")),
    "429 with Retry-After": (13, says(429, Retry_After="0")),
    "500": (13, says(500, _HTML, Content_Type="text/html")),
    "502": (13, says(502)),
    "reset": (14, on_the_line("reset")),
    "reset midway": (14, on_the_line("reset midway")),
    "late": (15, on_the_line("late")),
    "stalled after the headers": (15, on_the_line("stall")),
    "a byte a second": (15, on_the_line("drip")),
    "cut off": (16, on_the_line("cut")),
    "a part missing": (16, in_its_parts(lambda parts: parts[:-1])),
    "no part": (16, in_its_parts(lambda _: [])),
    "a part twice": (16, in_its_parts(lambda parts: [*parts, parts[0]])),
    "a part too many": (16, in_its_parts(lambda parts: [*parts, b"Content-Type: image/jpeg\r\n\r\nnothing asked for"])),
    "another frame's part": (16, in_its_parts(_located)),
    "another boundary": (
        16,
        in_its_headers(lambda _: {"Content-Type": 'multipart/related; type="image/jpeg"; boundary=other'}),
    ),
    "torn pixels": (17, in_each_content(lambda content: content[: len(content) // 3])),
    "pixels that are none": (17, in_each_content(lambda content: bytes(len(content)))),
    "pixels of another size": (17, in_each_content(lambda content: _recompressed(content, 64))),
    "empty parts": (17, in_each_content(lambda _: b"")),
    "HTML with 200": (17, says(200, _HTML, Content_Type="text/html")),
    "another transfer syntax": (17, in_its_parts(lambda parts: [_relabelled(part) for part in parts])),
}


_QUICK = {"503 with Retry-After", "reset midway", "torn pixels"}


@pytest.mark.parametrize("name", some_quick(_SPOILT, _QUICK))
def test_an_answer_that_is_spoilt_now_and_then(
    slidewire: Slidewire, slide: SlideInPacs, proxy: FaultProxy, golden: tuple[str, ...], fault: Record, name: str
) -> None:
    """The worker asks again, and nothing of it is in the result; no attempt is used."""
    number, spoilt = _SPOILT[name]
    fault.is_number(number, f"PACS: {name}", "some answers with frames, by a proxy before Orthanc")
    job = _submitted(slidewire, slide)
    # A frame whose pixels are no good is asked for once more, alone: that answer had better be right.
    proxy.spoil(spoilt, range(2, 1000, 23 if "pixels" in name else 5))
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    fault.times = proxy.schedule.struck
    assert fault.times > 1
    assert_sound(slidewire, {job: golden})
    assert slidewire.rows("SELECT sum(attempts), sum(crashes) FROM shard") == [(0, 0)]
    assert_silent(slidewire, _CANARY)


_FOR_GOOD: dict[str, tuple[int, str, Fault]] = {
    "a part missing": (16, "FRAME_MISSING", in_its_parts(lambda parts: parts[:-1])),
    "another boundary": (
        16, "RESPONSE_INVALID", in_its_headers(lambda _: {"Content-Type": "multipart/related; boundary=other"}),
    ),
    "torn pixels": (17, "FRAME_UNDECODABLE", in_each_content(lambda content: content[: len(content) // 3])),
    "pixels of another size": (17, "FRAME_UNDECODABLE", in_each_content(lambda content: _recompressed(content, 64))),
    "HTML with 200": (17, "RESPONSE_INVALID", says(200, _HTML, Content_Type="text/html")),
    "410": (18, "FRAME_MISSING", says(410)),
}  # fmt: skip


@pytest.mark.parametrize("name", some_quick(_FOR_GOOD, {"pixels of another size"}))
def test_answers_that_are_all_spoilt_in_what_they_say(
    slidewire: Slidewire, slide: SlideInPacs, proxy: FaultProxy, golden: tuple[str, ...], fault: Record, name: str
) -> None:
    """The job fails with the right code and leaves nothing; tried again at a sound server, it ends as it should."""
    number, code, spoilt = _FOR_GOOD[name]
    fault.is_number(number, f"PACS, for good: {name}", "every answer with frames, by a proxy before Orthanc")
    job = _submitted(slidewire, slide)
    proxy.spoil(spoilt)
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.outcome = code
    failed = slidewire.job(job)
    assert (failed["state"], failed["error"]["code"], failed["outputs"]) == ("failed", code, [])
    assert not list(slidewire.folder.glob("out/**/*"))
    assert_silent(slidewire, _CANARY, failed["error"]["message"])
    proxy.spoil(spoilt, [0])
    slidewire.done("jobs", "retry", job)
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire, {job: golden})


def _down(proxy: FaultProxy) -> None:
    proxy.stop()


def _busy(proxy: FaultProxy) -> None:
    proxy.spoil(says(503, Retry_After="120"), path="")


def _silent(proxy: FaultProxy) -> None:
    proxy.spoil(on_the_line("stall"), path="")


_OUTAGES: dict[str, tuple[int, Callable[[FaultProxy], None]]] = {
    "nobody listens": (14, _down), "503 for minutes": (13, _busy), "silent": (15, _silent),
}  # fmt: skip


def _mended(proxy: FaultProxy) -> None:
    proxy.stop()
    proxy.spoil(says(500), [0])
    proxy.start()


@pytest.mark.parametrize("name", some_quick(_OUTAGES, ()))
def test_an_outage_in_the_middle_of_a_job(
    slidewire: Slidewire, slide: SlideInPacs, proxy: FaultProxy, golden: tuple[str, ...], fault: Record, name: str
) -> None:
    """The job waits, and goes on from its checkpoints; where the server answered nobody, no attempt was used."""
    number, begin = _OUTAGES[name]
    fault.is_number(number, f"PACS: {name}", "from the middle of a job on, by a proxy before Orthanc")
    job = _submitted(slidewire, slide)
    worker = slidewire.start("worker", armed=["slow=:0.1"])
    wait_until(lambda: bool(slidewire.rows("SELECT * FROM checkpoint")), "a checkpoint")
    begin(proxy)
    fault.strikes()
    wait_until(lambda: _missed(slidewire, worker) >= 1, "a shard that is given back", 60.0)
    kept = slidewire.rows("SELECT sum(patches) FROM checkpoint")[0][0]
    assert 0 < kept < slidewire.job(job)["patches"]
    nothing_waits(slidewire)
    wait_until(lambda: _missed(slidewire, worker) >= 2, "another try", 60.0)
    assert slidewire.job(job)["state"] == "running"
    _mended(proxy)
    _ends(slidewire, job)
    fault.is_over()
    assert worker.terminate() == 0, worker.log
    assert_sound(slidewire, {job: golden})
    # The shard that was at it when the server went down had been answered before: that one try may count.
    assert slidewire.rows("SELECT max(attempts) FROM shard")[0][0] <= 1
    assert slidewire.rows("SELECT count(*) FROM attempt WHERE event = 'deferred'")[0][0] >= 1


def _missed(slidewire: Slidewire, worker: Running) -> int:
    assert worker.process.poll() is None, worker.log
    return int(slidewire.rows("SELECT count(*) FROM attempt WHERE event IN ('failed', 'deferred')")[0][0])


def test_a_name_that_nobody_knows(slidewire: Slidewire, fault: Record) -> None:
    """A host that cannot be found is unreachable: worth another try."""
    fault.is_number(14, "PACS: no such host", "a name that does not resolve")
    fault.outcome = "ENDPOINT_UNREACHABLE"
    fault.strikes()
    slidewire.environment["SLIDEWIRE_ENDPOINTS__PACS__URL"] = f"https://nobody.invalid:{free_port()}/dicom-web"
    slidewire.failed("ENDPOINT_UNREACHABLE", "embed", "pacs/1.2.3/1.2.4", *_WHAT)


def _delete(slide: SlideInPacs, level: Path) -> None:
    uid = str(pydicom.dcmread(level, stop_before_pixels=True).SOPInstanceUID)
    [found] = requests.post(f"{slide.orthanc.url}/tools/lookup", data=uid, timeout=_TIMEOUT_S).json()
    requests.delete(f"{slide.orthanc.url}/instances/{found['ID']}", timeout=_TIMEOUT_S).raise_for_status()


def _add_a_level(slide: SlideInPacs) -> None:
    slide.orthanc.load(slide.slide.levels[-1])


def _delete_what_is_read(slide: SlideInPacs) -> None:
    _delete(slide, slide.slide.levels[0])


def _delete_what_is_not_read(slide: SlideInPacs) -> None:
    _delete(slide, slide.slide.levels[-1])


def _replace_what_is_read(slide: SlideInPacs) -> None:
    dataset = pydicom.dcmread(slide.slide.levels[0])
    shared = dataset.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.0007, 0.0007]
    dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = 2220 * 0.0007, 2967 * 0.0007
    path = slide.slide.folder.parent / "replaced.dcm"
    dataset.save_as(path, enforce_file_format=True)
    _delete(slide, slide.slide.levels[0])
    slide.orthanc.load(path)


def _delete_it(slide: SlideInPacs) -> None:
    for level in slide.slide.levels:
        _delete(slide, level)


_CHANGES: dict[str, tuple[str, Callable[[SlideInPacs], None]]] = {
    "a level is added": ("SOURCE_INVALID", _add_a_level),
    "what is read is deleted": ("SOURCE_INVALID", _delete_what_is_read),
    "what is not read is deleted": ("SOURCE_INVALID", _delete_what_is_not_read),
    "replaced under its UID": ("SOURCE_INVALID", _replace_what_is_read),
    "all of it is deleted": ("SERIES_NOT_FOUND", _delete_it),
}


@pytest.mark.parametrize("missing", some_quick(["error", "mask"], {"mask"}))
@pytest.mark.parametrize("name", some_quick(_CHANGES, {"what is read is deleted"}))
def test_a_slide_that_changes_while_it_is_read(
    slidewire: Slidewire, pacs_slide: SlideInPacs, fault: Record, name: str, missing: str
) -> None:
    """The job fails and says so, and nothing is published; holes are not for a slide that is another now."""
    code, change = _CHANGES[name]
    fault.is_number(18, f"slide: {name}", "in Orthanc, in the middle of a job")
    fault.outcome = code
    if change is _add_a_level:
        _delete(pacs_slide, pacs_slide.slide.levels[-1])  # it comes late
    before = set(pacs_slide.instances())
    with _proxied(pacs_slide, slidewire):
        job = _submitted(slidewire, pacs_slide, "--write-back", "--missing", missing)
        worker = slidewire.start("worker", armed=["slow=:0.1"])
        wait_until(lambda: bool(slidewire.rows("SELECT * FROM checkpoint")), "a checkpoint")
        change(pacs_slide)
        fault.strikes()
        failed = slidewire.wait_for(job, "failed")
    fault.is_over()
    assert failed["error"]["code"] == code, failed
    assert not list(slidewire.folder.glob("out/**/*"))
    assert len(set(pacs_slide.instances()) - before) == (change is _add_a_level), "something was published"
    assert worker.terminate() == 0, worker.log
    assert_sound(slidewire)


@pytest.mark.faults
def test_a_slide_that_changes_as_its_result_is_assembled(
    slidewire: Slidewire, pacs_slide: SlideInPacs, fault: Record
) -> None:
    """All is embedded, the worker dies, the slide changes: the next worker publishes nothing of what was."""
    fault.is_number(18, "slide: changed between embedding and publishing", "in Orthanc, with the worker killed there")
    fault.outcome = "SOURCE_INVALID"
    with _proxied(pacs_slide, slidewire):
        slidewire.environment["SLIDEWIRE_LEASE_S"] = "1"
        job = _submitted(slidewire, pacs_slide, "--write-back")
        assert slidewire.start("worker", armed=["kill=publish.before_write"]).wait() == -9
        _delete_what_is_not_read(pacs_slide)
        fault.strikes()
        assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    failed = slidewire.job(job)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "SOURCE_INVALID")
    assert not list(slidewire.folder.glob("out/**/*"))
    assert len(pacs_slide.instances()) == len(pacs_slide.slide.levels) - 1


@pytest.mark.faults
def test_a_slide_that_changes_before_its_own_worker_publishes(
    slidewire: Slidewire, pacs_slide: SlideInPacs, processes: list[WarmProcess], fault: Record
) -> None:
    """The worker that embedded it has the slide open: it looks again, and publishes nothing of what was."""
    fault.is_number(18, "slide: changed between embedding and publishing", "in Orthanc, with the worker stopped there")
    fault.outcome = "SOURCE_INVALID"
    with _proxied(pacs_slide, slidewire):
        slidewire.environment["SLIDEWIRE_SHARD_PATCHES"] = "100000"
        job = _submitted(slidewire, pacs_slide, "--write-back")
        with Fleet(slidewire, processes[:1], ["stop=claim.after_commit:2"]) as fleet:
            fleet.has_stopped()
            _delete_what_is_not_read(pacs_slide)
            fault.strikes()
            fleet.go_on()
            failed = slidewire.wait_for(job, "failed")
            fault.is_over()
    assert failed["error"]["code"] == "SOURCE_INVALID"
    assert not list(slidewire.folder.glob("out/**/*"))
    assert len(pacs_slide.instances()) == len(pacs_slide.slide.levels) - 1
    assert_sound(slidewire)


class _Gate:
    """Lets in who has one of its tokens, and gives them to whoever asks; numbered, so that they can be counted.

    Attributes
    ----------
    given : int
        Tokens so far.
    valid : set of str
    shut : bool
        Nobody gets a token, and none is valid.
    """

    def __init__(self, proxy: FaultProxy, slidewire: Slidewire) -> None:
        self.given, self.shut, self.refused = 0, False, 0
        self.valid: set[str] = set()
        proxy.before = self.judge
        more = {"AUTH": "oidc", "TOKEN_URL": f"{proxy.url}/token", "CLIENT_ID": "worker", "SECRET": "env:OF_THE_TEST"}
        slidewire.environment |= {f"SLIDEWIRE_ENDPOINTS__PACS__{name}": more[name] for name in more}
        slidewire.environment["OF_THE_TEST"] = "canary-secret"

    def judge(self, asked: Asked) -> Answer | None:
        """Answer for the token's address, and in place of a server that lets nobody in."""
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        if not asked.path.endswith("/token"):
            fine = token in self.valid and not self.shut
            self.refused += not fine
            return None if fine else Answer(401)
        if self.shut:
            return Answer(401, b'{"error": "invalid_client"}', {"Content-Type": "application/json"})
        self.given += 1
        self.valid.add(f"canary-token-{self.given}")
        answer = {"access_token": f"canary-token-{self.given}", "token_type": "Bearer", "expires_in": 3600}
        return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})


@pytest.mark.faults
def test_a_token_that_is_forgotten_in_the_middle(
    slidewire: Slidewire, slide: SlideInPacs, proxy: FaultProxy, golden: tuple[str, ...], fault: Record
) -> None:
    """The worker fetches one new token and goes on: no attempt is used, and no token is in any log."""
    fault.is_number(19, "token: forgotten by the server", "401 from some request on, with a real token server")
    gate = _Gate(proxy, slidewire)
    job = _submitted(slidewire, slide)
    worker = slidewire.start("worker", armed=["slow=:0.1"])
    wait_until(lambda: bool(slidewire.rows("SELECT * FROM checkpoint")), "a checkpoint")
    before = gate.given
    gate.valid.clear()
    fault.strikes()
    slidewire.wait_for(job)
    fault.is_over()
    assert gate.given == before + 1
    assert gate.refused >= 1
    assert worker.terminate() == 0, worker.log
    assert_sound(slidewire, {job: golden})
    assert slidewire.rows("SELECT sum(attempts), sum(crashes) FROM shard") == [(0, 0)]
    assert_silent(slidewire, _CANARY)


@pytest.mark.faults
def test_credentials_that_stop_working(
    slidewire: Slidewire, slide: SlideInPacs, proxy: FaultProxy, golden: tuple[str, ...], fault: Record
) -> None:
    """The job waits, and is not hammered at the door; as soon as the credentials work again it goes on."""
    fault.is_number(19, "token: denied for long", "401 for everything, with a real token server")
    gate = _Gate(proxy, slidewire)
    job = _submitted(slidewire, slide)
    worker = slidewire.start("worker", armed=["slow=:0.1"])
    wait_until(lambda: bool(slidewire.rows("SELECT * FROM checkpoint")), "a checkpoint")
    gate.shut = True
    fault.strikes()
    wait_until(lambda: _missed(slidewire, worker) >= 1, "a shard that is given back")
    at_the_door = len(proxy.asked)
    assert slidewire.job(job)["state"] == "running"
    assert len(proxy.asked) - at_the_door <= 1, "it goes on knocking"
    gate.shut = False
    _ends(slidewire, job)
    fault.is_over()
    assert worker.terminate() == 0, worker.log
    assert_sound(slidewire, {job: golden})
    codes = slidewire.rows("SELECT DISTINCT code FROM attempt WHERE event IN ('failed', 'deferred')")
    assert set(codes) <= {("ACCESS_DENIED",), ("ENDPOINT_PAUSED",)}
    assert_silent(slidewire, _CANARY)
