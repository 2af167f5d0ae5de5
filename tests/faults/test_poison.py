"""Shards that bring their workers down: hangs, crashes, bugs, too much memory, numbers that are none (26 to 29)."""

import re
import signal

import pytest

from tests.faults.conftest import Fault
from tests.faults.invariants import assert_audited, assert_ended, assert_silent, assert_sound, digests
from tests.faults.passing import leases_run_out, waits_are_over
from tests.services.command import Said, Slidewire
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk
from worker.heartbeat import EXIT_HUNG

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")
_SECRET = ("PATIENT^NAME", "foreign text")


def _submit(slidewire: Slidewire, slide: SlideOnDisk, *more: object) -> str:
    return str(slidewire.done("submit", slide.folder, *_WHAT, *more).json["job"])


def _three_workers(slidewire: Slidewire, fault: Fault, order: str, rc: int) -> list[Said]:
    """Run three workers that the first shard brings down, one after the other."""
    said = []
    for _ in range(3):
        said.append(slidewire("worker", armed=[order]))
        assert said[-1].rc == rc, said[-1]
        fault.strikes()
        leases_run_out(slidewire)
        waits_are_over(slidewire)
    return said


def _incidents(slidewire: Slidewire, job: str) -> list[dict[str, object]]:
    return [one for one in slidewire.job(job)["history"] if one["event"] != "claimed"]


def _quarantined(slidewire: Slidewire, job: str, event: str, code: str) -> list[dict[str, object]]:
    """See that a job was quarantined at the third crash of its shard; return what happened to it."""
    shown = slidewire.job(job)
    assert (shown["state"], shown["error"]["code"], shown["outputs"]) == ("quarantined", code, [])
    assert "brought down 3 workers" in shown["error"]["message"]
    incidents = _incidents(slidewire, job)
    assert [(one["shard"], one["event"], one["code"]) for one in incidents] == [(0, event, code)] * 3
    assert len({one["owner"] for one in incidents}) == 3, "three workers, each with a name of its own"
    assert slidewire.rows(f"SELECT attempts, crashes FROM shard WHERE job_id = '{job}'") == [(0, 3)]
    return incidents


def _flows_on(slidewire: Slidewire, slide: SlideOnDisk, fault: Fault, poison: str) -> None:
    """See that a job behind the poison gets done, and the poison itself once a person has mended the worker."""
    behind = _submit(slidewire, slide, "--stride-px", 250)
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert slidewire.job(behind)["state"] == "succeeded"
    assert_audited(slidewire)
    assert_ended(slidewire)
    assert slidewire.done("jobs", "retry", poison).json["state"] == "queued"
    assert slidewire("worker", "--drain").rc == 0
    quiet = slidewire.beside("quiet")
    golden = digests(quiet, [quiet.done("embed", slide.folder, *_WHAT).json["job"]])[0]
    assert_sound(slidewire, {poison: golden})


@pytest.mark.faults
@pytest.mark.parametrize("what", ["encoder", "decoder"])
def test_a_hung_worker_ends_itself(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault, what: str) -> None:
    """Status 75, and the history says where each thread stood; after three of them the job is quarantined."""
    fault.is_number(28, "hung encoder or decoder", f"{what} that never returns")
    fault.outcome = "quarantined WORKER_LOST"
    slidewire.environment["SLIDEWIRE_STALL_S"] = "1"
    slidewire.environment["SLIDEWIRE_LEASE_S"] = "2"
    poison = _submit(slidewire, cmu_slide)
    for said in _three_workers(slidewire, fault, f"{what}=hang", EXIT_HUNG):
        assert "hung: this process ends" in said.stderr
    for one in _quarantined(slidewire, poison, "crashed", "WORKER_LOST"):
        detail = str(one["detail"])
        assert re.match(r"embedding, 0 of \d+ patches, peak \d+ MB; threads at ", detail), detail
        assert re.search(r"armed.py:\d+ _hang", detail), detail
        assert "/" not in detail, "names of files, no folders"
    slidewire.environment["SLIDEWIRE_STALL_S"] = "300"
    _flows_on(slidewire, cmu_slide, fault, poison)


def test_embed_with_a_hung_encoder_ends_too(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault) -> None:
    """It says so in a sentence, ends with 75, and goes on when it is asked again."""
    fault.is_number(28, "hung encoder or decoder", "encoder that never returns, in `slidewire embed`")
    fault.outcome = "exit status 75, WORKER_LOST"
    slidewire.environment |= {"SLIDEWIRE_STALL_S": "1", "SLIDEWIRE_LEASE_S": "2"}  # looks every half second
    said = slidewire("embed", cmu_slide.folder, *_WHAT, "--json", armed=["encoder=hang"])
    fault.strikes()
    assert said.rc == EXIT_HUNG, said
    assert said.stdout == ""
    assert "slidewire: WORKER_LOST: Nothing has moved for 1 s" in said.stderr
    assert "Traceback" not in said.stderr
    waits_are_over(slidewire)
    again = slidewire.done("embed", cmu_slide.folder, *_WHAT)
    fault.is_over()
    assert_sound(slidewire, {again.json["job"]: (again.output("parquet")["sha256"],)})


@pytest.mark.faults
def test_a_segfault_leaves_its_stack_and_is_quarantined(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault
) -> None:
    """The log has the stack, the history who it was and how far; the queue flows on."""
    fault.is_number(29, "segmentation fault in a worker", "encoder that reads address 0")
    fault.outcome = "quarantined WORKER_LOST"
    poison = _submit(slidewire, cmu_slide)
    for said in _three_workers(slidewire, fault, "encoder=segfault", -signal.SIGSEGV):
        assert "Fatal Python error: Segmentation fault" in said.stderr
        assert re.search(r'File ".*encode\.py", line \d+ in encode_batches', said.stderr), said.stderr
    assert slidewire("worker", "--drain").rc == 0
    for one in _quarantined(slidewire, poison, "expired", "WORKER_LOST"):
        assert str(one["detail"]).startswith(f"{one['owner']}: "), one
    _flows_on(slidewire, cmu_slide, fault, poison)


@pytest.mark.faults
def test_what_a_worker_was_at_is_known_when_it_dies(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault) -> None:
    """A worker that dies after its first heartbeat leaves stage, patches and memory behind."""
    fault.is_number(29, "segmentation fault in a worker", "SIGSEGV after a heartbeat")
    slidewire.environment["SLIDEWIRE_LEASE_S"] = "0.4"  # beats every 0.1 s
    job = _submit(slidewire, cmu_slide)
    said = slidewire("worker", armed=["slow=:0.3", "kill=heartbeat.after_commit:2"])
    assert said.rc == -signal.SIGKILL, said
    fault.strikes()
    leases_run_out(slidewire)
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    [expired] = [one for one in _incidents(slidewire, job) if one["event"] == "expired"]
    assert re.fullmatch(rf"{expired['owner']}: embedding, \d+ of 117 patches, peak \d+ MB", str(expired["detail"]))
    assert_sound(slidewire)


@pytest.mark.parametrize(
    ("order", "error"),
    [
        pytest.param("bug", "ZeroDivisionError", id="bug"),
        pytest.param("exhaust", "_?(Array)?MemoryError", id="exhaust", marks=pytest.mark.faults),
    ],
)
def test_a_bug_is_tried_three_times(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault, order: str, error: str
) -> None:
    """The worker lives on, the history says where it was, and no foreign text is anywhere."""
    number, what = (29, "bug in an encoder") if order == "bug" else (26, "out of memory")
    fault.is_number(
        number, what, f"encoder with a {order}" if order == "bug" else "encoder that takes more than RLIMIT_AS"
    )
    fault.outcome = "quarantined INTERNAL"
    poison = _submit(slidewire, cmu_slide)
    errors = ""
    for _ in range(3):
        said = slidewire("worker", armed=[f"encoder={order}", "kill=fail.after_commit"])  # each try by another worker
        assert said.rc == -signal.SIGKILL, said
        fault.strikes()
        waits_are_over(slidewire)
        errors += said.stderr
    for one in _quarantined(slidewire, poison, "crashed", "INTERNAL"):
        assert re.fullmatch(rf"{error} at (\S+\.py:\d+)( > \S+\.py:\d+)*", str(one["detail"])), one
        assert "armed.py:" in str(one["detail"])
    everything = repr([slidewire.rows(f"SELECT * FROM {table}") for table in ("job", "shard", "attempt")])
    assert_silent(slidewire, _SECRET, errors, everything, slidewire("jobs", "show", poison).stdout)
    _flows_on(slidewire, cmu_slide, fault, poison)


@pytest.mark.faults
def test_a_worker_survives_a_bug(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault) -> None:
    """One process takes all three tries, with a wait between them, and stays."""
    fault.is_number(29, "bug in an encoder", "encoder that raises, one worker for all tries")
    fault.outcome = "quarantined INTERNAL"
    poison = _submit(slidewire, cmu_slide)
    worker = slidewire.start("worker", armed=["encoder=bug"])
    fault.strikes()

    def over() -> bool:
        waits_are_over(slidewire)
        return slidewire.rows("SELECT state FROM job") == [("quarantined",)]

    wait_until(over, "the quarantine")
    fault.is_over()
    assert worker.terminate() == 0, worker.log
    incidents = _incidents(slidewire, poison)
    assert [one["event"] for one in incidents] == ["crashed"] * 3
    assert len({one["owner"] for one in incidents}) == 1
    assert_silent(slidewire, _SECRET)
    assert_ended(slidewire)


@pytest.mark.faults
def test_a_worker_the_kernel_kills_counts_as_a_crash(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault
) -> None:
    """As the out-of-memory killer does it: SIGKILL while it encodes; three of them, then the others go on."""
    fault.is_number(26, "out of memory", "SIGKILL as by the kernel, in an encoder")
    fault.outcome = "quarantined WORKER_LOST"
    poison = _submit(slidewire, cmu_slide)
    _three_workers(slidewire, fault, "encoder=outgrow", -signal.SIGKILL)
    assert slidewire("worker", "--drain").rc == 0
    _quarantined(slidewire, poison, "expired", "WORKER_LOST")
    _flows_on(slidewire, cmu_slide, fault, poison)


def test_numbers_that_are_none_fail_at_once(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault) -> None:
    """NaN will be NaN again: one try, and nothing is published."""
    fault.is_number(27, "NaN from the encoder", "encoder that gives NaN")
    fault.outcome = "failed EMBEDDING_INVALID"
    job = _submit(slidewire, cmu_slide)
    assert slidewire("worker", "--drain", armed=["encoder=nan"]).rc == 0
    fault.strikes()
    shown = slidewire.job(job)
    fault.is_over()
    assert (shown["state"], shown["error"]["code"]) == ("failed", "EMBEDDING_INVALID")
    assert [one["event"] for one in _incidents(slidewire, job)] == ["failed"]
    assert not (slidewire.folder / "out").exists()
    assert_sound(slidewire)
