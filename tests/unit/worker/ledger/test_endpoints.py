"""worker.ledger.endpoints."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from models.domain.errors import EndpointFailed, EndpointPaused, RequestError
from tests.unit.worker.ledger.sample import claim, events, make_due, processes, shard_row, submit, together
from worker.ledger import Calls, Ledger, Standing
from worker.ledger.endpoints import answered_since
from worker.ledger.schema import endpoint

_FAILED = Calls(failure="ENDPOINT_FAILED")
_DRAW = """
import sys, time
from pathlib import Path
from worker.ledger import Ledger
with Ledger(sys.argv[1], Path(sys.argv[2])) as ledger:
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        wait_s = ledger.endpoints.draw("pacs", 2, 20.0, 60.0)
        time.sleep(wait_s)
        print(time.time(), time.time())
"""


def _set(ledger: Ledger, key: str, **values: object) -> None:
    with ledger._db.write() as connection:
        connection.execute(update(endpoint).where(endpoint.c.key == key).values(**values))


def _open(ledger: Ledger, key: str = "pacs") -> None:
    for _ in range(5):
        ledger.endpoints.note(key, _FAILED)


def test_one_of_which_nothing_is_known_may_be_asked(ledger: Ledger) -> None:
    """Looking does not make an entry."""
    assert ledger.endpoints.standing("pacs") == Standing()
    assert ledger.endpoints.list() == ()


def test_failures_of_several_workers_add_up(ledger: Ledger) -> None:
    """The fifth failure opens the breaker, whoever tells it; every worker finds it so, with how long it lasts."""
    found = together(*[lambda: ledger.endpoints.note("pacs", _FAILED)] * 5)
    assert sorted(standing.closed for standing in found) == [False, True, True, True, True]
    standing = ledger.endpoints.standing("pacs")
    assert (standing.closed, standing.code) == (False, "ENDPOINT_FAILED")
    assert 25.0 < standing.pause_s <= 30.0
    assert ledger.endpoints.standing("other") == Standing()


def test_successes_are_known_from_when_they_were(ledger: Ledger) -> None:
    """What decides whether a failure uses an attempt: whether anybody was answered since the claim."""
    with ledger._db.read() as connection:
        assert answered_since(connection, "pacs", 0.0), "nothing is known of it"
        now = connection.scalar(ledger._db.now)
    assert now is not None
    ledger.endpoints.note("pacs", Calls(successes=3, age_s=100.0))
    with ledger._db.read() as connection:
        assert answered_since(connection, "pacs", now - 101.0)
        assert not answered_since(connection, "pacs", now - 99.0)


def test_a_failure_counts_only_if_the_server_answered_somebody(ledger: Ledger) -> None:
    """While it answers nobody its shards wait without using attempts; once it answers others, they use them."""
    submit(ledger, shards=1, endpoint="pacs")
    lease = claim(ledger)
    ledger.shards.fail(lease, EndpointPaused("The server is left alone."))
    lease = claim(ledger)
    ledger.shards.fail(lease, EndpointFailed("The server answered 500."))
    row = shard_row(ledger, lease.shard_id)
    assert (row.attempts, row.deferred_at is None) == (0, False)
    make_due(ledger, lease.shard_id)
    lease = claim(ledger)
    ledger.endpoints.note("pacs", Calls(successes=1))
    ledger.shards.fail(lease, EndpointFailed("The server answered 500."))
    assert shard_row(ledger, lease.shard_id).attempts == 1
    assert [event for _, event, _ in events(ledger, lease.shard_id)][1::2] == ["deferred", "deferred", "failed"]


def test_the_list_says_how_each_server_stands(ledger: Ledger) -> None:
    """Closed, open, half-open, denied; what waits and what is worked on; disks and buckets are no servers."""
    for key, shards in (("a", 3), ("b", 1), ("c", 1), ("", 1)):
        submit(ledger, f"of {key}", shards=shards, endpoint=key)
    claim(ledger)
    ledger.endpoints.note("a", Calls(successes=1))
    _open(ledger, "b")
    _open(ledger, "c")
    _set(ledger, "c", open_until=1.0)
    ledger.endpoints.note("d", Calls(failure="ACCESS_DENIED", denied=True))
    found = {one.key: one for one in ledger.endpoints.list()}
    assert [(one.key, one.state, one.leased, one.waiting) for one in found.values()] == [
        ("a", "closed", 1, 2), ("b", "open", 0, 1), ("c", "half-open", 0, 1), ("d", "denied", 0, 0),
    ]  # fmt: skip
    assert (found["a"].code, found["b"].code, found["d"].code) == ("", "ENDPOINT_FAILED", "ACCESS_DENIED")
    assert found["a"].until is None
    assert found["b"].until == pytest.approx(time.time() + 30.0, abs=5.0)
    assert found["a"].succeeded_at == pytest.approx(time.time(), abs=5.0)
    assert found["b"].succeeded_at is None


def test_a_pause_ends_by_hand(ledger: Ledger) -> None:
    """Then it may be asked, and four failures are no outage again."""
    _open(ledger)
    ledger.endpoints.resume("pacs")
    assert ledger.endpoints.standing("pacs") == Standing()
    assert ledger.endpoints.note("pacs", _FAILED).closed


@pytest.mark.parametrize("key", ["typo", ""])
def test_only_what_is_known_can_be_resumed(ledger: Ledger, key: str) -> None:
    """A name that no job was read from is refused; so are disks and buckets."""
    with pytest.raises(RequestError, match="slidewire endpoints"):
        ledger.endpoints.resume(key)


def test_an_idle_bucket_holds_a_second_of_requests(ledger: Ledger) -> None:
    """Those are good at once, the next ones after their time, in the order of asking."""
    draw = partial(ledger.endpoints.draw, "pacs", 5, 10.0, 60.0)
    assert [draw(), draw()] == [0.0, 0.0]
    assert draw() == pytest.approx(0.5, abs=0.2)
    assert draw() == pytest.approx(1.0, abs=0.2)


def test_a_bucket_does_not_fill_beyond_its_brim(ledger: Ledger) -> None:
    """An hour of rest gives a second's requests, not an hour's."""
    ledger.endpoints.draw("pacs", 1, 2.0, 60.0)
    _set(ledger, "pacs", tokens=0.0, tokens_at=ledger._db.now - 3600.0)
    assert ledger.endpoints.draw("pacs", 2, 2.0, 60.0) == 0.0
    assert ledger.endpoints.draw("pacs", 2, 2.0, 60.0) > 0.5


def test_who_would_wait_for_too_long_takes_nothing(ledger: Ledger) -> None:
    """The answer says so, and the next one's wait is not longer for it."""
    ledger.endpoints.draw("pacs", 1, 0.5, 60.0)
    assert ledger.endpoints.draw("pacs", 1, 0.5, 1.0) > 1.0
    assert ledger.endpoints.draw("pacs", 1, 0.5, 60.0) == pytest.approx(2.0, abs=0.5)


def _most_within(moments: Sequence[float], window_s: float) -> int:
    return max(sum(start <= moment < start + window_s for moment in moments) for start in moments)


def test_processes_share_one_bucket(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    """Three processes draw as fast as they may: together the rate and a burst of a second, and all get some."""
    outputs = processes(3, _DRAW, ledger_url, str(tmp_path / "checkpoints"))
    drawn = [[float(moment) for moment in output.split()] for output in outputs]
    assert all(len(one) >= 4 for one in drawn)
    moments = sorted(moment for one in drawn for moment in one)
    spent_s = moments[-1] - moments[0]
    assert len(moments) <= 20.0 * spent_s + 20.0 + 2
    assert len(moments) >= 20.0 * spent_s * 0.7, "nobody waits for longer than needed"
    assert _most_within(moments, 0.5) <= 20.0 * 0.5 + 20.0 + 2
