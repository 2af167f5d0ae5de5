"""The gates to the servers: each request of a worker passes the one of its endpoint, which the whole fleet shares.

What calls come to is told to the ledger: a failure at once, successes every few seconds, and what other workers found
comes back with the same. A ledger that does not answer stops nobody from reading.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from connectors.endpoints import Endpoint
from connectors.http import WAITED_IN_PLACE_S
from models.domain.errors import (
    AccessDenied,
    EndpointError,
    EndpointPaused,
    LedgerError,
    ResponseInvalid,
    SlidewireError,
)
from worker.ledger import Calls, EndpointBook, EndpointRules, Standing

T = TypeVar("T")

_SYNC_S = 3.0
_AWAY_S = 10.0  # so long a ledger that did not answer is not asked again
_SHARE_S = 0.25  # tokens for so many seconds of the fleet's rate are drawn at a time
_TOKENS_LAST_S = 1.0
_LONGEST_TURN_S = 60.0  # who would wait for longer gives the shard back
_NO_CALLS = Calls()

_log = structlog.get_logger(__name__)


class LedgerGate:
    """The gate to one endpoint; safe to use from several threads.

    Parameters
    ----------
    book : EndpointBook
    endpoint : Endpoint
    rate : float or None
        Requests a second of the whole fleet; None: no limit.
    """

    def __init__(self, book: EndpointBook, endpoint: Endpoint, rate: float | None) -> None:
        self._book, self._rate = book, rate
        self._key, self._label = endpoint.key, endpoint.label
        self._lock = threading.Lock()
        self._standing = Standing()
        self._paused_until = self._held_until = 0.0
        self._sync_at = self._away_until = 0.0
        self._successes, self._succeeded_at = 0, 0.0
        self._tokens, self._tokens_at = 0, 0.0

    def admit(self) -> None:
        """Wait for a turn.

        Raises
        ------
        EndpointPaused
            The server is left alone for a while, or the turn would not come soon.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._sync_at or now < self._paused_until:  # somebody may have ended the pause
                self._sync()
            self._refuse_paused()
            wait_s = max(self._held_until, self._turn()) - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        self._refuse_paused()

    def report(self, error: SlidewireError | None) -> None:
        """Take note of how a request ended; whatever the server answered of a request, it answered."""
        with self._lock:
            if not isinstance(error, EndpointError) or isinstance(error, ResponseInvalid):
                self._successes, self._succeeded_at = self._successes + 1, time.monotonic()
                if not self._standing.closed:
                    self._sync()
                return
            asked_s = error.retry_after_s or 0.0
            if asked_s <= WAITED_IN_PLACE_S:
                self._held_until = max(self._held_until, time.monotonic() + asked_s)
                asked_s = 0.0
            self._sync(Calls(failure=error.code, denied=isinstance(error, AccessDenied), asked_s=asked_s))

    def flush(self) -> None:
        """Tell the ledger what it was not told yet."""
        with self._lock:
            if self._successes:
                self._sync()

    def _sync(self, failed: Calls = _NO_CALLS) -> None:
        now = time.monotonic()
        age_s = now - self._succeeded_at if self._successes else 0.0
        calls = Calls(self._successes, age_s, failed.failure, failed.denied, failed.asked_s)
        quiet = calls == _NO_CALLS
        found = self._ask(lambda: self._book.standing(self._key) if quiet else self._book.note(self._key, calls))
        self._sync_at = now + _SYNC_S
        if found is not None:
            self._successes = 0
            self._standing, self._paused_until = found, time.monotonic() + found.pause_s

    def _turn(self) -> float:
        """Take a token; return from when on it is good."""
        if self._rate is None:
            return 0.0
        now = time.monotonic()
        if not self._tokens or now > self._tokens_at + _TOKENS_LAST_S:
            count, rate = max(1, int(self._rate * _SHARE_S)), self._rate
            alone_s = max(0.0, self._tokens_at - now) + count / rate
            # Without the ledger this worker goes on as if it were the only one.
            drawn_s = self._ask(lambda: self._book.draw(self._key, count, rate, _LONGEST_TURN_S))
            wait_s = alone_s if drawn_s is None else drawn_s
            if wait_s > _LONGEST_TURN_S:
                raise EndpointPaused(
                    f"So many workers wait for a turn at the {self._label} that this one's would not come within "
                    f"{_LONGEST_TURN_S:g} s: its shard goes back; set `workers` for the endpoint."
                )
            self._tokens, self._tokens_at = count, now + wait_s
        self._tokens -= 1
        return self._tokens_at

    def _refuse_paused(self) -> None:
        pause_s = self._paused_until - time.monotonic()
        if pause_s > 0:
            code = self._standing.code
            why = "it denied access" if code == AccessDenied.code else "it failed too often, or asked for it"
            raise EndpointPaused(
                f"The {self._label} is left alone for {pause_s:.0f} s more, since {why} ({code}); "
                f"`slidewire endpoints resume {self._key}` ends that.",
                pause_s,
            )

    def _ask(self, question: Callable[[], T]) -> T | None:
        """Ask the ledger; None if it does not answer."""
        if time.monotonic() < self._away_until:
            return None
        try:
            answer = question()
        except LedgerError as exc:
            if not self._away_until:
                _log.warning("the ledger does not answer; requests go on without it", error=exc.message)
            self._away_until = time.monotonic() + _AWAY_S
            return None
        self._away_until = 0.0
        return answer


class Gates:
    """The gates of one process, one for each endpoint.

    Parameters
    ----------
    book : EndpointBook
    rules : mapping of str to EndpointRules
        By key of the endpoint.
    """

    def __init__(self, book: EndpointBook, rules: Mapping[str, EndpointRules]) -> None:
        self._book, self._rules = book, rules
        self._lock = threading.Lock()
        self._gates: dict[str, LedgerGate] = {}

    def of(self, endpoint: Endpoint) -> LedgerGate:
        """Return the gate to an endpoint."""
        with self._lock:
            if endpoint.key not in self._gates:
                rate = self._rules.get(endpoint.key, EndpointRules()).requests_per_s
                self._gates[endpoint.key] = LedgerGate(self._book, endpoint, rate)
            return self._gates[endpoint.key]

    def flush(self) -> None:
        """Tell the ledger what it was not told yet of any."""
        for gate in list(self._gates.values()):
            gate.flush()
