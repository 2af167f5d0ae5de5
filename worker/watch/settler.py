"""The settler: looks at each series that has been quiet for long enough, and makes a job of it or says why not."""

import queue
import threading
import time
from collections.abc import Callable

import structlog

from models.domain.errors import LedgerError, SlidewireError
from worker.announcer import Announcer
from worker.ledger import Ledger
from worker.ledger.arrival_records import Arrival, ArrivalState, Decision
from worker.watch.look import Outcome

_LOOK_S = 0.2  # between looks into the ledger for what has become due
_AWAY_S = 5.0  # after a ledger that did not answer
_STOP_S = 5.0
_BUG_S = 60.0  # until a series is looked at again that a bug of ours stopped
_AHEAD = 2  # series handed out a thread

_log = structlog.get_logger(__name__)


class Settler(threading.Thread):
    """Hands series that are due to a few threads; nothing is lost with them, as it waits in the ledger.

    Parameters
    ----------
    ledger : Ledger
    endpoint : str
        Only its arrivals.
    look : callable
        Says what is to become of a series.
    announcer : Announcer
    threads : int
        Series that are looked at at a time.
    """

    def __init__(
        self, ledger: Ledger, endpoint: str, look: Callable[[Arrival], Outcome], announcer: Announcer, threads: int
    ) -> None:
        super().__init__(name="settler", daemon=True)
        self._ledger, self._endpoint, self._look, self._announcer = ledger, endpoint, look, announcer
        self._over = threading.Event()
        self._series: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        self._under_way: set[int] = set()
        self._lock = threading.Lock()
        # Daemons: a server that does not answer must not hold up the end of the program.
        self._threads = [threading.Thread(target=self._work, name="look", daemon=True) for _ in range(threads)]

    def run(self) -> None:
        """Hand out until told to stop."""
        for thread in self._threads:
            thread.start()
        while not self._over.wait(_LOOK_S):
            try:
                self._hand_out()
            except LedgerError as exc:
                _log.warning("the ledger does not answer; slides wait", error=exc.message)
                self._over.wait(_AWAY_S)

    def stop(self) -> None:
        """Begin nothing more; wait a few seconds for what is under way."""
        self._over.set()
        for _ in self._threads:
            self._series.put(None)
        deadline = time.monotonic() + _STOP_S
        for thread in (self, *self._threads):
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _hand_out(self) -> None:
        with self._lock:
            taken = set(self._under_way)
        most = _AHEAD * len(self._threads)
        for arrival in self._ledger.arrivals.due(self._endpoint, most + len(taken)):
            if arrival.serial in taken or len(taken) >= most:
                continue
            taken.add(arrival.serial)
            with self._lock:
                self._under_way.add(arrival.serial)
            self._series.put(arrival)

    def _work(self) -> None:
        while (arrival := self._series.get()) is not None and not self._over.is_set():
            try:
                self._settle(arrival)
            except LedgerError as exc:
                _log.warning("the ledger does not answer; the slide waits", error=exc.message)
                self._over.wait(_AWAY_S)
            finally:
                with self._lock:
                    self._under_way.discard(arrival.serial)

    def _settle(self, arrival: Arrival) -> None:
        outcome = self._outcome(arrival)
        decision, log = outcome.decision, _log.bind(arrival=arrival.serial, endpoint=self._endpoint)
        if outcome.job is None:
            if self._ledger.arrivals.decide(arrival, decision):
                _say(log, arrival, decision)
            return
        submission = self._ledger.arrivals.submit(arrival, decision, outcome.job)
        if submission is None:
            return  # it has changed meanwhile, and will be due again
        log.info("slide submitted", job=submission.job.id, rule=decision.rule, known=not submission.created)
        self._announcer.ring()

    def _outcome(self, arrival: Arrival) -> Outcome:
        try:
            return self._look(arrival)
        except LedgerError:
            raise
        except Exception as exc:  # noqa: BLE001 - a bug of ours holds up this series only; its text may hold anything
            _log.error("a look failed", arrival=arrival.serial, error=type(exc).__name__)
            decision = Decision(ArrivalState.INCOMPLETE, str(SlidewireError.code), again_s=_BUG_S)
            late = Decision(ArrivalState.OVERDUE, str(SlidewireError.code))
            return Outcome(late if arrival.late else decision, None)


def _say(log: structlog.stdlib.BoundLogger, arrival: Arrival, decision: Decision) -> None:
    """Log what was decided, if it is another thing than the last time."""
    if decision.state is ArrivalState.OVERDUE:
        log.error("slide is late: it has not become whole", code=decision.code, rule=decision.rule)
    elif (decision.state, decision.code) != (arrival.state, arrival.code):
        log.info("slide not submitted", state=str(decision.state), code=decision.code, rule=decision.rule)
