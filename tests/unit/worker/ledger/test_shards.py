"""worker.ledger.shards."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from models.domain.codes import ErrorCode
from models.domain.embedding import Output
from models.domain.errors import (
    EndpointBusy,
    EndpointFailed,
    FrameMissing,
    Interrupted,
    JobCancelled,
    LeaseLost,
    LedgerError,
)
from tests.unit.worker.ledger.sample import (
    claim,
    events,
    finish,
    make_due,
    processes,
    rows_of,
    run_out,
    shard_row,
    shard_rows,
    submit,
    together,
)
from worker.ledger import JobState, Lane, Lease, Ledger, Remit

_DRAIN = """
import sys
from pathlib import Path
from worker.ledger import Ledger
with Ledger(sys.argv[1], Path(sys.argv[2])) as ledger:
    while lease := ledger.shards.claim("process"):
        print(lease.shard_id, lease.epoch)
        if lease.kind == "embed":
            ledger.shards.complete(lease)
        else:
            ledger.shards.publish(lease, ())
"""

_QUEUED = (("z", Lane.BACKFILL), ("a", Lane.STANDARD), ("b", Lane.INTERACTIVE), ("c", Lane.STANDARD))
_WRITES: dict[str, Callable[[Ledger, Lease], object]] = {
    "heartbeat": lambda ledger, lease: ledger.shards.heartbeat(lease, 1),
    "complete": lambda ledger, lease: ledger.shards.complete(lease),
    "fail": lambda ledger, lease: ledger.shards.fail(lease, FrameMissing("A frame is missing.")),
    "retry": lambda ledger, lease: ledger.shards.fail(lease, EndpointFailed("The server failed.")),
    "release": lambda ledger, lease: ledger.shards.release(lease),
    "checkpoint": lambda ledger, lease: ledger.checkpoints.save(lease, 0, 1, rows_of(lease)),
}


def test_a_claim_says_what_to_do(ledger: Ledger) -> None:
    """The lease names shard, job, range and epoch; the job is running from then on."""
    job = submit(ledger)
    lease = claim(ledger)
    assert (lease.job_id, lease.kind, lease.index, lease.start, lease.stop) == (job.id, "embed", 0, 0, 10)
    assert (lease.epoch, lease.owner, lease.dispatch_no) == (1, "worker", 0)
    assert ledger.jobs.get(job.id).state == JobState.RUNNING
    assert events(ledger, lease.shard_id) == [(1, "claimed", "")]


def test_shards_are_claimed_by_lane_then_age_then_index(ledger: Ledger) -> None:
    """The urgent job first, then the older one, each from its first shard on."""
    keys = {submit(ledger, key, lane=lane).id: key for key, lane in _QUEUED}
    leases = [claim(ledger) for _ in range(8)]
    assert [(keys[lease.job_id], lease.index) for lease in leases] == [
        ("b", 0), ("b", 1), ("a", 0), ("a", 1), ("c", 0), ("c", 1), ("z", 0), ("z", 1),
    ]  # fmt: skip
    assert ledger.shards.claim("worker") is None


def test_a_claim_can_be_for_one_job_or_some_lanes(ledger: Ledger) -> None:
    """Another job's shards, and those of other lanes, are left alone."""
    submit(ledger, "a")
    second = submit(ledger, "b", shards=1, lane=Lane.BACKFILL)
    assert ledger.shards.claim("worker", remit=Remit((Lane.INTERACTIVE,))) is None
    assert claim(ledger, second.id).job_id == second.id
    assert ledger.shards.claim("worker", second.id) is None
    lease = ledger.shards.claim("worker", remit=Remit((Lane.BACKFILL, Lane.STANDARD)))
    assert lease is not None
    assert lease.job_id != second.id


def test_threads_that_claim_at_once_get_different_shards(ledger: Ledger) -> None:
    """Eight threads, eight shards of one job: everyone gets one, nobody the same."""
    submit(ledger, shards=8)
    leases = together(*[lambda: claim(ledger)] * 8)
    assert len({lease.shard_id for lease in leases}) == 8
    assert ledger.jobs.list(1)[0].state == JobState.RUNNING


def test_processes_that_drain_a_ledger_run_every_shard_once(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    """Four processes, sixty shards: each shard is claimed once and each job published once."""
    for number in range(15):
        submit(ledger, str(number), shards=3)
    outputs = processes(4, _DRAIN, ledger_url, str(tmp_path / "checkpoints"))
    claims = Counter(line for output in outputs for line in output.splitlines())
    assert len(claims) == 60
    assert set(claims.values()) == {1}
    assert {job.state for job in ledger.jobs.list(99)} == {JobState.SUCCEEDED}


def test_a_heartbeat_renews_the_lease_and_counts_patches(ledger: Ledger) -> None:
    """The reaper leaves it alone; the job's progress is the sum over its shards, within their bounds."""
    job = submit(ledger)
    first, second = claim(ledger), claim(ledger)
    run_out(ledger, first)
    assert not ledger.shards.heartbeat(first, 7).cancel_requested
    assert ledger.shards.reap().expired == 0
    ledger.shards.heartbeat(second, 99)
    assert ledger.jobs.get(job.id).patches_done == 17


@pytest.mark.parametrize("write", _WRITES)
@pytest.mark.parametrize("thief", ["nobody", "another worker", "the same worker"])
def test_a_worker_that_lost_its_lease_writes_nothing(ledger: Ledger, write: str, thief: str) -> None:
    """After the lease ran out every write raises, whether the shard waits again or somebody has it."""
    submit(ledger)
    stale = claim(ledger)
    run_out(ledger, stale)
    ledger.shards.reap()
    if thief != "nobody":
        claim(ledger)
    before = shard_row(ledger, stale.shard_id)
    with pytest.raises(LeaseLost):
        _WRITES[write](ledger, stale)
    assert shard_row(ledger, stale.shard_id) == before
    assert ledger.checkpoints.load(stale.job_id) == []
    assert [event for _, event, _ in events(ledger, stale.shard_id)][:2] == ["claimed", "expired"]


def test_a_stale_publisher_publishes_nothing(ledger: Ledger) -> None:
    """Two workers did the work; only the outputs of the one that holds the shard count."""
    job = submit(ledger, shards=0)
    stale = claim(ledger)
    run_out(ledger, stale)
    ledger.shards.reap()
    current = claim(ledger)
    with pytest.raises(LeaseLost):
        ledger.shards.publish(stale, [Output("parquet", "stale", "")])
    with pytest.raises(LeaseLost):
        ledger.shards.rewind(stale)
    ledger.shards.publish(current, [Output("parquet", "current", "")])
    with pytest.raises(LeaseLost):
        ledger.shards.publish(current, ())
    assert [output.uri for output in ledger.jobs.get(job.id).outputs] == ["current"]


def test_a_shard_is_ended_as_what_it_is(ledger: Ledger) -> None:
    """Embed shards are completed, publish shards published."""
    submit(ledger, "a", shards=1)
    embed = claim(ledger)
    with pytest.raises(LedgerError):
        ledger.shards.publish(embed, ())
    ledger.shards.complete(embed)
    with pytest.raises(LedgerError):
        ledger.shards.complete(claim(ledger))


def test_the_last_embed_shard_brings_the_publish_shard(ledger: Ledger) -> None:
    """Not before; and publication ends the job with its outputs."""
    job = submit(ledger)
    first, second = claim(ledger), claim(ledger)
    ledger.shards.complete(first)
    assert ledger.shards.claim("worker") is None
    ledger.shards.complete(second)
    lease = claim(ledger)
    assert (lease.kind, lease.index, lease.start, lease.stop) == ("publish", 2, 0, 0)
    outputs = (Output("parquet", "/a", "ab"), Output("report", "https://pacs/b", "cd", "1.2", "1.2.3"))
    ledger.shards.publish(lease, outputs)
    ended = ledger.jobs.get(job.id)
    assert (ended.state, ended.outputs, ended.patches_done) == (JobState.SUCCEEDED, outputs, 20)
    assert ledger.shards.remaining() == 0


def test_two_last_shards_completed_at_once_bring_one_publish_shard(ledger: Ledger) -> None:
    """Whatever the race, a job gets exactly one publish shard."""
    for number in range(25):
        job = submit(ledger, str(number))
        first, second = claim(ledger), claim(ledger)
        ends = together(partial(ledger.shards.complete, first), partial(ledger.shards.complete, second))
        assert ends == [None, None]
        assert [row.kind for row in shard_rows(ledger, job.id)] == ["embed", "embed", "publish"]
        finish(ledger, claim(ledger))


def test_a_released_shard_is_due_at_once_and_has_used_nothing(ledger: Ledger) -> None:
    """A worker that is asked to stop costs no attempt, by either of the two ways."""
    submit(ledger, shards=1)
    ledger.shards.release(claim(ledger))
    ledger.shards.fail(claim(ledger), Interrupted("The worker stops."))
    lease = claim(ledger)
    row = shard_row(ledger, lease.shard_id)
    assert (row.attempts, row.crashes, lease.epoch) == (0, 0, 3)
    assert [event for _, event, _ in events(ledger, lease.shard_id)] == [
        "claimed", "released", "claimed", "released", "claimed",
    ]  # fmt: skip


def test_a_released_publish_shard_stays_the_only_one(ledger: Ledger) -> None:
    """Nothing is inserted a second time."""
    job = submit(ledger, shards=0)
    ledger.shards.release(claim(ledger))
    assert [row.state for row in shard_rows(ledger, job.id)] == ["pending"]


def test_an_error_that_may_pass_is_tried_again_later(ledger: Ledger) -> None:
    """The shard waits five to ten seconds after its first failure; the rest of the job goes on."""
    job = submit(ledger)
    lease = claim(ledger)
    ledger.shards.fail(lease, EndpointFailed("The server answered 500."))
    assert claim(ledger).index == 1
    assert ledger.shards.claim("worker") is None
    wait_s = ledger.shards.next_due_s()
    assert wait_s is not None
    assert 4.0 < wait_s <= 10.0
    assert ledger.jobs.get(job.id).state == JobState.RUNNING
    assert events(ledger, lease.shard_id)[-1] == (1, "failed", "ENDPOINT_FAILED")
    make_due(ledger, lease.shard_id)
    assert claim(ledger).epoch == 2


def test_a_server_that_names_a_time_is_left_alone_until_then(ledger: Ledger) -> None:
    """Retry-After: 900 means at least fifteen minutes."""
    submit(ledger, shards=1)
    ledger.shards.fail(claim(ledger), EndpointBusy("The server is busy.", retry_after_s=900.0))
    wait_s = ledger.shards.next_due_s()
    assert wait_s == pytest.approx(900.0, abs=5.0)


def test_the_twelfth_failure_is_the_last(ledger: Ledger) -> None:
    """Then the job fails, saying so."""
    job = submit(ledger)
    for _ in range(12):
        lease = claim(ledger)
        assert ledger.jobs.get(job.id).state == JobState.RUNNING
        ledger.shards.fail(lease, EndpointFailed("The server answered 500."))
        make_due(ledger, lease.shard_id)
    ended = ledger.jobs.get(job.id)
    assert (ended.state, ended.error_code) == (JobState.FAILED, "ENDPOINT_FAILED")
    assert ended.error_message == "Given up after 12 attempts: The server answered 500."
    assert [row.state for row in shard_rows(ledger, job.id)] == ["failed", "cancelled"]


def test_an_error_that_stays_ends_the_job(ledger: Ledger) -> None:
    """The job fails with code and one line of message; waiting shards are cancelled, workers told to stop."""
    job = submit(ledger, shards=3)
    broken, other = claim(ledger), claim(ledger)
    ledger.shards.fail(broken, FrameMissing("Frame 7\nis\x00missing."))
    ended = ledger.jobs.get(job.id)
    assert (ended.state, ended.error_code, ended.error_message) == ("failed", "FRAME_MISSING", "Frame 7 is missing.")
    assert [row.state for row in shard_rows(ledger, job.id)] == ["failed", "leased", "cancelled"]
    assert ledger.shards.heartbeat(other, 5).cancel_requested
    ledger.shards.fail(other, JobCancelled("The job has ended."))
    assert ledger.jobs.get(job.id) == replace(ended, patches_done=5)
    assert ledger.shards.remaining() == 0


def test_a_shard_completed_after_its_job_failed_changes_nothing(ledger: Ledger) -> None:
    """No publish shard appears for a job that has ended."""
    job = submit(ledger)
    broken, other = claim(ledger), claim(ledger)
    ledger.shards.fail(broken, FrameMissing("A frame is missing."))
    ledger.shards.complete(other)
    assert ledger.jobs.get(job.id).state == JobState.FAILED
    assert [row.state for row in shard_rows(ledger, job.id)] == ["failed", "done"]


def test_a_publisher_that_misses_checkpoints_sends_their_shards_back(ledger: Ledger) -> None:
    """Only what is missing is embedded again; then the same publish shard is due."""
    job = submit(ledger, shards=3)
    for _ in range(3):
        finish(ledger, claim(ledger))
    publish = claim(ledger)
    ledger.checkpoints.load(job.id)[1][0].path.unlink()
    ledger.checkpoints.load(job.id)
    assert ledger.shards.rewind(publish) == 1
    assert ledger.jobs.get(job.id).patches_done == 20
    lease = claim(ledger)
    assert (lease.kind, lease.index) == ("embed", 1)
    assert ledger.shards.claim("worker") is None
    finish(ledger, lease)
    again = claim(ledger)
    assert (again.shard_id, again.epoch) == (publish.shard_id, 2)
    finish(ledger, again)
    assert ledger.jobs.get(job.id).state == JobState.SUCCEEDED


def test_a_disk_that_keeps_nothing_fails_the_job_in_the_end(ledger: Ledger) -> None:
    """The publish shard comes back twelve times, not for ever."""
    job = submit(ledger, shards=1)
    for _ in range(12):
        ledger.shards.complete(claim(ledger))
        ledger.shards.rewind(claim(ledger))
    ended = ledger.jobs.get(job.id)
    assert (ended.state, ended.error_code) == (JobState.FAILED, ErrorCode.RESULT_CORRUPT)
    assert ledger.shards.remaining() == 0


def test_a_publisher_of_a_cancelled_job_that_misses_checkpoints_lets_go(ledger: Ledger) -> None:
    """The job is cancelled, nothing is embedded again."""
    job = submit(ledger, shards=1)
    ledger.shards.complete(claim(ledger))
    publish = claim(ledger)
    ledger.jobs.cancel(job.id)
    assert ledger.shards.rewind(publish) == 0
    assert ledger.jobs.get(job.id).state == JobState.CANCELLED


def test_what_remains_is_counted_for_all_jobs_or_one(ledger: Ledger) -> None:
    """Waiting and leased shards remain; a publish shard joins them when the last embed shard ends."""
    first, second = submit(ledger, "a", shards=1), submit(ledger, "b", shards=2)
    assert (ledger.shards.remaining(), ledger.shards.remaining(first.id), ledger.shards.remaining(second.id)) == (
        3,
        1,
        2,
    )
    lease = claim(ledger, job_id=first.id)
    assert ledger.shards.remaining(first.id) == 1
    finish(ledger, lease)
    assert ledger.shards.remaining(first.id) == 1
    finish(ledger, claim(ledger, job_id=first.id))
    assert (ledger.shards.remaining(first.id), ledger.shards.remaining()) == (0, 2)


def test_the_next_due_time_is_now_later_or_never(ledger: Ledger) -> None:
    """0 if something can be claimed, None if nothing waits."""
    assert ledger.shards.next_due_s() is None
    job = submit(ledger, shards=1)
    assert ledger.shards.next_due_s(job.id) == 0.0
    claim(ledger)
    assert ledger.shards.next_due_s(job.id) is None


def test_a_checkpoint_counts_under_the_lease_only(ledger: Ledger) -> None:
    """The file of a refused checkpoint is gone again."""
    submit(ledger, shards=1)
    stale = claim(ledger)
    run_out(ledger, stale)
    ledger.shards.reap()
    with pytest.raises(LeaseLost):
        ledger.checkpoints.save(stale, 0, 1, rows_of(stale))
    assert list((ledger.checkpoints._folder / stale.job_id).iterdir()) == []
