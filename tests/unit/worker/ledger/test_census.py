"""The census: what it counts, what it leaves out, and that it asks indexes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update

from connectors.intake.protocol import Place, Sighting
from models.domain.errors import JobCancelled, SourceError
from tests.bench.ledgers import fill
from tests.unit.worker.ledger.sample import claim, new_job, run_out, submit
from worker.ledger import Calls, JobState, Lane, Ledger
from worker.ledger.arrival_records import ArrivalState, Decision, Patience
from worker.ledger.schema import job, shard

_ANY = Patience(0.0, 1e6)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger in a file."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "checkpoints") as opened:
        yield opened


def _aged(ledger: Ledger, job_id: str, age_s: float) -> None:
    """Let a job and its shards be as they are for so long."""
    then = ledger._db.now - age_s
    with ledger._db.write() as connection:
        connection.execute(update(job).where(job.c.id == job_id).values(created_at=then))
        connection.execute(update(shard).where(shard.c.job_id == job_id).values(updated_at=then))


def _due(ledger: Ledger) -> dict[tuple[str, str], int]:
    return {(one.encoder, one.lane): one.due for one in ledger.census.take().waiting if one.due}


def test_an_empty_ledger(ledger: Ledger) -> None:
    """Nothing, and no error."""
    figures = ledger.census.take()
    assert figures.waiting == ()
    assert figures.leased == {}
    assert figures.oldest_unclaimed_s == 0.0
    assert figures.expiries == figures.notices == 0
    assert set(figures.jobs.values()) == {0}
    assert set(figures.jobs) == set(JobState)


def test_waiting_shards_are_counted_by_encoder_and_lane(ledger: Ledger) -> None:
    """Not those that are worked on, nor those that wait to be tried again."""
    submit(ledger, "a", 3)
    submit(ledger, "b", 2, Lane.INTERACTIVE, "pacs")
    ledger.jobs.submit(replace(new_job("c", 2, endpoint="pacs"), encoder="uni"))
    assert _due(ledger) == {
        ("pixel-grid", "standard"): 3, ("pixel-grid", "interactive"): 2, ("uni", "standard"): 2,
    }  # fmt: skip
    lease = claim(ledger)
    assert _due(ledger)["pixel-grid", "interactive"] == 1
    assert ledger.census.take().leased == {"pixel-grid": 1}
    ledger.endpoints.note("pacs", Calls(successes=1))  # the server answers, so a failure costs an attempt and a wait
    ledger.shards.fail(lease, SourceError("x"))
    assert _due(ledger) == {("pixel-grid", "standard"): 3, ("uni", "standard"): 2}, "a failed job is wanted no more"


def test_ages_count_from_when_a_shard_became_due(ledger: Ledger) -> None:
    """A shard that waits to be tried again is none of the queue's, and begins anew when it is due."""
    first, second = submit(ledger, "a", 1), submit(ledger, "b", 1)
    _aged(ledger, first.id, 500.0)
    _aged(ledger, second.id, 100.0)
    assert _oldest(ledger) == pytest.approx(500.0, abs=20.0)
    assert ledger.census.take().oldest_unclaimed_s == pytest.approx(500.0, abs=20.0)
    with ledger._db.write() as connection:
        connection.execute(update(shard).where(shard.c.job_id == first.id).values(not_before=ledger._db.now + 1000))
    assert _oldest(ledger) == pytest.approx(100.0, abs=20.0)
    assert ledger.census.take().oldest_unclaimed_s == pytest.approx(500.0, abs=20.0), "whatever it waits for"
    with ledger._db.write() as connection:
        connection.execute(update(shard).where(shard.c.job_id == first.id).values(not_before=ledger._db.now - 300))
    assert _oldest(ledger) == pytest.approx(300.0, abs=20.0)


def _oldest(ledger: Ledger) -> float:
    return max(one.oldest_s for one in ledger.census.take().waiting if one.lane is Lane.STANDARD)


def test_shards_of_a_server_that_is_left_alone_are_none_of_the_queue(ledger: Ledger) -> None:
    """More workers would not help; the server itself is told."""
    submit(ledger, "a", 3, endpoint="pacs")
    submit(ledger, "b", 2)
    ledger.endpoints.note("pacs", Calls(failure="ACCESS_DENIED", denied=True))
    assert _due(ledger) == {("pixel-grid", "standard"): 2}
    assert ledger.census.take().open_endpoints == {"pacs": True}
    ledger.endpoints.resume("pacs")
    assert _due(ledger) == {("pixel-grid", "standard"): 5}
    assert ledger.census.take().open_endpoints == {"pacs": False}


def test_counts_stop_somewhere(ledger: Ledger) -> None:
    """A million shards are not counted one by one: ten thousand of an endpoint's are as many."""
    fill(ledger, 10_200, endpoint="pacs")
    assert _due(ledger) == {("pixel-grid", "standard"): 10_000}
    fill(ledger, 30, first=5000, endpoint="second")
    assert _due(ledger) == {("pixel-grid", "standard"): 10_030}


def test_expiries_are_counted_from_the_first_census_on(ledger: Ledger) -> None:
    """Each once, though looked at again; those before are another process' business."""
    submit(ledger, "a", 3)
    run_out(ledger, claim(ledger))
    ledger.shards.reap()
    assert ledger.census.take().expiries == 0
    for count in (1, 2):
        run_out(ledger, claim(ledger))
        ledger.shards.reap()
        assert ledger.census.take().expiries == count
        assert ledger.census.take().expiries == count


def test_jobs_are_counted_by_state(ledger: Ledger) -> None:
    """Every state is told, also that nobody is in."""
    submit(ledger, "a")
    ledger.jobs.cancel(submit(ledger, "b").id)
    lease = claim(ledger)
    assert ledger.census.take().jobs == {
        **dict.fromkeys(JobState, 0), JobState.RUNNING: 1, JobState.CANCELLED: 1,
    }  # fmt: skip
    ledger.shards.fail(lease, JobCancelled("x"))


def test_arrivals_and_watches_are_told(ledger: Ledger) -> None:
    """By state, and how long ago log and archive were read."""
    place, cursor = Place(), ledger.arrivals.open("pacs", Place()).search
    before = ledger.census.take().watches
    assert [(one.endpoint, one.read_s, one.reconciled_s) for one in before] == [("pacs", None, None)]
    seen = [Sighting("1.2", "1.2.1"), Sighting("1.2", "1.2.2")]
    assert ledger.arrivals.read("pacs", place, Place(2, "x"), seen, _ANY)
    assert ledger.arrivals.searched("pacs", cursor, replace(cursor, listed=False), (), _ANY)
    assert ledger.arrivals.searched("pacs", replace(cursor, listed=False), cursor, (), _ANY)
    first = ledger.arrivals.due("pacs", 1)[0]
    assert ledger.arrivals.decide(first, Decision(ArrivalState.OVERDUE))
    figures = ledger.census.take()
    assert figures.arrivals == {("pacs", "overdue"): 1, ("pacs", "settling"): 1}
    assert figures.notices == 1
    [watch] = figures.watches
    assert watch.read_s == pytest.approx(0.0, abs=20.0)
    assert watch.reconciled_s == pytest.approx(0.0, abs=20.0)


def test_shards_of_an_older_version_count_as_well(ledger: Ledger) -> None:
    """They stand in no queue at first."""
    submit(ledger, "a", 2)
    with ledger._db.write() as connection:
        connection.execute(update(shard).values(queue=""))
    assert _due(ledger) == {("pixel-grid", "standard"): 2}


def test_no_question_walks_through_the_shards(ledger: Ledger) -> None:
    """SQLite says of each statement how it goes about it: by an index, never over the table, and without sorting."""
    submit(ledger, "a", 2)
    asked: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
        asked.append((statement, parameters))

    event.listen(ledger._db._engine, "before_cursor_execute", note)
    ledger.census.take()
    event.remove(ledger._db._engine, "before_cursor_execute", note)
    with ledger._db.read() as connection:
        plans = [
            str(row[-1])
            for statement, parameters in asked
            if "shard" in statement
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
    assert len(plans) > 10
    assert [plan for plan in plans if plan.startswith("SCAN shard") and "INDEX" not in plan] == []
    assert [plan for plan in plans if "TEMP B-TREE FOR ORDER" in plan] == []


def test_postgresql_counts_the_same(postgresql_url: str, tmp_path: Path) -> None:
    """Each question of a census, on the other database."""
    with Ledger(postgresql_url, tmp_path / "checkpoints") as ledger:
        assert ledger.census.take().waiting == ()
        waiting = submit(ledger, "a", 3)
        submit(ledger, "b", 2, Lane.INTERACTIVE, "pacs")
        _aged(ledger, waiting.id, 500.0)
        lease = claim(ledger)
        figures = ledger.census.take()
        assert {(one.lane, one.encoder, one.due) for one in figures.waiting if one.due} == {
            (Lane.STANDARD, "pixel-grid", 3), (Lane.INTERACTIVE, "pixel-grid", 1),
        }  # fmt: skip
        assert _oldest(ledger) == pytest.approx(500.0, abs=20.0)
        assert figures.oldest_unclaimed_s == pytest.approx(500.0, abs=20.0)
        assert figures.leased == {"pixel-grid": 1}
        assert figures.jobs[JobState.RUNNING] == figures.jobs[JobState.QUEUED] == 1
        assert figures.open_endpoints == {"pacs": False}
        run_out(ledger, lease)
        ledger.shards.reap()
        test_arrivals_and_watches_are_told(ledger)
        assert ledger.census.take().expiries == 1
