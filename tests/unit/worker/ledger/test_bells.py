"""The outbox: each shard is announced by one process, few at a time, and again once nobody can have heard."""

import time

import pytest
from sqlalchemy import insert, select, update

from models.domain.errors import EndpointFailed
from tests.unit.worker.ledger.sample import _set, claim, finish, make_due, shard_row, shard_rows, submit, together
from worker.ledger import Doorbell, Lane, Ledger
from worker.ledger.bells import AT_A_TIME
from worker.ledger.schema import endpoint, job, shard


def _unheard(ledger: Ledger, *doorbells: Doorbell) -> None:
    """Let a while go by since these were rung."""
    for doorbell in doorbells:
        _set(ledger, doorbell.shard_id, rung_at=ledger._db.now - 16.0)


def test_a_shard_is_announced_once(ledger: Ledger) -> None:
    """The doorbells name every due shard of the lane; asked again there are none, and none of another lane."""
    submitted = submit(ledger, shards=3)
    assert ledger.bells.fresh(Lane.INTERACTIVE) == ledger.bells.fresh(Lane.BACKFILL) == ()
    bells = ledger.bells.fresh(Lane.STANDARD)
    assert {(bell.dispatch_no, bell.kind, bell.lane) for bell in bells} == {(1, "embed", Lane.STANDARD)}
    with ledger._db.read() as connection:
        ids = connection.execute(select(shard.c.id).where(shard.c.job_id == submitted.id)).scalars().all()
    assert sorted(bell.shard_id for bell in bells) == sorted(ids)
    assert ledger.bells.fresh(Lane.STANDARD) == ()
    assert claim(ledger).dispatch_no == 1


def test_several_processes_announce_a_shard_once(ledger: Ledger) -> None:
    """Of four sweepers at the same moment one rings for a shard, the first time and again."""
    submit(ledger, shards=40)
    first = [bell for bells in together(*[lambda: ledger.bells.fresh(Lane.STANDARD)] * 4) for bell in bells]
    assert len(first) == len({bell.shard_id for bell in first}) == 40
    _unheard(ledger, *first)
    second = [bell for bells in together(*[lambda: ledger.bells.again(Lane.STANDARD)] * 4) for bell in bells]
    assert len(second) == len({bell.shard_id for bell in second}) == 40
    assert {bell.dispatch_no for bell in second} == {2}


def test_only_so_many_are_announced(ledger: Ledger) -> None:
    """The others follow as shards are claimed; another lane has room of its own."""
    submit(ledger, "long", shards=AT_A_TIME + 30)
    assert len(ledger.bells.fresh(Lane.STANDARD)) == AT_A_TIME
    assert ledger.bells.fresh(Lane.STANDARD) == ()
    submit(ledger, "urgent", shards=1, lane=Lane.INTERACTIVE)
    assert len(ledger.bells.fresh(Lane.INTERACTIVE)) == 1
    for _ in range(1 + 20):
        claim(ledger)
    announced = len(ledger.bells.fresh(Lane.STANDARD))
    with ledger._db.read() as connection:
        told = select(shard.c.id).where(shard.c.state == "pending", shard.c.rung_at.is_not(None))
        assert len(connection.execute(told).all()) == AT_A_TIME
    assert 0 < announced <= 20


def test_several_servers_share_the_room_of_a_lane(ledger: Ledger) -> None:
    """The oldest jobs' shards come first; those of the next server get what is left."""
    first = submit(ledger, "here", shards=AT_A_TIME - 10, endpoint="here")
    submit(ledger, "there", shards=30, endpoint="there")
    told = {bell.shard_id for bell in ledger.bells.fresh(Lane.STANDARD)}
    assert len(told) == AT_A_TIME
    assert {row.id for row in shard_rows(ledger, first.id)} < told
    assert ledger.bells.fresh(Lane.STANDARD) == ()


def test_what_nobody_hears_is_announced_again(ledger: Ledger) -> None:
    """Not at once, but after a while; and then it has just been announced."""
    submit(ledger, shards=3)
    first, *others = ledger.bells.fresh(Lane.STANDARD)
    assert not ledger.bells.unheard(Lane.STANDARD)
    assert ledger.bells.again(Lane.STANDARD) == ()
    _unheard(ledger, first)
    assert ledger.bells.unheard(Lane.STANDARD)
    assert not ledger.bells.unheard(Lane.BACKFILL)
    assert ledger.bells.again(Lane.BACKFILL) == ()
    [again] = ledger.bells.again(Lane.STANDARD)
    assert (again.shard_id, again.dispatch_no) == (first.shard_id, 2)
    assert not ledger.bells.unheard(Lane.STANDARD)
    assert {shard_row(ledger, bell.shard_id).dispatch_no for bell in others} == {1}


def test_no_doorbell_for_a_shard_that_is_leased_or_waits(ledger: Ledger) -> None:
    """Only what a worker could claim is announced; what comes back is announced anew."""
    submit(ledger, shards=1)
    [bell] = ledger.bells.fresh(Lane.STANDARD)
    lease = claim(ledger)
    _unheard(ledger, bell)
    assert ledger.bells.fresh(Lane.STANDARD) == ledger.bells.again(Lane.STANDARD) == ()
    assert not ledger.bells.unheard(Lane.STANDARD)
    ledger.shards.fail(lease, EndpointFailed("The server answered 500."))
    assert ledger.bells.fresh(Lane.STANDARD) == ()
    submit(ledger, "beside", shards=1)
    assert lease.shard_id not in {bell.shard_id for bell in ledger.bells.fresh(Lane.STANDARD)}
    make_due(ledger, lease.shard_id)
    assert [bell.dispatch_no for bell in ledger.bells.fresh(Lane.STANDARD)] == [2]


def test_no_doorbell_for_a_server_that_is_left_alone(ledger: Ledger) -> None:
    """While its breaker is open its shards are not announced, first or again; those of another server are."""
    submit(ledger, "here", shards=2, endpoint="here")
    first, *_ = ledger.bells.fresh(Lane.STANDARD)
    submit(ledger, "more", shards=2, endpoint="here")
    there = submit(ledger, "there", shards=1, endpoint="there")
    _unheard(ledger, first)
    with ledger._db.write() as connection:
        barred = update(endpoint).where(endpoint.c.key == "here")
        connection.execute(barred.values(state="open", open_until=ledger._db.now + 60.0))
    assert not ledger.bells.unheard(Lane.STANDARD)
    [bell] = ledger.bells.fresh(Lane.STANDARD)
    assert shard_row(ledger, bell.shard_id).job_id == there.id
    assert ledger.bells.again(Lane.STANDARD) == ()


def test_the_last_embed_shard_makes_a_doorbell(ledger: Ledger) -> None:
    """The publish shard that it brings into being is announced."""
    submit(ledger, shards=1)
    ledger.bells.fresh(Lane.STANDARD)
    finish(ledger, claim(ledger))
    assert [bell.kind for bell in ledger.bells.fresh(Lane.STANDARD)] == ["publish"]


def test_what_could_not_be_rung_is_announced_later(ledger: Ledger) -> None:
    """Doorbells that are taken back come again, under new numbers."""
    submit(ledger, shards=3)
    bells = ledger.bells.fresh(Lane.STANDARD)
    ledger.bells.take_back(bells[1:])
    again = ledger.bells.fresh(Lane.STANDARD)
    assert sorted(bell.shard_id for bell in again) == sorted(bell.shard_id for bell in bells[1:])
    assert {bell.dispatch_no for bell in again} == {2}


def test_a_doorbell_that_another_process_rang_since_is_not_taken_back(ledger: Ledger) -> None:
    """Who was slow to fail does not undo what others announced."""
    submit(ledger, shards=1)
    slow = ledger.bells.fresh(Lane.STANDARD)
    _unheard(ledger, *slow)
    assert ledger.bells.again(Lane.STANDARD)
    ledger.bells.take_back(slow)
    assert shard_row(ledger, slow[0].shard_id).rung_at is not None


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_a_million_waiting_shards_cost_a_sweep_nothing(ledger: Ledger) -> None:
    """With 1,000,000 shards pending, 10,000 at their head not yet due, each question is answered in milliseconds."""
    submitted = submit(ledger, shards=1, lane=Lane.BACKFILL)
    with ledger._db.write() as connection:
        row = dict(connection.execute(select(shard)).mappings().one())
        wait = connection.execute(select(job.c.created_at)).scalar_one() + 1e6
        for start in range(1, 1_000_000, 50_000):
            rows = [
                row | {"id": f"{number:032x}", "idx": number, "not_before": wait if number < 10_000 else 0.0}
                for number in range(start, min(start + 50_000, 1_000_000))
            ]
            connection.execute(insert(shard), rows)
        if connection.dialect.name == "postgresql":  # it would do so by itself a minute later
            connection.exec_driver_sql("ANALYZE shard")
    assert submitted.patches
    took = {}
    assert len(ledger.bells.fresh(Lane.BACKFILL)) == AT_A_TIME
    for name in ("fresh", "unheard", "again"):
        for lane in Lane:
            since = time.perf_counter()
            assert not getattr(ledger.bells, name)(lane)
            took[name, lane] = time.perf_counter() - since
    claim(ledger)
    since = time.perf_counter()
    ledger.bells.fresh(Lane.BACKFILL)
    took["one", Lane.BACKFILL] = time.perf_counter() - since
    print({f"{name} {lane}": f"{seconds * 1000:.1f} ms" for (name, lane), seconds in took.items()})
    assert max(took.values()) < 0.1, took
