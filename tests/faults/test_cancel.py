"""A job cancelled at every state of its life and while it is completed (fault 30), and tried again after each end."""

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from models.domain.embedding import Output
from tests.faults.conftest import Fault
from tests.faults.fleet import Fleet
from tests.faults.invariants import assert_sound, digests
from tests.faults.passing import leases_run_out
from tests.services.command import Slidewire
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess
from tests.unit.worker.ledger.sample import claim, finish, shard_rows, submit, together
from worker.ledger import Lease, Ledger

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")
_ROUNDS = 12


def _submit(slidewire: Slidewire, slide: SlideOnDisk) -> str:
    return str(slidewire.done("submit", slide.folder, *_WHAT).json["job"])


def _cancel(slidewire: Slidewire, job: str) -> str:
    return str(slidewire.done("jobs", "cancel", job).json["state"])


def _golden(slidewire: Slidewire, slide: SlideOnDisk) -> tuple[str, ...]:
    quiet = slidewire.beside("quiet")
    return digests(quiet, [quiet.done("embed", slide.folder, *_WHAT).json["job"]])[0]


def _nothing_to_see(slidewire: Slidewire, job: str) -> None:
    assert slidewire.job(job)["outputs"] == []
    assert not (slidewire.folder / "out").exists(), "something was published after the cancel"


def test_a_job_that_waits(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault) -> None:
    """It is cancelled at once; a worker finds nothing to do; tried again, it ends as ever."""
    fault.is_number(30, "cancelled at every state", "while it waits")
    golden = _golden(slidewire, cmu_slide)
    job = _submit(slidewire, cmu_slide)
    assert _cancel(slidewire, job) == "cancelled"
    fault.strikes()
    assert _cancel(slidewire, job) == "cancelled", "once more changes nothing"
    assert slidewire("worker", "--drain").rc == 0
    _nothing_to_see(slidewire, job)
    assert_sound(slidewire)
    assert slidewire.done("jobs", "retry", job).json["state"] == "queued"
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire, {job: golden})


def test_a_job_whose_worker_is_dead(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault) -> None:
    """It is cancelled as soon as the lease of the dead one has run out; no crash quarantines what nobody wants."""
    fault.is_number(30, "cancelled at every state", "while a dead worker has it")
    fault.outcome = "cancelled"
    job = _submit(slidewire, cmu_slide)
    assert slidewire("worker", armed=["kill=claim.after_commit"]).rc == -signal.SIGKILL
    assert _cancel(slidewire, job) == "running"
    fault.strikes()
    leases_run_out(slidewire)
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert slidewire.job(job)["state"] == "cancelled"
    _nothing_to_see(slidewire, job)
    assert_sound(slidewire)


@pytest.mark.parametrize(
    ("point", "end"),
    [
        pytest.param("claim.after_commit", "cancelled", marks=pytest.mark.faults),  # of the embed shard
        pytest.param("checkpoint.before_file", "cancelled", marks=pytest.mark.faults),
        pytest.param("checkpoint.after_commit", "cancelled", marks=pytest.mark.faults),
        pytest.param("complete.after_commit", "cancelled", marks=pytest.mark.faults),
        ("claim.after_commit:2", "cancelled"),  # of the publish shard
        ("publish.before_write", "succeeded"),  # its worker has asked for the last time: what it writes counts
        pytest.param("publish.after_write", "succeeded", marks=pytest.mark.faults),
        pytest.param("publish.after_commit", "succeeded", marks=pytest.mark.faults),
    ],
)
def test_a_job_at_a_place(
    slidewire: Slidewire,
    cmu_slide: SlideOnDisk,
    processes: list[WarmProcess],
    fault: Fault,
    point: str,
    end: str,
) -> None:
    """Its worker stands at a place when the cancel is acknowledged: nothing is published that had not begun to be."""
    fault.is_number(30, "cancelled at every state", f"at {point}")
    fault.outcome = end
    golden = _golden(slidewire, cmu_slide)
    slidewire.environment["SLIDEWIRE_BATCH_SIZE"] = "16"
    job = _submit(slidewire, cmu_slide)
    with Fleet(slidewire, processes[:1], [f"stop={point}"]) as fleet:
        fleet.has_stopped()
        said = _cancel(slidewire, job)
        fault.strikes()
        fleet.go_on()
        slidewire.wait_for(job, said if said in {"cancelled", "succeeded"} else end)
        fault.is_over()
        wait_until(lambda: not slidewire.rows("SELECT id FROM shard WHERE owner <> ''"), "the end of the lease")
    if end == "cancelled":
        _nothing_to_see(slidewire, job)
    assert slidewire("worker", "--drain").rc == 0
    assert_sound(slidewire, {job: golden} if end == "succeeded" else None)
    assert _cancel(slidewire, job) == end, "what has ended stays as it is"


def test_each_end_can_be_tried_again(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault) -> None:
    """Failed, succeeded, cancelled: `jobs retry` queues the job, which then ends with the bytes of a quiet run."""
    fault.is_number(30, "cancelled at every state", "after each end, and tried again")
    golden = _golden(slidewire, cmu_slide)
    job = _submit(slidewire, cmu_slide)
    assert slidewire("worker", "--drain", armed=["encoder=nan"]).rc == 0
    for end in ("failed", "succeeded", "succeeded"):
        assert slidewire.job(job)["state"] == end
        assert _cancel(slidewire, job) == end
        fault.strikes()
        again = slidewire.done("jobs", "retry", job).json
        assert (again["state"], again["outputs"]) == ("queued", [])
        assert "error" not in again or not again["error"]["code"]
        assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire, {job: golden})


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql_url"))
    with Ledger(url, tmp_path / "checkpoints") as opened:
        yield opened


def _publish(ledger: Ledger, lease: Lease) -> None:
    ledger.shards.publish(lease, (Output("parquet", "/out/a.parquet", "0" * 64),))


_END = {"complete": finish, "publish": _publish}


@pytest.mark.parametrize("stage", ["complete", "publish"])
def test_a_cancel_and_a_completion_at_once(ledger: Ledger, fault: Fault, stage: str) -> None:
    """Whichever comes first wins, for good: a job ends once, with outputs if and only if it succeeded."""
    fault.is_number(30, "cancelled at every state", f"at the moment of {stage}, {_ROUNDS} rounds")
    fault.outcome = "cancelled, or succeeded with its outputs"
    ends = set()
    for number in range(_ROUNDS):
        job = submit(ledger, f"job-{number}", shards=2)
        finish(ledger, claim(ledger, job.id))
        if stage == "publish":
            finish(ledger, claim(ledger, job.id))
        cancelled, completed = together(
            partial(ledger.jobs.cancel, job.id), partial(_END[stage], ledger, claim(ledger, job.id))
        )
        fault.strikes()
        assert completed is None
        shown = ledger.jobs.get(job.id)
        assert shown.state == ("succeeded" if stage == "publish" else "cancelled")
        assert bool(shown.outputs) == (shown.state == "succeeded")
        assert not {row.state for row in shard_rows(ledger, job.id)} & {"pending", "leased"}
        assert ledger.shards.claim("another", job.id) is None
        ends.add(cancelled.state)
    fault.is_over()
    # A cancel that comes before its answer is known is noted; the objects that were being written count.
    assert ends <= {"running", "succeeded" if stage == "publish" else "cancelled"}
