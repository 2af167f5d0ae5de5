"""worker.ledger.claim: endpoints that are left alone, limits, quiet hours; races for them; a million shards."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as clock
from pathlib import Path

import pytest
from sqlalchemy import event, select, update

from models.domain.errors import EndpointFailed
from tests.unit.worker.ledger.sample import claim, events, finish, processes, run_out, shard_rows, submit, together
from worker.ledger import Calls, EndpointRules, Lane, Lease, Ledger, QuietHours, Rules
from worker.ledger.schema import endpoint, shard

_FAILED = Calls(failure="ENDPOINT_FAILED")
_CLAIM = """
import sys
from pathlib import Path
from worker.ledger import EndpointRules, Ledger, Rules
with Ledger(sys.argv[1], Path(sys.argv[2]), Rules(endpoints={"pacs": EndpointRules(workers=3)})) as ledger:
    print(sum(ledger.shards.claim("process") is not None for _ in range(20)))
"""

Limited = Callable[..., Ledger]


@pytest.fixture
def limited(ledger: Ledger, ledger_url: str, tmp_path: Path) -> Iterator[Limited]:
    """Open the test's ledger with rules for the endpoint "pacs"."""
    opened = []

    def open_limited(**rules: object) -> Ledger:
        endpoints: Mapping[str, EndpointRules] = {"pacs": EndpointRules(**rules)}  # type: ignore[arg-type]
        opened.append(Ledger(ledger_url, tmp_path / "checkpoints", Rules(endpoints=endpoints)))
        return opened[-1]

    yield open_limited
    for one in opened:
        one.close()


def _open_breaker(ledger: Ledger, key: str = "pacs") -> None:
    for _ in range(5):
        ledger.endpoints.note(key, _FAILED)


def _set(ledger: Ledger, key: str = "pacs", **values: object) -> None:
    with ledger._db.write() as connection:
        connection.execute(update(endpoint).where(endpoint.c.key == key).values(**values))


def _half_open(ledger: Ledger, key: str = "pacs") -> None:
    _open_breaker(ledger, key)
    _set(ledger, key, open_until=ledger._db.now - 1.0)


def _claimed(ledger: Ledger) -> Lease | None:
    return ledger.shards.claim("worker")


def test_a_paused_server_does_not_hold_up_those_behind_it(ledger: Ledger) -> None:
    """Shards of other servers and of disks are claimed in their order; the paused one's wait untouched."""
    paused = submit(ledger, "first", endpoint="pacs", lane=Lane.INTERACTIVE)
    others = [submit(ledger, "second", endpoint="archive"), submit(ledger, "third")]
    _open_breaker(ledger)
    leases = [claim(ledger) for _ in range(4)]
    assert [lease.job_id for lease in leases] == [job.id for job in others for _ in range(2)]
    assert _claimed(ledger) is None
    assert {row.state for row in shard_rows(ledger, paused.id)} == {"pending"}


def test_a_claim_is_two_journeys_to_a_server(postgresql_url: str, tmp_path: Path) -> None:
    """One to see which queue is first, one that takes its first shard, starts the job, notes it, and commits."""
    with Ledger(postgresql_url, tmp_path) as ledger:
        submit(ledger)
        sent: list[str] = []
        event.listen(ledger._db._engine, "before_cursor_execute", lambda *call: sent.append(call[2].split()[0]))
        lease = claim(ledger)
        assert sent == ["SELECT", "WITH"]
        assert ledger.jobs.get(lease.job_id).state == "running"
        assert events(ledger, lease.shard_id) == [(1, "claimed", "")]


def test_lanes_and_age_go_before_servers(ledger: Ledger) -> None:
    """The order of claims is one over all servers: by lane, then age, then index."""
    keys = {
        submit(ledger, key, endpoint=server, lane=lane).id: key
        for key, server, lane in (
            ("z", "a", Lane.BACKFILL),
            ("m", "c", Lane.STANDARD),
            ("n", "a", Lane.STANDARD),
            ("b", "b", Lane.INTERACTIVE),
        )
    }
    leases = [claim(ledger) for _ in range(8)]
    order = " ".join(f"{keys[lease.job_id]}{lease.index}" for lease in leases)
    assert order == "b0 b1 m0 m1 n0 n1 z0 z1"


def test_an_urgent_job_is_in_the_order_also_after_it_was_hurried(ledger: Ledger) -> None:
    """A job that is submitted again in an earlier lane is claimed in that lane."""
    submit(ledger, "old", endpoint="pacs")
    late = submit(ledger, "late", endpoint="pacs", lane=Lane.BACKFILL)
    submit(ledger, "late", endpoint="pacs", lane=Lane.INTERACTIVE)
    assert claim(ledger).job_id == late.id


def test_a_half_open_server_is_tried_by_one_shard(ledger: Ledger) -> None:
    """Nobody else gets one, until it is known how that went or its time is over."""
    submit(ledger, shards=4, endpoint="pacs")
    _half_open(ledger)
    found = together(*[lambda: _claimed(ledger)] * 6)
    assert sum(isinstance(one, Lease) for one in found) == 1, found
    assert _claimed(ledger) is None
    _set(ledger, probe_until=ledger._db.now - 1.0)
    assert _claimed(ledger) is not None
    assert _claimed(ledger) is None


@pytest.mark.parametrize(("calls", "more"), [(Calls(successes=1), 3), (_FAILED, 0)])
def test_the_try_decides(ledger: Ledger, calls: Calls, more: int) -> None:
    """A success lets everybody in, a failure nobody."""
    submit(ledger, shards=4, endpoint="pacs")
    _half_open(ledger)
    claim(ledger)
    ledger.endpoints.note("pacs", calls)
    assert sum(_claimed(ledger) is not None for _ in range(5)) == more


def test_a_try_is_over_with_its_lease(limited: Limited, ledger: Ledger) -> None:
    """The shard that tries is waited for as long as a lease lasts, by the database's clock."""
    submit(ledger, shards=2, endpoint="pacs")
    _half_open(ledger)
    claim(ledger)
    with ledger._db.read() as connection:
        wait_s = connection.execute(
            select(endpoint.c.probe_until - ledger._db.now).where(endpoint.c.key == "pacs")
        ).scalar_one()
    assert 55.0 < wait_s <= 60.0


def test_so_many_workers_and_no_more(limited: Limited) -> None:
    """The third shard waits until one of two has ended, however it ended; other servers' do not wait."""
    ledger = limited(workers=2)
    submit(ledger, "a", shards=5, endpoint="pacs")
    other = submit(ledger, "b", shards=1, endpoint="archive")
    first, second = claim(ledger), claim(ledger)
    assert claim(ledger).job_id == other.id
    assert _claimed(ledger) is None
    finish(ledger, first)
    claim(ledger)
    assert _claimed(ledger) is None
    ledger.shards.release(second)
    third = claim(ledger)
    assert _claimed(ledger) is None
    run_out(ledger, third)
    ledger.shards.reap()
    assert _claimed(ledger) is not None


def test_the_limit_holds_when_threads_race(limited: Limited) -> None:
    """Eight threads claim at the same moment, again and again: never more than three shards are leased."""
    ledger = limited(workers=3)
    submit(ledger, shards=40, endpoint="pacs")
    for _ in range(8):
        found = together(*[lambda: _claimed(ledger)] * 8)
        leases = [one for one in found if isinstance(one, Lease)]
        assert not [one for one in found if isinstance(one, Exception)]
        assert len(leases) == 3
        for lease in leases:
            finish(ledger, lease)


def test_the_limit_holds_for_processes(limited: Limited, ledger_url: str, tmp_path: Path) -> None:
    """Four processes that claim what they can get hold three shards together."""
    ledger = limited(workers=3)
    submit(ledger, shards=40, endpoint="pacs")
    outputs = processes(4, _CLAIM, ledger_url, str(tmp_path / "checkpoints"))
    assert sum(map(int, outputs)) == 3


def test_who_waits_for_a_job_is_not_kept_waiting(limited: Limited) -> None:
    """A claim for one job is given whatever the limits, the hours and the breaker say: the gate knows the rest."""
    ledger = limited(workers=1, quiet=_around(datetime.now(UTC)))
    submit(ledger, "a", endpoint="pacs")
    claim(ledger)
    backfill = submit(ledger, "b", endpoint="pacs", lane=Lane.BACKFILL)
    assert _claimed(ledger) is None
    assert ledger.shards.claim("worker", backfill.id) is not None
    _open_breaker(ledger)
    assert ledger.shards.claim("worker", backfill.id) is not None


def _around(moment: datetime) -> QuietHours:
    edges = [(moment + timedelta(hours=shift)).time() for shift in (-2, 2)]
    return QuietHours(*edges)


@pytest.mark.parametrize(("shift_h", "more"), [(0, 0), (12, 1)])
def test_backfill_keeps_out_of_quiet_hours(limited: Limited, shift_h: int, more: int) -> None:
    """Within them other lanes and other servers go on; outside of them backfill does, too."""
    ledger = limited(quiet=_around(datetime.now(UTC) + timedelta(hours=shift_h)))
    submit(ledger, "a", shards=1, endpoint="pacs", lane=Lane.BACKFILL)
    wanted = [
        submit(ledger, "b", shards=1, endpoint="pacs").id,
        submit(ledger, "c", shards=1, endpoint="archive", lane=Lane.BACKFILL).id,
    ]
    taken = [lease.job_id for lease in iter(lambda: _claimed(ledger), None)]
    assert set(wanted) <= set(taken)
    assert len(taken) == len(wanted) + more


_DAY, _NIGHT = ("07:00", "18:00"), ("22:00", "06:00")


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        (_DAY, ("07:00", "12:00", "17:59"), ("06:59", "18:00")),
        (_NIGHT, ("22:00", "00:00", "05:59"), ("06:00", "21:59")),
    ],
)
def test_quiet_hours(hours: tuple[str, str], inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    """They begin with their first moment, end before their last one, and may reach over midnight; in their own zone."""
    zone = timezone(timedelta(hours=3))
    quiet = QuietHours(*(clock.fromisoformat(text) for text in hours), zone)
    for text in (*inside, *outside):
        moment = datetime.combine(date(2026, 3, 1), clock.fromisoformat(text), zone)
        assert quiet.contains(moment.timestamp()) is (text in inside), text


def test_a_shard_that_backs_off_lets_others_of_its_server_pass(ledger: Ledger) -> None:
    """What waits to be tried again at the head of a queue does not close it, and is not passed over when it is due."""
    submit(ledger, "a", shards=1, endpoint="pacs")
    later = submit(ledger, "b", shards=1, endpoint="pacs")
    first = claim(ledger)
    ledger.shards.fail(first, EndpointFailed("The server answered 500."))
    assert claim(ledger).job_id == later.id
    assert _claimed(ledger) is None
    with ledger._db.write() as connection:
        connection.execute(update(shard).where(shard.c.id == first.shard_id).values(not_before=0.0))
    assert claim(ledger).shard_id == first.shard_id


def _fill(ledger: Ledger, like: str, count: int) -> None:
    """Insert many shards like the first one of a job."""
    same = ", ".join(column.name for column in shard.c if column.name not in {"id", "idx"})
    with ledger._db.write() as connection:
        connection.exec_driver_sql(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count}) "
            f"INSERT INTO shard (id, idx, {same}) SELECT '{like[:20]}' || CAST(n AS TEXT), n + 1, {same} "
            f"FROM shard, numbers WHERE job_id = '{like}' AND idx = 0"
        )


@contextmanager
def _timed(spent: list[float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent.append(time.perf_counter() - start)


def test_a_long_queue_of_a_paused_server_costs_nothing(ledger: Ledger) -> None:
    """Behind 50,000 shards of a paused server, and 5,000 that back off, a claim takes milliseconds."""
    first = submit(ledger, "first", shards=1, endpoint="pacs", lane=Lane.INTERACTIVE)
    backing = submit(ledger, "backing", shards=1, endpoint="archive", lane=Lane.INTERACTIVE)
    _fill(ledger, first.id, 50_000)
    _fill(ledger, backing.id, 5_000)
    with ledger._db.write() as connection:
        connection.execute(update(shard).where(shard.c.endpoint == "archive").values(not_before=ledger._db.now + 999.0))
    if ledger._db._url.get_backend_name() == "postgresql":
        with ledger._db.write() as connection:
            connection.exec_driver_sql("ANALYZE")
    submit(ledger, "last", shards=40, endpoint="archive")
    _open_breaker(ledger)
    spent: list[float] = []
    for _ in range(40):
        with _timed(spent):
            lease = claim(ledger)
        assert lease.endpoint == "archive"
    assert sorted(spent)[20] < 0.02, sorted(spent)
