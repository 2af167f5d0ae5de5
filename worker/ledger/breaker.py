"""A circuit breaker: after how many failed calls a server is left alone, for how long, and what ends that.

Pure values; `worker.ledger.endpoints` keeps one for each endpoint, by the database's clock.
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

_GOOD, _BAD = ".", "x"
_IN_A_ROW = 5
_WINDOW = 20
_SHARE = 0.5
_FIRST_S, _FIRST_DENIED_S = 30.0, 60.0  # wrong passwords lock accounts
_LONGEST_S = 600.0
_LONGEST_ASKED_S = 3600.0  # no server's Retry-After holds the fleet up for longer


class BreakerState(StrEnum):
    """Whether calls are let through; the last two end with a successful call after their time."""

    CLOSED = "closed"
    OPEN = "open"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Calls:
    """What calls to an endpoint came to since they were told last: successes, and perhaps a failure after them.

    Parameters
    ----------
    successes : int
    age_s : float
        Seconds since the newest of them.
    failure : str
        Code of the error; "" if none failed.
    denied : bool
        It was a refusal of access.
    asked_s : float
        Seconds that the server asked to be left alone for, if that is long; else 0.
    """

    successes: int = 0
    age_s: float = 0.0
    failure: str = ""
    denied: bool = False
    asked_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """Where an endpoint stands. Times are seconds since 1970.

    Parameters
    ----------
    state : BreakerState
    code : str
        Of the error that opened it; "" while it is closed.
    outcomes : str
        Of the last calls while it is closed, the newest last.
    trips : int
        How often it opened since it was closed.
    open_until : float
        Until then nothing is sent; once it is closed, when that was.
    probe_until : float
        Until then the shard that tries is waited for, and no other is claimed.
    succeeded_at : float
        When a call was last known to succeed; 0 if never.
    """

    state: BreakerState = BreakerState.CLOSED
    code: str = ""
    outcomes: str = ""
    trips: int = 0
    open_until: float = 0.0
    probe_until: float = 0.0
    succeeded_at: float = 0.0

    def after(self, calls: Calls, now: float) -> "Breaker":
        """Return where it stands after some calls."""
        succeeded = self._succeeded(calls, now) if calls.successes else self
        return succeeded._failed(calls, now) if calls.failure else succeeded  # noqa: SLF001 - another of this class

    def closed_by_hand(self, now: float) -> "Breaker":
        """Return it as if the endpoint had been found to work."""
        closed_at = self.open_until if self.state is BreakerState.CLOSED else now
        return Breaker(open_until=closed_at, succeeded_at=self.succeeded_at)

    def _succeeded(self, calls: Calls, now: float) -> "Breaker":
        at = now - calls.age_s
        latest = max(self.succeeded_at, at)
        if self.state is BreakerState.CLOSED:
            outcomes = _last(self.outcomes + _GOOD * min(calls.successes, _WINDOW))
            return replace(self, outcomes=outcomes, succeeded_at=latest)
        if at < self.open_until:  # a call from before: it says nothing of how things are now
            return replace(self, succeeded_at=latest)
        return Breaker(outcomes=_GOOD, open_until=now, succeeded_at=latest)

    def _failed(self, calls: Calls, now: float) -> "Breaker":
        asked_s = min(calls.asked_s, _LONGEST_ASKED_S)
        if self.state is not BreakerState.CLOSED and now < self.open_until:  # a call that was under way when it opened
            return replace(self, open_until=max(self.open_until, now + asked_s))
        outcomes = _last(self.outcomes + _BAD)
        half_open = self.state is not BreakerState.CLOSED
        if not (half_open or calls.denied or asked_s or _too_many(outcomes)):
            return replace(self, outcomes=outcomes)
        first_s = _FIRST_DENIED_S if calls.denied else _FIRST_S
        pause_s = min(_LONGEST_S, math.ldexp(first_s, min(self.trips, 10)))
        return Breaker(
            state=BreakerState.DENIED if calls.denied else BreakerState.OPEN,
            code=calls.failure,
            trips=self.trips + 1,
            open_until=now + max(pause_s, asked_s),
            succeeded_at=self.succeeded_at,
        )


def _last(outcomes: str) -> str:
    return outcomes[-_WINDOW:]


def _too_many(outcomes: str) -> bool:
    bad = outcomes.count(_BAD)
    return outcomes.endswith(_BAD * _IN_A_ROW) or (len(outcomes) == _WINDOW and bad >= _SHARE * _WINDOW)
