"""The ledger under arbitrary histories: against a small model, and under many threads at once."""

import random
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from models.domain.errors import EndpointFailed, FrameMissing, LeaseLost, SlidewireError
from models.domain.job import Lane
from tests.unit.worker.ledger.sample import claim, finish, make_due, run_out, shard_rows, submit, together
from worker.ledger import JobState, Lease, Ledger

_OPEN = {"queued", "running"}
_DEEDS = ("finish", "retry", "break", "bug", "release", "vanish", "beat")


@dataclass
class _Shard:
    """What the model knows of a shard."""

    job: str
    kind: str
    state: str = "pending"
    place: tuple[int, int, int] = (0, 0, 0)
    epoch: int = 0
    attempts: int = 0
    crashes: int = 0


@dataclass
class _Model:
    """The ledger in a few lines: no database, no concurrency."""

    shards: dict[tuple[str, int], _Shard] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    order: dict[str, tuple[int, int]] = field(default_factory=dict)

    def of(self, job: str) -> list[_Shard]:
        return [shard for shard in self.shards.values() if shard.job == job]

    def end(self, job: str, state: str) -> None:
        self.jobs[job] = state
        for shard in self.of(job):
            if shard.state == "pending":
                shard.state = "cancelled"

    def wanted(self, job: str) -> bool:
        return self.jobs[job] in _OPEN and job not in self.cancelled

    def settle(self, job: str) -> None:
        shards = self.of(job)
        if self.jobs[job] not in _OPEN:
            return
        if job in self.cancelled:
            if not any(shard.state == "leased" for shard in shards):
                self.end(job, "cancelled")
        elif all(shard.state == "done" for shard in shards if shard.kind == "embed"):
            index = sum(shard.kind == "embed" for shard in shards)
            rank, turn = self.order[job]
            publish = self.shards.setdefault((job, index), _Shard(job, "publish", place=(rank, turn, index)))
            if publish.state == "cancelled":
                publish.state = "pending"

    def crash(self, shard: _Shard) -> None:
        shard.crashes += 1
        if self.wanted(shard.job) and shard.crashes == 3:
            shard.state = "quarantined"
            self.end(shard.job, "quarantined")
        else:
            self.give_back(shard, "pending")

    def give_back(self, shard: _Shard, state: str) -> None:
        shard.state = state if self.wanted(shard.job) else "cancelled"
        self.settle(shard.job)


class LedgerHistory(RuleBasedStateMachine):
    """Three workers, any order of events; the ledger must agree with the model after each."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="slidewire-history-"))
        self.ledger = Ledger(f"sqlite:///{self.folder / 'ledger.db'}", self.folder / "checkpoints")
        self.model = _Model()
        self.held: list[Lease | None] = [None, None, None]
        self.lost: list[Lease] = []

    def teardown(self) -> None:
        """Whatever happened, the ledger can be drained, and then every job has ended."""
        for job in self.model.jobs:
            for row in shard_rows(self.ledger, job):
                make_due(self.ledger, row.id)
        for lease in self.held:
            if lease is not None:
                with suppress(LeaseLost):
                    self.ledger.shards.release(lease)
        while (lease := self.ledger.shards.claim("drain")) is not None:
            finish(self.ledger, lease)
        assert self.ledger.shards.remaining() == 0
        assert not {job.state for job in self.ledger.jobs.list(1000)} & _OPEN
        self.ledger.close()
        shutil.rmtree(self.folder)

    def _take(self, worker: int) -> tuple[Lease, _Shard]:
        lease, self.held[worker] = self.held[worker], None
        assert lease is not None
        return lease, self.model.shards[lease.job_id, lease.index]

    def _drop_leases(self, lease: Lease) -> None:
        for worker, held in enumerate(self.held):
            if held == lease:
                self.held[worker] = None
        self.lost.append(lease)

    @initialize()
    def first_job(self) -> None:
        """Begin with something to do."""
        self.queue(2, Lane.STANDARD)

    @precondition(lambda self: len(self.model.jobs) < 4)
    @rule(shards=st.integers(0, 3), lane=st.sampled_from(list(Lane)))
    def queue(self, shards: int, lane: Lane) -> None:
        """Submit a job."""
        turn = len(self.model.jobs)
        job = submit(self.ledger, str(turn), shards, lane).id
        self.model.jobs[job] = "queued"
        self.model.order[job] = (lane.rank, turn)
        for index in range(shards):
            self.model.shards[job, index] = _Shard(job, "embed", place=(lane.rank, turn, index))
        self.model.settle(job)

    @rule(worker=st.integers(0, 2))
    def take(self, worker: int) -> None:
        """Claim, unless the worker is busy; back-off is over by then."""
        if self.held[worker] is not None:
            return
        for job in self.model.jobs:
            for row in shard_rows(self.ledger, job):
                make_due(self.ledger, row.id)
        lease = self.held[worker] = self.ledger.shards.claim(str(worker))
        pending = [shard for shard in self.model.shards.values() if shard.state == "pending"]
        assert (lease is None) == (not pending)
        if lease is not None:
            shard = self.model.shards[lease.job_id, lease.index]
            assert shard.place == min(other.place for other in pending)
            shard.state, shard.epoch = "leased", shard.epoch + 1
            assert lease.epoch == shard.epoch
            self.model.jobs[lease.job_id] = "running"

    @rule(worker=st.integers(0, 2), how=st.sampled_from(_DEEDS))
    def act(self, worker: int, how: str) -> None:
        """Do something with a lease."""
        if self.held[worker] is None:
            return
        lease, shard = self._take(worker)
        getattr(self, f"_{how}")(worker, lease, shard)
        if how != "beat":
            self.lost.append(lease)

    def _finish(self, worker: int, lease: Lease, shard: _Shard) -> None:  # noqa: ARG002
        finish(self.ledger, lease)
        shard.state = "done"
        if shard.kind == "publish":
            self.model.end(shard.job, "succeeded")
        self.model.settle(shard.job)

    def _retry(self, worker: int, lease: Lease, shard: _Shard) -> None:  # noqa: ARG002
        self.ledger.shards.fail(lease, EndpointFailed("The server answered 500."))
        if self.model.wanted(shard.job):
            shard.attempts += 1
            shard.state = "failed" if shard.attempts == 12 else "pending"
            if shard.attempts == 12:
                self.model.end(shard.job, "failed")
        else:
            self.model.give_back(shard, "cancelled")

    def _break(self, worker: int, lease: Lease, shard: _Shard) -> None:  # noqa: ARG002
        self.ledger.shards.fail(lease, FrameMissing("A frame is missing."))
        if self.model.wanted(shard.job):
            shard.attempts += 1
            shard.state = "failed"
            self.model.end(shard.job, "failed")
        else:
            self.model.give_back(shard, "cancelled")

    def _bug(self, worker: int, lease: Lease, shard: _Shard) -> None:  # noqa: ARG002
        self.ledger.shards.fail(lease, SlidewireError("Slidewire itself failed."), "TypeError at engine.py:1")
        if self.model.wanted(shard.job):
            self.model.crash(shard)
        else:
            self.model.give_back(shard, "cancelled")

    def _release(self, worker: int, lease: Lease, shard: _Shard) -> None:  # noqa: ARG002
        self.ledger.shards.release(lease)
        self.model.give_back(shard, "pending")

    def _vanish(self, worker: int, lease: Lease, shard: _Shard) -> None:  # noqa: ARG002
        run_out(self.ledger, lease)
        report = self.ledger.shards.reap()
        self.model.crash(shard)
        assert (report.expired, report.quarantined) == (1, int(shard.state == "quarantined"))

    def _beat(self, worker: int, lease: Lease, shard: _Shard) -> None:
        self.held[worker] = lease
        assert self.ledger.shards.heartbeat(lease, 3).cancel_requested == (not self.model.wanted(shard.job))

    @rule(choice=st.integers(0, 3))
    def cancel(self, choice: int) -> None:
        """Cancel some job."""
        job = list(self.model.jobs)[choice % len(self.model.jobs)]
        self.ledger.jobs.cancel(job)
        if self.model.jobs[job] in _OPEN:
            self.model.cancelled.add(job)
            for shard in self.model.of(job):
                if shard.state == "pending":
                    shard.state = "cancelled"
            self.model.settle(job)

    @rule(choice=st.integers(0, 3))
    def reopen(self, choice: int) -> None:
        """Reopen some job; whoever still has a shard of it loses it."""
        job = list(self.model.jobs)[choice % len(self.model.jobs)]
        self.ledger.jobs.reopen(job)
        if self.model.jobs[job] in _OPEN:
            return
        self.model.jobs[job] = "queued"
        self.model.cancelled.discard(job)
        for held in list(self.held):
            if held is not None and held.job_id == job:
                self._drop_leases(held)
        for shard in self.model.of(job):
            shard.attempts = shard.crashes = 0
            if shard.kind == "publish":
                shard.state = "cancelled"
            elif shard.state != "done":
                shard.state = "pending"
        self.model.settle(job)

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def write_stale(self, data: st.DataObject) -> None:
        """Wake a worker that lost its lease: it may write nothing."""
        lease = data.draw(st.sampled_from(self.lost))
        shards = self.ledger.shards
        writes: list[Callable[[], object]] = [partial(shards.release, lease), partial(shards.heartbeat, lease, 9)]
        writes.append(
            partial(shards.publish, lease, ()) if lease.kind == "publish" else partial(shards.complete, lease)
        )
        with pytest.raises(LeaseLost):
            data.draw(st.sampled_from(writes))()

    @invariant()
    def agrees(self) -> None:
        """States, epochs and counters are the model's, and an open job has a shard that will move it on."""
        for job, state in self.model.jobs.items():
            assert self.ledger.jobs.get(job).state == state
            rows = {(job, row.idx): row for row in shard_rows(self.ledger, job)}
            assert rows.keys() == {key for key in self.model.shards if key[0] == job}
            for key, row in rows.items():
                shard = self.model.shards[key]
                expected = (shard.kind, shard.state, shard.epoch, shard.attempts, shard.crashes)
                assert (row.kind, row.state, row.epoch, row.attempts, row.crashes) == expected
            assert (self.ledger.shards.remaining(job) > 0) or state not in _OPEN


TestLedgerHistory = LedgerHistory.TestCase
TestLedgerHistory.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_many_threads_that_do_everything_at_once_neither_deadlock_nor_lose_a_job(ledger: Ledger) -> None:
    """Six threads claim, end, cancel, reopen and reap at random; afterwards every job can be brought to its end."""
    jobs = [submit(ledger, str(number), shards=3).id for number in range(4)]

    def live(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(40):
            lease = ledger.shards.claim(str(seed))
            with suppress(LeaseLost):
                if lease is not None:
                    _end_somehow(ledger, lease, chance)
            what = chance.choice([ledger.jobs.cancel, ledger.jobs.reopen, ledger.jobs.reopen, None])
            if what is not None:
                what(chance.choice(jobs))
            ledger.shards.reap()

    assert together(*[lambda seed=seed: live(seed) for seed in range(6)]) == [None] * 6
    for job in jobs:
        ledger.jobs.reopen(job)
        for row in shard_rows(ledger, job):
            make_due(ledger, row.id)
    while ledger.shards.remaining():
        finish(ledger, claim(ledger))
    assert {job.state for job in ledger.jobs.list(9)} <= {JobState.SUCCEEDED, JobState.CANCELLED}
    for job in jobs:
        assert [row.kind for row in shard_rows(ledger, job)].count("publish") <= 1


def _end_somehow(ledger: Ledger, lease: Lease, chance: random.Random) -> None:
    ledger.shards.heartbeat(lease, 1)
    how = chance.randrange(6)
    if how == 0:
        ledger.shards.release(lease)
    elif how == 1:
        ledger.shards.fail(lease, FrameMissing("A frame is missing."))
    elif how == 2:
        ledger.shards.fail(lease, EndpointFailed("The server answered 500."))
    elif how == 3:
        run_out(ledger, lease)
    else:
        finish(ledger, lease)
