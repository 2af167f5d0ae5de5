"""The heartbeat: renews a lease while work moves on, hears of its loss, and ends a process in which nothing moves."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from models.domain.errors import Interrupted, JobCancelled, LeaseLost, WorkerLost
from tests.services.ports import wait_until
from tests.unit.worker.ledger.sample import claim, events, make_due, run_out, shard_row, submit
from worker.heartbeat import EXIT_HUNG, Pulse
from worker.ledger import Lease, Ledger, Rules, ShardState
from worker.pipeline import Cancellation


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger whose leases are short."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "checkpoints", Rules(lease_s=1.0)) as opened:
        yield opened


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    """Lease the only shard there is: ten patches."""
    submit(ledger, shards=1)
    return claim(ledger)


class _Ended:
    """Stands for the end of the process, which no test can be in."""

    def __init__(self) -> None:
        self.event, self.said = threading.Event(), ""

    def __call__(self, error: WorkerLost) -> None:
        self.said = error.message
        self.event.set()


def _pulse(
    ledger: Ledger, lease: Lease, stall_s: float = 60.0, on_hang: _Ended | None = None
) -> tuple[Pulse, Cancellation]:
    cancellation = Cancellation()
    pulse = Pulse(ledger, lease, cancellation, every_s=0.05, stall_s=stall_s, on_hang=on_hang or _Ended())
    return pulse, cancellation


def test_a_lease_lasts_as_long_as_work_moves_on(ledger: Ledger, lease: Lease) -> None:
    """Beyond its length, as it is renewed; nobody can take it."""
    first = shard_row(ledger, lease.shard_id).lease_until
    pulse, cancellation = _pulse(ledger, lease)
    with pulse:
        wait_until(lambda: shard_row(ledger, lease.shard_id).lease_until > first + 1.2, "the lease to be renewed")
        assert ledger.shards.reap().expired == 0
    assert not cancellation.cancelled
    ledger.shards.complete(lease)


def test_nothing_is_renewed_after_the_end(ledger: Ledger, lease: Lease) -> None:
    """When the block is left, no thread goes on."""
    pulse, _ = _pulse(ledger, lease)
    with pulse:
        wait_until(lambda: bool(shard_row(ledger, lease.shard_id).note), "a heartbeat")
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_heartbeat_says_where_the_worker_is(ledger: Ledger, lease: Lease) -> None:
    """Stage, patches and memory are in the ledger, for whoever looks after the worker has died."""
    pulse, _ = _pulse(ledger, lease)
    pulse.enter("embedding")
    pulse.advance(3)
    pulse.advance(4)
    pulse.beat()
    row = shard_row(ledger, lease.shard_id)
    assert row.patches_done == pulse.patches_done == 7
    assert row.note.startswith("embedding, 7 of 10 patches, peak ")
    assert row.note.endswith(" MB")
    assert int(row.note.split()[-2]) > 10
    run_out(ledger, lease)
    ledger.shards.reap()
    assert events(ledger, lease.shard_id)[-1] == (1, "expired", "WORKER_LOST")
    assert ledger.jobs.history(lease.job_id)[-1].detail == f"{lease.owner}: {row.note}"


def test_the_work_hears_of_a_lost_lease(ledger: Ledger, lease: Lease) -> None:
    """As soon as somebody else has the shard the work is cancelled, for that reason."""
    pulse, cancellation = _pulse(ledger, lease)
    run_out(ledger, lease)
    ledger.shards.reap()
    with pulse:
        wait_until(lambda: cancellation.cancelled, "the cancellation")
    with pytest.raises(LeaseLost):
        cancellation.check()


def test_the_work_hears_of_a_cancelled_job(ledger: Ledger, lease: Lease) -> None:
    """At the next heartbeat, from the thread or asked for."""
    pulse, cancellation = _pulse(ledger, lease)
    ledger.jobs.cancel(lease.job_id)
    pulse.beat()
    with pytest.raises(JobCancelled):
        cancellation.check()
    pulse, cancellation = _pulse(ledger, lease)
    with pulse:
        wait_until(lambda: cancellation.cancelled, "the cancellation")
    assert isinstance(cancellation.reason, JobCancelled)


def test_a_worker_that_stops_and_a_lost_lease_are_two_reasons() -> None:
    """The worker's own end interrupts; it does not cancel the job."""
    worker = Cancellation()
    shard = Cancellation(after=worker)
    worker.cancel()
    with pytest.raises(Interrupted):
        shard.check()


@pytest.mark.parametrize("move", [lambda pulse: pulse.advance(0), lambda pulse: pulse.enter("embedding")])
def test_work_that_moves_is_not_taken_for_hung(ledger: Ledger, lease: Lease, move: Callable[[Pulse], None]) -> None:
    """Slow is not hung: each stage and each batch counts as progress."""
    ended = _Ended()
    pulse, _ = _pulse(ledger, lease, stall_s=0.4, on_hang=ended)
    over = time.monotonic() + 0.9  # more than twice the stall

    def moved_on() -> bool:
        move(pulse)
        return time.monotonic() > over

    with pulse:
        wait_until(moved_on, "the work to be done")
    assert not ended.event.is_set()
    assert shard_row(ledger, lease.shard_id).state == ShardState.LEASED


def test_a_heartbeat_survives_an_outage_of_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the ledger is away it is asked every second, however long a lease is; then the lease is renewed at once."""
    monkeypatch.setattr("worker.ledger.database._BUSY_S", 0.05)
    monkeypatch.setattr("worker.heartbeat._FIRST_BEAT_S", 0.05)
    path, cancellation = tmp_path / "ledger.db", Cancellation()
    with (
        Ledger(f"sqlite:///{path}", tmp_path / "checkpoints") as ledger,
        closing(sqlite3.connect(path, isolation_level=None)) as holder,
    ):
        submit(ledger, shards=1)
        lease = claim(ledger)
        first = shard_row(ledger, lease.shard_id).lease_until
        holder.execute("BEGIN IMMEDIATE")
        with Pulse(ledger, lease, cancellation, every_s=1000.0, stall_s=60.0, on_hang=_Ended()):
            wait_until(lambda: ledger._db.failed_within(60.0), "the heartbeat to find the ledger away")
            holder.execute("ROLLBACK")
            wait_until(lambda: shard_row(ledger, lease.shard_id).lease_until > first, "the lease to be renewed", 10.0)
    assert not cancellation.cancelled


def test_a_process_in_which_nothing_moves_ends(ledger: Ledger, lease: Lease) -> None:
    """The shard counts a crash, its history says where the threads stood, and the process is ended."""
    ended = _Ended()
    pulse, _ = _pulse(ledger, lease, stall_s=0.1, on_hang=ended)
    pulse.enter("embedding")

    def stand_in_a_decoder() -> None:
        ended.event.wait()

    stuck = threading.Thread(target=stand_in_a_decoder, name="decoder-7", daemon=True)
    stuck.start()
    with pulse:
        assert ended.event.wait(10.0)
    stuck.join()
    assert ended.said.startswith("Nothing has moved for 0.1 s")
    row = shard_row(ledger, lease.shard_id)
    assert (row.state, row.crashes, row.attempts, row.owner) == (ShardState.PENDING, 1, 0, "")
    last = ledger.jobs.history(lease.job_id)[-1]
    assert (last.event, last.code, last.owner) == ("crashed", "WORKER_LOST", lease.owner)
    assert last.detail.startswith("embedding, 0 of 10 patches, peak ")
    assert "decoder-7: " in last.detail
    assert "stand_in_a_decoder" in last.detail
    assert "test_heartbeat.py:" in last.detail
    assert str(Path(__file__).parent) not in last.detail, "a file's name is enough"


def test_three_hangs_of_a_shard_quarantine_its_job(ledger: Ledger, lease: Lease) -> None:
    """As three dead workers would."""
    shard = lease
    for _ in range(3):
        ended = _Ended()
        with _pulse(ledger, shard, stall_s=0.1, on_hang=ended)[0]:
            assert ended.event.wait(10.0)
        make_due(ledger, shard.shard_id)
        shard = ledger.shards.claim("worker") or shard
    job = ledger.jobs.get(lease.job_id)
    assert (job.state, job.error_code) == ("quarantined", "WORKER_LOST")
    assert "brought down 3 workers" in job.error_message


def test_a_hang_without_a_ledger_ends_the_process_too(ledger: Ledger, lease: Lease) -> None:
    """If the ledger does not answer the lease runs out by itself."""
    ended = _Ended()
    run_out(ledger, lease)
    ledger.shards.reap()  # the same to the heartbeat: it may not write any more
    pulse, _ = _pulse(ledger, lease, stall_s=0.01, on_hang=ended)
    time_to_hang = threading.Event()
    time_to_hang.wait(0.02)
    with pulse:
        assert ended.event.wait(10.0)
    assert [event for _, event, _ in events(ledger, lease.shard_id)] == ["claimed", "expired"]


def test_the_exit_status_asks_for_another_start() -> None:
    """75 is EX_TEMPFAIL of sysexits.h, which supervisors know."""
    assert os.EX_TEMPFAIL == EXIT_HUNG
