"""worker.ledger.jobs."""

import pytest

from models.domain.embedding import Output
from models.domain.errors import (
    EndpointUnreachable,
    FrameMissing,
    JobNotFound,
    LeaseLost,
    LedgerError,
    OutputUnavailable,
)
from tests.unit.worker.ledger.sample import claim, finish, new_job, run_out, shard_rows, submit, together
from worker.ledger import JobState, Lane, Ledger, NewJob
from worker.ledger.schema import job as job_table

_OUTPUT = Output("parquet", "/results/1.parquet", "ab" * 32)


def test_a_submission_is_answered_with_the_job(ledger: Ledger) -> None:
    """What was submitted is on record, queued, with nothing done."""
    submission = ledger.jobs.submit(new_job("a", shards=3, lane=Lane.BACKFILL))
    job = submission.job
    assert submission.created
    assert (job.key, job.result_key, job.encoder, job.lane) == ("a", "result-a", "pixel-grid", "backfill")
    assert (job.state, job.request, job.patches, job.patches_done) == (JobState.QUEUED, {"key": "a"}, 30, 0)
    assert (job.error_code, job.error_message, job.outputs) == ("", "", ())
    assert ledger.jobs.get(job.id) == job
    assert ledger.jobs.plan(job.id) == b"plan"


def test_submitting_again_finds_the_same_job(ledger: Ledger) -> None:
    """The same key gives the same job and no more shards."""
    first = ledger.jobs.submit(new_job())
    again = ledger.jobs.submit(new_job(lane=Lane.BACKFILL))
    assert (again.created, again.job) == (False, first.job)
    assert ledger.shards.remaining() == 2


def test_a_job_moves_to_an_earlier_lane_and_never_to_a_later_one(ledger: Ledger) -> None:
    """Somebody who asks for a slide of the backfill gets it first; the backfill does not push it back."""
    submit(ledger, "a")
    slow = submit(ledger, "b", lane=Lane.BACKFILL)
    assert submit(ledger, "b", lane=Lane.INTERACTIVE).lane == Lane.INTERACTIVE
    assert submit(ledger, "b", lane=Lane.STANDARD).lane == Lane.INTERACTIVE
    assert claim(ledger).job_id == slow.id


def test_a_damaged_plan_is_noticed(ledger: Ledger) -> None:
    """Its digest was taken at submission."""
    job = submit(ledger)
    with ledger._db.write() as connection:
        connection.execute(job_table.update().values(plan=b"plaN"))
    with pytest.raises(LedgerError, match="damaged"):
        ledger.jobs.plan(job.id)


def test_a_job_has_a_history(ledger: Ledger) -> None:
    """Who had which shard, how it ended and where it was then, in order."""
    job = submit(ledger, shards=1)
    lease = claim(ledger)
    ledger.shards.heartbeat(lease, 3, "embedding, 3 of 10 patches")
    run_out(ledger, lease)
    ledger.shards.reap()
    ledger.shards.fail(claim(ledger), FrameMissing("A frame\nis missing."))
    history = ledger.jobs.history(job.id[:8])
    assert [(one.shard, one.epoch, one.event, one.code) for one in history] == [
        (0, 1, "claimed", ""), (0, 1, "expired", "WORKER_LOST"),
        (0, 2, "claimed", ""), (0, 2, "failed", "FRAME_MISSING"),
    ]  # fmt: skip
    assert history[1].detail == "worker: embedding, 3 of 10 patches"
    assert history[3].detail == "A frame is missing."
    assert [one.at for one in history] == sorted(one.at for one in history)


def test_the_same_job_submitted_at_once_is_queued_once(ledger: Ledger) -> None:
    """Of eight threads that submit one key together exactly one creates the job."""
    answers = together(*[lambda: ledger.jobs.submit(new_job())] * 8)
    assert sorted(answer.created for answer in answers) == [False] * 7 + [True]
    assert len({answer.job.id for answer in answers}) == 1
    assert ledger.shards.remaining() == 2


def test_a_job_without_patches_is_only_published(ledger: Ledger) -> None:
    """Nothing to embed: the publish shard is there from the start."""
    job = submit(ledger, shards=0)
    lease = claim(ledger)
    assert (lease.kind, lease.index, lease.start, lease.stop) == ("publish", 0, 0, 0)
    ledger.shards.publish(lease, [_OUTPUT])
    assert ledger.jobs.get(job.id).state == JobState.SUCCEEDED


@pytest.mark.parametrize("ranges", [((0, 10), (11, 20)), ((0, 10),), ((0, 20), (20, 20)), ((5, 20),), ()])
def test_shards_that_leave_patches_out_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    """Shards cover every patch once, in order."""
    with pytest.raises(LedgerError):
        NewJob("a", "r", "e", 0, {}, b"", 20, ranges)


def test_the_newest_job_is_listed_first(ledger: Ledger) -> None:
    """The list is limited, newest first, and can be narrowed to a state."""
    jobs = [submit(ledger, key) for key in "abc"]
    claim(ledger, job_id=jobs[1].id)
    assert [job.key for job in ledger.jobs.list(2)] == ["c", "b"]
    assert [job.key for job in ledger.jobs.list(9, "queued")] == ["c", "a"]
    assert [job.key for job in ledger.jobs.list(9, JobState.RUNNING)] == ["b"]


def test_a_job_is_found_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    """A prefix that only one job has will do, in either case."""
    job = submit(ledger)
    assert ledger.jobs.get(job.id[:8]) == ledger.jobs.get(job.id.upper()) == job


def test_an_ambiguous_or_unknown_id_is_an_error(ledger: Ledger) -> None:
    """Two jobs that begin alike, an id nobody has, and text that is no id are not found."""
    for suffix in "12":
        job = submit(ledger, suffix)
        with ledger._db.write() as connection:
            connection.execute(job_table.update().where(job_table.c.key == suffix).values(patches=1))
            connection.exec_driver_sql("UPDATE shard SET state = 'done'")
            connection.exec_driver_sql(f"DELETE FROM shard WHERE job_id = '{job.id}'")
            connection.execute(job_table.update().where(job_table.c.key == suffix).values(id="ab" * 15 + "0" + suffix))
    with pytest.raises(JobNotFound, match="More than one"):
        ledger.jobs.get("abab")
    for unknown in ("", "ac", "%", "_", "ab' OR 1=1", "f" * 33):
        for look in (ledger.jobs.get, ledger.jobs.plan, ledger.jobs.cancel, ledger.jobs.reopen):
            with pytest.raises(JobNotFound, match="No job"):
                look(unknown)


def test_a_waiting_job_is_cancelled_at_once(ledger: Ledger) -> None:
    """Nobody works on it: it is cancelled, and nothing of it can be claimed."""
    job = submit(ledger)
    assert ledger.jobs.cancel(job.id[:10]).state == JobState.CANCELLED
    assert ledger.shards.claim("worker") is None
    assert ledger.shards.remaining() == 0


@pytest.mark.parametrize("end", ["release", "fail", "complete", "expire"])
def test_a_running_job_is_cancelled_once_its_worker_lets_go(ledger: Ledger, end: str) -> None:
    """The worker hears of it by its heartbeat; however it ends the lease, the job is cancelled then."""
    job = submit(ledger)
    lease = claim(ledger)
    assert not ledger.shards.heartbeat(lease, 1).cancel_requested
    assert ledger.jobs.cancel(job.id).state == JobState.RUNNING
    assert ledger.shards.heartbeat(lease, 2).cancel_requested
    if end == "release":
        ledger.shards.release(lease)
    elif end == "fail":
        ledger.shards.fail(lease, FrameMissing("A frame is missing."))
    elif end == "complete":
        ledger.shards.complete(lease)
    else:
        run_out(ledger, lease)
        ledger.shards.reap()
    ended = ledger.jobs.get(job.id)
    assert (ended.state, ended.error_code) == (JobState.CANCELLED, "")
    assert ledger.shards.remaining() == 0


def test_two_workers_of_a_cancelled_job_both_let_go(ledger: Ledger) -> None:
    """The job is cancelled with the last lease, not with the first."""
    job = submit(ledger)
    first, second = claim(ledger), claim(ledger)
    ledger.jobs.cancel(job.id)
    ledger.shards.complete(first)
    assert ledger.jobs.get(job.id).state == JobState.RUNNING
    ledger.shards.complete(second)
    assert ledger.jobs.get(job.id).state == JobState.CANCELLED
    assert [row.kind for row in shard_rows(ledger, job.id)] == ["embed", "embed"]


def test_a_publication_that_is_complete_counts_even_if_a_cancel_came_meanwhile(ledger: Ledger) -> None:
    """The objects exist already, so the record says so."""
    job = submit(ledger, shards=0)
    lease = claim(ledger)
    ledger.jobs.cancel(job.id)
    ledger.shards.publish(lease, [_OUTPUT])
    assert ledger.jobs.get(job.id).state == JobState.SUCCEEDED
    assert ledger.jobs.get(job.id).outputs == (_OUTPUT,)


def test_a_job_that_has_ended_cannot_be_cancelled(ledger: Ledger) -> None:
    """It stays as it is."""
    job = submit(ledger, shards=0)
    finish(ledger, claim(ledger))
    assert ledger.jobs.cancel(job.id).state == JobState.SUCCEEDED


def test_a_failed_job_can_be_reopened_and_keeps_what_is_done(ledger: Ledger) -> None:
    """Only the shards that were not done run again, then the job is published."""
    job = submit(ledger, shards=3)
    finish(ledger, claim(ledger))
    ledger.shards.fail(claim(ledger), FrameMissing("A frame is missing."))
    reopened = ledger.jobs.reopen(job.id)
    assert (reopened.state, reopened.error_code, reopened.error_message) == (JobState.QUEUED, "", "")
    assert reopened.patches_done == 10
    leases = [claim(ledger), claim(ledger)]
    assert [lease.index for lease in leases] == [1, 2]
    for lease in leases:
        finish(ledger, lease)
    finish(ledger, claim(ledger))
    assert ledger.jobs.get(job.id).state == JobState.SUCCEEDED
    assert len(ledger.checkpoints.load(job.id)) == 3


def test_reopening_counts_attempts_and_crashes_from_zero(ledger: Ledger) -> None:
    """A quarantined shard gets its three chances again."""
    job = submit(ledger, shards=1)
    for _ in range(3):
        run_out(ledger, claim(ledger))
        ledger.shards.reap()
    assert ledger.jobs.get(job.id).state == JobState.QUARANTINED
    ledger.jobs.reopen(job.id)
    row = shard_rows(ledger, job.id)[0]
    assert (row.state, row.attempts, row.crashes) == ("pending", 0, 0)
    assert claim(ledger).epoch == 4


def test_what_is_given_back_after_its_job_has_failed_is_not_claimed(ledger: Ledger) -> None:
    """A worker that stops lets go of a shard that nobody wants any more."""
    job = submit(ledger)
    first, second = claim(ledger), claim(ledger)
    ledger.shards.fail(first, FrameMissing("A frame is missing."))
    ledger.shards.release(second)
    assert ledger.shards.claim("worker") is None
    assert [row.state for row in shard_rows(ledger, job.id)] == ["failed", "cancelled"]


def test_nothing_waits_in_a_job_that_is_reopened(ledger: Ledger) -> None:
    """A person has asked: what was to be tried again later is due at once, embed shards and the publish shard."""
    job = submit(ledger)
    ledger.shards.fail(claim(ledger), EndpointUnreachable("It is away."))
    ledger.shards.fail(claim(ledger), FrameMissing("A frame is missing."))
    ledger.jobs.reopen(job.id)
    for lease in (claim(ledger), claim(ledger)):
        finish(ledger, lease)
    ledger.shards.fail(claim(ledger), OutputUnavailable("The disk is full."))
    assert ledger.shards.claim("worker") is None
    ledger.jobs.cancel(job.id)
    ledger.jobs.reopen(job.id)
    finish(ledger, claim(ledger))
    assert ledger.jobs.get(job.id).state == JobState.SUCCEEDED


def test_a_succeeded_job_whose_outputs_were_lost_is_only_published_again(ledger: Ledger) -> None:
    """The checkpoints are still there: nothing is embedded twice."""
    job = submit(ledger)
    for _ in range(3):
        finish(ledger, claim(ledger))
    reopened = ledger.jobs.reopen(job.id)
    assert (reopened.state, reopened.outputs) == (JobState.QUEUED, ())
    lease = claim(ledger)
    assert (lease.kind, lease.epoch) == ("publish", 2)
    ledger.shards.publish(lease, [_OUTPUT])
    assert ledger.jobs.get(job.id).outputs == (_OUTPUT,)
    assert ledger.shards.remaining() == 0


def test_a_succeeded_job_without_checkpoints_is_embedded_again(ledger: Ledger) -> None:
    """After the checkpoints were discarded every shard runs again, the publish shard last and only once."""
    job = submit(ledger)
    for _ in range(3):
        finish(ledger, claim(ledger))
    ledger.checkpoints.discard(job.id)
    assert ledger.jobs.reopen(job.id).patches_done == 0
    kinds = []
    for _ in range(3):
        lease = claim(ledger)
        kinds.append(lease.kind)
        finish(ledger, lease)
    assert kinds == ["embed", "embed", "publish"]
    assert ledger.jobs.get(job.id).state == JobState.SUCCEEDED
    assert ledger.shards.claim("worker") is None


def test_reopening_takes_the_lease_from_a_worker_that_has_not_noticed(ledger: Ledger) -> None:
    """A job failed while another worker was on it; reopened, that worker may not write any more."""
    job = submit(ledger)
    stale = claim(ledger)
    ledger.shards.fail(claim(ledger), FrameMissing("A frame is missing."))
    assert ledger.shards.heartbeat(stale, 1).cancel_requested
    ledger.jobs.reopen(job.id)
    with pytest.raises(LeaseLost):
        ledger.shards.complete(stale)
    assert claim(ledger).epoch == 2


def test_a_cancelled_job_can_be_reopened(ledger: Ledger) -> None:
    """It is queued as if it had never been cancelled."""
    job = submit(ledger)
    ledger.jobs.cancel(job.id)
    ledger.jobs.reopen(job.id)
    for _ in range(3):
        lease = claim(ledger)
        assert not ledger.shards.heartbeat(lease, 0).cancel_requested
        finish(ledger, lease)
    assert ledger.jobs.get(job.id).state == JobState.SUCCEEDED


def test_a_job_that_has_not_ended_cannot_be_reopened(ledger: Ledger) -> None:
    """Its worker keeps its lease."""
    job = submit(ledger)
    lease = claim(ledger)
    assert ledger.jobs.reopen(job.id).state == JobState.RUNNING
    ledger.shards.complete(lease)
