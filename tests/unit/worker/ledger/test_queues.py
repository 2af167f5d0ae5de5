"""worker.ledger.queues, and claims by encoder: workers that serve some encoders only."""

import time
from dataclasses import replace

import pytest
from sqlalchemy import update

from models.domain.errors import EndpointFailed
from tests.unit.worker.ledger.sample import claim, finish, new_job, shard_rows
from worker.ledger import Calls, JobRecord, Lane, Lease, Ledger, Remit
from worker.ledger.queues import queue_of
from worker.ledger.schema import shard

_UNI, _GRID = Remit(encoders=("uni",)), Remit(encoders=("pixel-grid",))


def _submit(
    ledger: Ledger, key: str, encoder: str, *, shards: int = 1, lane: Lane = Lane.STANDARD, endpoint: str = ""
) -> JobRecord:
    return ledger.jobs.submit(replace(new_job(key, shards, lane, endpoint), encoder=encoder)).job


def _claimed(ledger: Ledger, remit: Remit) -> Lease | None:
    return ledger.shards.claim("worker", remit=remit)


def _order(ledger: Ledger, remit: Remit, jobs: dict[str, JobRecord]) -> str:
    keys = {job.id: key for key, job in jobs.items()}
    leases = iter(lambda: _claimed(ledger, remit), None)
    return " ".join(f"{keys[lease.job_id]}{lease.index}" for lease in leases)


@pytest.mark.parametrize(
    ("remit", "order"),
    [
        (_UNI, "c0 b0 b1 f0"),
        (_GRID, "d0 a0 e0"),
        (Remit(encoders=("uni", "pixel-grid")), "c0 d0 a0 b0 b1 e0 f0"),
        (Remit((Lane.STANDARD,), ("uni",)), "b0 b1"),
        (Remit(encoders=("uni", "gigapath")), "c0 b0 b1 f0"),
        (Remit(encoders=("un", "uni2", "")), ""),
        (Remit(), "c0 d0 a0 b0 b1 e0 f0"),
    ],
)
def test_a_worker_of_some_encoders_gets_their_jobs_in_order(ledger: Ledger, remit: Remit, order: str) -> None:
    """By lane, age and index over all servers and all of its encoders; other encoders' jobs are left alone."""
    jobs = {
        key: _submit(ledger, key, encoder, shards=count, lane=lane, endpoint=endpoint)
        for key, encoder, count, lane, endpoint in (
            ("a", "pixel-grid", 1, Lane.STANDARD, "pacs"),
            ("b", "uni", 2, Lane.STANDARD, "archive"),
            ("c", "uni", 1, Lane.INTERACTIVE, "pacs"),
            ("d", "pixel-grid", 1, Lane.INTERACTIVE, ""),
            ("e", "pixel-grid", 1, Lane.BACKFILL, "archive"),
            ("f", "uni", 1, Lane.BACKFILL, "pacs"),
        )
    }
    assert _order(ledger, remit, jobs) == order


def test_publishing_and_trying_again_stay_with_the_encoder(ledger: Ledger) -> None:
    """The publish shard, a shard that was given back, and a job that was reopened are in the same queue."""
    job = _submit(ledger, "a", "uni", endpoint="pacs")
    lease = _claimed(ledger, _UNI)
    assert lease is not None
    ledger.shards.release(lease)
    assert _claimed(ledger, _GRID) is None
    again = _claimed(ledger, _UNI)
    assert again is not None
    finish(ledger, again)
    assert _claimed(ledger, _GRID) is None
    publish = _claimed(ledger, _UNI)
    assert publish is not None
    assert publish.kind == "publish"
    ledger.jobs.cancel(job.id)
    ledger.shards.release(publish)
    ledger.jobs.reopen(job.id)
    assert _claimed(ledger, _GRID) is None
    assert _claimed(ledger, _UNI) is not None


def test_a_hurried_job_is_hurried_for_workers_of_its_encoder(ledger: Ledger) -> None:
    """Submitted again in an earlier lane it comes first."""
    jobs = {"a": _submit(ledger, "a", "uni"), "b": _submit(ledger, "b", "uni", lane=Lane.BACKFILL)}
    _submit(ledger, "b", "uni", lane=Lane.INTERACTIVE)
    assert _order(ledger, _UNI, jobs) == "b0 a0"


def test_a_paused_server_is_left_alone_by_workers_of_an_encoder(ledger: Ledger) -> None:
    """What holds for all holds for them: others' shards are claimed, and a half-open server is tried by one."""
    jobs = {
        "a": _submit(ledger, "a", "uni", shards=3, endpoint="pacs"),
        "b": _submit(ledger, "b", "uni", endpoint="archive"),
    }
    for _ in range(5):
        ledger.endpoints.note("pacs", Calls(failure="ENDPOINT_FAILED"))
    assert _order(ledger, _UNI, jobs) == "b0"
    with ledger._db.write() as connection:
        connection.exec_driver_sql("UPDATE endpoint SET open_until = 0 WHERE key = 'pacs'")
    assert _order(ledger, _UNI, jobs) == "a0"


def test_what_backs_off_lets_others_of_its_encoder_pass(ledger: Ledger) -> None:
    """A shard that waits to be tried again does not close the queue behind it."""
    _submit(ledger, "a", "uni", endpoint="pacs")
    later = _submit(ledger, "b", "uni", endpoint="pacs")
    first = _claimed(ledger, _UNI)
    assert first is not None
    ledger.shards.fail(first, EndpointFailed("The server answered 500."))
    second = _claimed(ledger, _UNI)
    assert second is not None
    assert second.job_id == later.id
    assert _claimed(ledger, _UNI) is None


def test_what_an_older_process_queued_is_found(ledger: Ledger) -> None:
    """Its shards name no queue: who looks for an encoder's puts them where they belong, and takes only those."""
    jobs = {"a": _submit(ledger, "a", "pixel-grid"), "b": _submit(ledger, "b", "uni", shards=2, endpoint="pacs")}
    done = _claimed(ledger, _GRID)
    assert done is not None
    with ledger._db.write() as connection:
        connection.execute(update(shard).values(queue=""))
    assert _order(ledger, _UNI, jobs) == "b0 b1"
    assert {row.queue for row in shard_rows(ledger, jobs["b"].id)} == {queue_of("uni", "pacs")}
    ledger.shards.release(done)
    assert _order(ledger, _GRID, jobs) == "a0"


def test_what_remains_is_counted_within_a_remit(ledger: Ledger) -> None:
    """Waiting and leased shards, of some encoders and some lanes."""
    _submit(ledger, "a", "uni", shards=3)
    _submit(ledger, "b", "pixel-grid", shards=2, lane=Lane.BACKFILL)
    claim(ledger)
    count = ledger.shards.remaining
    assert (count(), count(remit=_UNI), count(remit=_GRID)) == (5, 3, 2)
    assert count(remit=Remit((Lane.BACKFILL,))) == 2
    assert count(remit=Remit((Lane.BACKFILL,), ("uni",))) == 0


def _fill(ledger: Ledger, like: str, count: int, **changes: str) -> None:
    """Insert many shards like the first one of a job, of the same job, but for some columns."""
    names = [column.name for column in shard.c if column.name not in {"id", "idx"}]
    values = ", ".join(changes.get(name, name) for name in names)
    with ledger._db.write() as connection:
        connection.exec_driver_sql(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
            f"INSERT INTO shard (id, idx, {', '.join(names)}) SELECT '{like[:20]}' || CAST(n AS TEXT), n + 1, {values} "
            f"FROM shard, numbers WHERE job_id = '{like}' AND idx = 0"
        )


def test_a_long_queue_of_other_encoders_costs_nothing(ledger: Ledger) -> None:
    """Behind 40,000 shards of another encoder, and 4,000 that back off, a claim takes milliseconds.

    Whatever the database knows of the numbers of each.
    """
    other = _submit(ledger, "other", "pixel-grid", lane=Lane.INTERACTIVE, endpoint="pacs")
    backing = _submit(ledger, "backing", "uni", lane=Lane.INTERACTIVE, endpoint="pacs")
    _submit(ledger, "wanted", "uni", shards=30, lane=Lane.INTERACTIVE, endpoint="pacs")
    _fill(ledger, other.id, 40_000)
    _fill(ledger, backing.id, 4_000, not_before="4e9")
    for statement in ("SELECT 1", "ANALYZE"):
        with ledger._db.write() as connection:
            connection.exec_driver_sql(statement)
        spent: list[float] = []
        for _ in range(15):
            started = time.perf_counter()
            assert _claimed(ledger, _UNI) is not None
            spent.append(time.perf_counter() - started)
        assert sorted(spent)[7] < 0.02, sorted(spent)
