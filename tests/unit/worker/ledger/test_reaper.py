"""worker.ledger.reaper."""

import pytest

from models.domain.errors import EmbeddingInvalid
from tests.unit.worker.ledger.sample import claim, events, finish, run_out, shard_rows, submit, together
from worker.ledger import JobState, Ledger, ReapReport, Rules


def test_a_lease_that_holds_is_left_alone(ledger: Ledger) -> None:
    """Nothing ran out, nothing happens."""
    submit(ledger)
    claim(ledger)
    assert ledger.shards.reap() == ReapReport(expired=0, quarantined=0)


def test_a_short_lease_runs_out_by_the_database_clock(ledger: Ledger) -> None:
    """A lease of no length is over as soon as the clock moves."""
    ledger.shards._rules = Rules(lease_s=0.0)
    submit(ledger, shards=1)
    claim(ledger)
    while not ledger.shards.reap().expired:
        pass
    assert claim(ledger).epoch == 2


def test_the_shard_of_a_dead_worker_is_due_at_once(ledger: Ledger) -> None:
    """Crashes are counted, attempts are not; progress and audit stay."""
    job = submit(ledger)
    lease = claim(ledger)
    ledger.shards.heartbeat(lease, 4)
    run_out(ledger, lease)
    assert ledger.shards.reap() == ReapReport(expired=1, quarantined=0)
    row = shard_rows(ledger, job.id)[0]
    assert (row.state, row.crashes, row.attempts, row.patches_done, row.owner) == ("pending", 1, 0, 4, "")
    assert events(ledger, lease.shard_id)[-1] == (1, "expired", "WORKER_LOST")
    assert claim(ledger).shard_id == lease.shard_id


def test_the_third_crash_quarantines_the_job(ledger: Ledger) -> None:
    """A slide that kills its workers is given up; other jobs go on, their shards are not touched."""
    poison, other = submit(ledger, "poison"), submit(ledger, "other")
    for crash in range(3):
        assert ledger.jobs.get(poison.id).state == ("running" if crash else "queued")
        run_out(ledger, claim(ledger))
        assert ledger.shards.reap() == ReapReport(expired=1, quarantined=int(crash == 2))
    ended = ledger.jobs.get(poison.id)
    assert (ended.state, ended.error_code) == (JobState.QUARANTINED, "WORKER_LOST")
    assert "Shard 0 of this job brought down 3 workers" in ended.error_message
    assert "worker: no heartbeat" in ended.error_message
    assert [row.state for row in shard_rows(ledger, poison.id)] == ["quarantined", "cancelled"]
    assert claim(ledger).job_id == other.id


def test_a_publish_shard_is_quarantined_like_any_other(ledger: Ledger) -> None:
    """Workers that die while publishing end the job, too."""
    job = submit(ledger, shards=1)
    finish(ledger, claim(ledger))
    for _ in range(3):
        run_out(ledger, claim(ledger))
        ledger.shards.reap()
    assert ledger.jobs.get(job.id).state == JobState.QUARANTINED


def test_a_lease_is_taken_back_once_by_several_reapers(ledger: Ledger) -> None:
    """Four reapers at once count one crash."""
    job = submit(ledger, shards=1)
    run_out(ledger, claim(ledger))
    reports = together(*[ledger.shards.reap] * 4)
    assert sum(report.expired for report in reports) == 1
    assert shard_rows(ledger, job.id)[0].crashes == 1


@pytest.mark.parametrize("end", [JobState.CANCELLED, JobState.FAILED])
def test_the_third_crash_of_what_nobody_wants_quarantines_nothing(ledger: Ledger, end: JobState) -> None:
    """A job that is cancelled, or has failed by another shard, ends as that; the crash is in its history."""
    job = submit(ledger)
    for _ in range(2):
        run_out(ledger, claim(ledger))
        ledger.shards.reap()
    last, other = claim(ledger), claim(ledger)
    assert (last.index, last.epoch) == (0, 3)
    if end is JobState.FAILED:
        ledger.shards.fail(other, EmbeddingInvalid("NaN."))
    else:
        ledger.jobs.cancel(job.id)
        ledger.shards.release(other)
    run_out(ledger, last)
    assert ledger.shards.reap() == ReapReport(expired=1, quarantined=0)
    assert ledger.jobs.get(job.id).state is end
    row = shard_rows(ledger, job.id)[0]
    assert (row.state, row.crashes, row.owner) == ("cancelled", 3, "")
    assert events(ledger, last.shard_id)[-1] == (3, "expired", "WORKER_LOST")


def test_where_a_dead_worker_was_is_not_said_of_the_next_one(ledger: Ledger) -> None:
    """A worker that dies before its first heartbeat is not where the one before it was."""
    job = submit(ledger, shards=1)
    first = claim(ledger)
    ledger.shards.heartbeat(first, 4, "embedding, 4 of 10 patches")
    run_out(ledger, first)
    ledger.shards.reap()
    run_out(ledger, claim(ledger))
    ledger.shards.reap()
    details = [one.detail for one in ledger.jobs.history(job.id) if one.event == "expired"]
    assert details == ["worker: embedding, 4 of 10 patches", "worker: no heartbeat yet"]
