"""worker.ledger.breaker."""

from dataclasses import replace
from functools import reduce

import pytest

from worker.ledger.breaker import Breaker, BreakerState, Calls

_NOW = 1_000_000.0
_FAILED = Calls(failure="ENDPOINT_FAILED")
_DENIED = Calls(failure="ACCESS_DENIED", denied=True)
_GOOD = Calls(successes=1)


def _after(breaker: Breaker, *calls: Calls, now: float = _NOW) -> Breaker:
    return reduce(lambda found, one: found.after(one, now), calls, breaker)


def _opened(trips: int = 1) -> Breaker:
    """Return a breaker that opened so often, now half-open each time before."""
    breaker = _after(Breaker(), *[_FAILED] * 5)
    for _ in range(trips - 1):
        breaker = breaker.after(_FAILED, breaker.open_until)
    return breaker


def test_four_failures_in_a_row_are_no_outage() -> None:
    """Nor are they with a success among them; the fifth in a row is."""
    four = _after(Breaker(), *[_FAILED] * 4)
    assert four.state is BreakerState.CLOSED
    assert _after(four, _GOOD, *[_FAILED] * 4).state is BreakerState.CLOSED
    opened = _after(four, _FAILED)
    assert (opened.state, opened.code, opened.open_until) == (BreakerState.OPEN, "ENDPOINT_FAILED", _NOW + 30.0)


def test_successes_that_are_told_with_a_failure_came_before_it() -> None:
    """One message with three successes and a failure is not one with the failure first."""
    breaker = _after(Breaker(), *[_FAILED] * 4, replace(_FAILED, successes=3))
    assert breaker.state is BreakerState.CLOSED
    assert _after(breaker, *[_FAILED] * 4).state is BreakerState.OPEN


@pytest.mark.parametrize(("good", "state"), [(10, BreakerState.OPEN), (11, BreakerState.CLOSED)])
def test_every_second_call_of_twenty(good: int, state: BreakerState) -> None:
    """Half of the last twenty calls failed: open; one less: not. Fewer than twenty calls say nothing."""
    bad = [replace(_FAILED, successes=1)] * (20 - good)
    mixed = [Calls(successes=2 * good - 20), *bad] if good > 10 else bad
    assert _after(Breaker(), *mixed[:-1]).state is BreakerState.CLOSED
    assert _after(Breaker(), *mixed).state is state


def test_old_calls_are_forgotten() -> None:
    """A thousand good calls do not make up for twenty of which half fail."""
    breaker = _after(Breaker(), Calls(successes=1000), *[replace(_FAILED, successes=1)] * 10)
    assert breaker.state is BreakerState.OPEN


def test_pauses_double_up_to_ten_minutes() -> None:
    """Each try that fails makes the next pause twice as long."""
    breaker, pauses = _opened(), [30.0]
    for _ in range(20):
        at = breaker.open_until
        breaker = breaker.after(_FAILED, at)
        pauses.append(breaker.open_until - at)
    assert pauses[:6] == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0]
    assert set(pauses[6:]) == {600.0}


def test_a_refusal_of_access_opens_at_once_and_for_longer() -> None:
    """Wrong passwords lock accounts: one is enough, and the first pause is a minute."""
    denied = _after(Breaker(), Calls(successes=20), _DENIED)
    assert (denied.state, denied.open_until) == (BreakerState.DENIED, _NOW + 60.0)
    assert denied.after(_DENIED, denied.open_until).open_until == denied.open_until + 120.0


@pytest.mark.parametrize(
    ("asked_s", "pause_s"), [(31.0, 31.0), (1800.0, 1800.0), (9e9, 3600.0), (float("inf"), 3600.0)]
)
def test_a_time_that_the_server_names_is_kept(asked_s: float, pause_s: float) -> None:
    """One answer with a long Retry-After opens it until then, up to an hour."""
    breaker = Breaker().after(replace(_FAILED, asked_s=asked_s), _NOW)
    assert breaker.open_until == _NOW + pause_s


def test_a_server_that_names_a_time_while_it_is_left_alone_gets_it() -> None:
    """A call that was under way brings the wish for a longer pause, which is no second trip."""
    breaker = _opened().after(replace(_FAILED, asked_s=900.0), _NOW + 1.0)
    assert (breaker.trips, breaker.open_until) == (1, _NOW + 901.0)


def test_calls_that_were_under_way_change_nothing() -> None:
    """While it is open, failures do not make the pause longer, and successes do not end it, but are known."""
    opened = _opened()
    assert _after(opened, _FAILED, _DENIED, now=_NOW + 1.0) == opened
    told = opened.after(Calls(successes=1, age_s=0.5), _NOW + 1.0)
    assert told == replace(opened, succeeded_at=_NOW + 0.5)


def test_a_success_after_the_pause_closes_it() -> None:
    """The next outage begins with the shortest pause again."""
    opened = _opened(trips=4)
    closed = opened.after(_GOOD, opened.open_until + 1.0)
    assert (closed.state, closed.trips, closed.code) == (BreakerState.CLOSED, 0, "")
    again = _after(closed, *[_FAILED] * 5, now=opened.open_until + 2.0)
    assert again.open_until == opened.open_until + 32.0


def test_a_success_from_before_that_is_told_late_does_not_close_it() -> None:
    """It was two minutes ago: it says nothing of how things are now."""
    opened = _opened()
    told = opened.after(Calls(successes=9, age_s=120.0), _NOW + 60.0)
    assert told.state is BreakerState.OPEN
    assert told.succeeded_at == _NOW - 60.0


def test_the_last_success_is_never_forgotten() -> None:
    """Neither when it opens, nor by an older one that is told later, nor by hand."""
    known = Breaker().after(_GOOD, _NOW)
    assert known.after(Calls(successes=1, age_s=9.0), _NOW + 1.0).succeeded_at == _NOW
    opened = _after(known, *[_FAILED] * 5)
    assert opened.succeeded_at == _NOW
    assert opened.closed_by_hand(_NOW).succeeded_at == _NOW


def test_a_hand_closes_it() -> None:
    """Nothing of the outage is left."""
    closed = _opened(trips=3).closed_by_hand(_NOW)
    assert (closed.state, closed.trips, closed.outcomes, closed.code) == (BreakerState.CLOSED, 0, "", "")
