"""worker.ledger.failures: each kind of error has its own path."""

import pytest

from models.domain.codes import ErrorCode
from models.domain.errors import (
    AccessDenied,
    EmbeddingInvalid,
    EndpointFailed,
    EndpointPaused,
    EndpointUnreachable,
    LedgerUnavailable,
    SlidewireError,
    SourceError,
    VersionUnknown,
    WorkerLost,
    WorkFailed,
)
from models.domain.job import JobState
from tests.unit.worker.ledger.sample import claim, events, make_due, shard_row, submit
from worker.ledger import Calls, Lease, Ledger, Rules
from worker.ledger.failures import Failure, failure_of
from worker.ledger.schema import shard

_PACS = "pacs"


@pytest.fixture
def lease(ledger: Ledger) -> Lease:
    """Lease the only shard of a job that is read from an endpoint."""
    submit(ledger, shards=1, endpoint=_PACS)
    return claim(ledger)


def _waited_for(ledger: Ledger, lease: Lease, hours: float) -> None:
    with ledger._db.write() as connection:
        query = shard.update().where(shard.c.id == lease.shard_id)
        connection.execute(query.values(deferred_at=shard.c.deferred_at - hours * 3600.0, not_before=0.0))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EndpointUnreachable("It is away."), Failure.TRANSIENT),
        (LedgerUnavailable("It is away."), Failure.TRANSIENT),
        (AccessDenied("No."), Failure.ACCESS),
        (EmbeddingInvalid("NaN."), Failure.PERMANENT),
        (SourceError("It has changed."), Failure.PERMANENT),
        (WorkFailed.of(EndpointFailed("Once and for all.")), Failure.PERMANENT),
        (WorkFailed("What ended another job.", None, ErrorCode.INTERNAL), Failure.PERMANENT),
        (SlidewireError("Slidewire itself failed."), Failure.BUG),
        (WorkerLost("No progress."), Failure.BUG),
        (VersionUnknown("It is newer."), Failure.NEWER),
    ],
)
def test_every_error_is_of_one_kind(error: SlidewireError, kind: Failure) -> None:
    """By its class; a final error is permanent whatever it was."""
    assert failure_of(error) is kind


@pytest.mark.parametrize("error", [EndpointFailed("500."), AccessDenied("401.")])
def test_a_server_that_answers_nobody_costs_no_attempt(ledger: Ledger, lease: Lease, error: SlidewireError) -> None:
    """The shard waits for the server, and says so; when somebody was answered, the same error counts."""
    ledger.shards.fail(lease, error)
    row = shard_row(ledger, lease.shard_id)
    assert (row.state, row.attempts, row.crashes) == ("pending", 0, 0)
    assert row.deferred_at is not None
    assert row.not_before > row.deferred_at
    assert events(ledger, lease.shard_id)[-1] == (1, "deferred", error.code)
    make_due(ledger, lease.shard_id)
    again = claim(ledger)
    ledger.endpoints.note(_PACS, Calls(successes=1))
    ledger.shards.fail(again, error)
    row = shard_row(ledger, lease.shard_id)
    assert (row.state, row.attempts, row.deferred_at) == ("pending", 1, None)
    assert events(ledger, lease.shard_id)[-1] == (2, "failed", error.code)


@pytest.mark.parametrize("answered", [False, True])
def test_a_shard_waits_as_long_as_the_server_asks(ledger: Ledger, lease: Lease, *, answered: bool) -> None:
    """Retry-After holds, whether the server answers others or nobody."""
    ledger.endpoints.note(_PACS, Calls(successes=int(answered)))
    ledger.shards.fail(lease, EndpointFailed("503.", retry_after_s=500.0))
    row = shard_row(ledger, lease.shard_id)
    assert row.attempts == int(answered)
    assert 500.0 <= row.not_before - row.claimed_at < 1000.0


def test_an_answer_from_before_the_claim_does_not_count(ledger: Ledger) -> None:
    """That the server worked once says nothing of now."""
    submit(ledger, shards=1, endpoint=_PACS)
    ledger.endpoints.note(_PACS, Calls(successes=1))
    lease = claim(ledger)
    ledger.shards.fail(lease, EndpointUnreachable("It is away."))
    assert shard_row(ledger, lease.shard_id).attempts == 0


def test_a_paused_endpoint_puts_the_shard_back_as_it_was(ledger: Ledger, lease: Lease) -> None:
    """Whether the server has answered others meanwhile does not matter: nothing was asked of it."""
    ledger.endpoints.note(_PACS, Calls(successes=1))
    ledger.shards.fail(lease, EndpointPaused("It is left alone."))
    row = shard_row(ledger, lease.shard_id)
    assert (row.state, row.attempts) == ("pending", 0)
    assert claim(ledger).shard_id == lease.shard_id


def test_patience_ends(ledger: Ledger, lease: Lease) -> None:
    """After a week of waiting the job fails with what the server last did; the wait counts from its beginning."""
    ledger.shards.fail(lease, AccessDenied("401."))
    _waited_for(ledger, lease, 100.0)
    ledger.shards.fail(claim(ledger), AccessDenied("401."))
    assert ledger.jobs.get(lease.job_id).state is JobState.RUNNING
    _waited_for(ledger, lease, 69.0)
    ledger.shards.fail(claim(ledger), AccessDenied("401."))
    ended = ledger.jobs.get(lease.job_id)
    assert (ended.state, ended.error_code) == (JobState.FAILED, "ACCESS_DENIED")
    assert ended.error_message == "Given up after waiting 169 h for the server: 401."
    ledger.jobs.reopen(lease.job_id)
    assert shard_row(ledger, lease.shard_id).deferred_at is None


def test_patience_is_a_rule(ledger: Ledger, lease: Lease) -> None:
    """A shorter one ends sooner."""
    ledger.shards._rules = Rules(patience_s=3600.0)
    ledger.shards.fail(lease, EndpointPaused("It is left alone."))
    _waited_for(ledger, lease, 2.0)
    ledger.shards.fail(claim(ledger), EndpointPaused("It is left alone."))
    assert ledger.jobs.get(lease.job_id).error_code == "ENDPOINT_PAUSED"


def test_an_error_of_the_ledger_or_a_slide_on_disk_counts(ledger: Ledger) -> None:
    """Only servers are waited for."""
    submit(ledger, shards=1, endpoint=_PACS)
    lease = claim(ledger)
    ledger.shards.fail(lease, LedgerUnavailable("The disk is full."))
    assert shard_row(ledger, lease.shard_id).attempts == 1
    submit(ledger, "local", shards=1)
    local = claim(ledger)
    ledger.shards.fail(local, EndpointFailed("500."))
    assert shard_row(ledger, local.shard_id).attempts == 1


def test_a_bug_is_tried_three_times_and_then_put_aside(ledger: Ledger, lease: Lease) -> None:
    """It counts as a crash, waits a little in between, and the history says where it was."""
    for crash in range(1, 4):
        ledger.shards.fail(lease, SlidewireError("Slidewire itself failed (TypeError)."), "TypeError at engine.py:7")
        row = shard_row(ledger, lease.shard_id)
        assert (row.crashes, row.attempts) == (crash, 0)
        assert events(ledger, lease.shard_id)[-1] == (crash, "crashed", "INTERNAL")
        if crash < 3:
            assert ledger.shards.claim("worker") is None
            make_due(ledger, lease.shard_id)
            lease = claim(ledger)
    ended = ledger.jobs.get(lease.job_id)
    assert (ended.state, ended.error_code) == (JobState.QUARANTINED, "INTERNAL")
    assert "TypeError at engine.py:7" in ended.error_message


def test_crashes_of_each_way_are_counted_together(ledger: Ledger, lease: Lease) -> None:
    """A bug, a hang and a bug: the third is the last."""
    for error in (SlidewireError("A bug."), WorkerLost("No progress."), SlidewireError("A bug.")):
        ledger.shards.fail(lease, error)
        if ledger.jobs.get(lease.job_id).state is JobState.RUNNING:
            make_due(ledger, lease.shard_id)
            lease = claim(ledger)
    assert ledger.jobs.get(lease.job_id).state is JobState.QUARANTINED


def test_a_job_of_a_newer_slidewire_is_left_to_newer_workers(ledger: Ledger, lease: Lease) -> None:
    """However often and for however long: nothing counts, nothing fails, and others have a minute to take it."""
    ledger.shards.fail(lease, AccessDenied("401."))
    _waited_for(ledger, lease, 1000.0)
    for epoch in range(2, 16):
        found = claim(ledger)
        ledger.shards.fail(found, VersionUnknown("It is newer."))
        row = shard_row(ledger, lease.shard_id)
        assert (row.state, row.attempts, row.crashes, row.epoch) == ("pending", 0, 0, epoch)
        assert events(ledger, lease.shard_id)[-1] == (epoch, "deferred", "VERSION_UNKNOWN")
        assert ledger.shards.claim("worker") is None
        wait_s = ledger.shards.next_due_s(lease.job_id)
        assert wait_s is not None
        assert 50.0 < wait_s <= 60.0
        make_due(ledger, lease.shard_id)
    assert ledger.jobs.get(lease.job_id).state is JobState.RUNNING
    ledger.jobs.cancel(lease.job_id)
    assert ledger.jobs.get(lease.job_id).state is JobState.CANCELLED
