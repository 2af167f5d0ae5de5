"""The events of an archive: its log is followed, and what came in is written down together with how far it was read."""

import threading
import time
from collections.abc import Callable

import structlog

from connectors.intake.protocol import EventLog, Events, Place
from models.domain.errors import ResponseInvalid, SlidewireError
from worker.killpoint import reach
from worker.ledger import Arrivals
from worker.ledger.arrival_records import Patience
from worker.watch.pause import pause_s

_LONGEST_S = 30.0  # between tries of a server, or a ledger, that fails
_NOTED_S = 5.0  # that a log in which nothing happens was looked at is written down as often
_PAGES = 100  # in a row: a log that never ends gets a pause too
_RESET_S = 60.0  # a log that begins anew sooner than that after it did is none
_STOP_S = 5.0

_log = structlog.get_logger(__name__)


class EventPoller(threading.Thread):
    """Follows the event log of one archive; nothing is lost with it, as its place in the log is in the ledger.

    A server that fails is asked ever more seldom, at least every 30 s.

    Parameters
    ----------
    log : EventLog
        Closed by `stop`.
    arrivals : Arrivals
    endpoint : str
        Name of the archive. A new one is read from the end of its log: what was there before is not its events' matter.
    patience : Patience
    wake_reconciliation : callable
        Called when events may have been lost; must return at once.
    events_s : float
        Between looks at a log in which nothing happens.
    """

    def __init__(
        self,
        log: EventLog,
        arrivals: Arrivals,
        endpoint: str,
        patience: Patience,
        wake_reconciliation: Callable[[], None],
        events_s: float,
    ) -> None:
        super().__init__(name="events", daemon=True)
        self._events, self._arrivals, self._endpoint = log, arrivals, endpoint
        self._patience, self._wake, self._events_s = patience, wake_reconciliation, events_s
        self._over = threading.Event()
        self._place: Place | None = None
        self._note_at = self._reset_at = 0.0
        self._said = ""

    def run(self) -> None:
        """Look until told to stop."""
        failures = 0
        while not self._over.is_set():
            try:
                self.look()
            except Exception as exc:  # noqa: BLE001 - a bug of ours, too, is no reason to look never again
                failures += 1
                self._complain(exc)
                self._over.wait(pause_s(failures, exc, _LONGEST_S))
            else:
                failures, self._said = 0, ""
                self._over.wait(self._events_s)

    def stop(self) -> None:
        """Stop, and wait for it; not for long, as a server may hang."""
        self._over.set()
        if self.ident is not None:
            self.join(_STOP_S)
        self._events.close()

    def look(self) -> None:
        """Read what has happened since the last look, page by page.

        Raises
        ------
        EndpointError
            The archive fails; what was read before is written down.
        LedgerError
            The ledger fails; nothing was skipped.
        """
        for _ in range(_PAGES):
            if not self._page() or self._over.is_set():
                return

    def _page(self) -> bool:
        """Read and write down one page; return whether there is another."""
        before = self._place = self._place or self._stands()
        events = self._events.read(before)
        reach("watch.fetched")
        if events.reset:
            self._begin_again()
        if events.truncated:
            _log.warning("the event log was cut off; what it had is searched for", endpoint=self._endpoint)
        if events.unusable:
            _log.warning("series without UIDs arrived", endpoint=self._endpoint, series=events.unusable)
        if events.reset or events.truncated:
            self._wake()
        if (events.after, events.series) == (before, ()) and time.monotonic() < self._note_at:
            return events.more
        # Where another watch has read on meanwhile, its place is looked up, and read on from there.
        self._place = events.after if self._write(before, events) else None
        self._note_at = time.monotonic() + _NOTED_S
        return events.more

    def _write(self, before: Place, events: Events) -> bool:
        return self._arrivals.read(self._endpoint, before, events.after, events.series, self._patience)

    def _stands(self) -> Place:
        """Return where the ledger says that the log was read to; its end, if it was never read."""
        record = self._arrivals.find(self._endpoint)
        if record is None:
            record = self._arrivals.open(self._endpoint, self._events.head())
        return record.place

    def _begin_again(self) -> None:
        now = time.monotonic()
        if self._reset_at and now < self._reset_at + _RESET_S:
            raise ResponseInvalid(
                f"The event log of the endpoint {self._endpoint!r} is another one with each look: are there several "
                "servers behind its orthanc_url?"
            )
        self._reset_at = now
        _log.warning("the event log began anew; it is read from its beginning", endpoint=self._endpoint)

    def _complain(self, exc: Exception) -> None:
        """Log what is wrong, once as long as it is the same; the text of what is none of ours may hold anything."""
        known = exc if isinstance(exc, SlidewireError) else None
        what = known.message if known else f"Slidewire itself failed ({type(exc).__name__}): please report it."
        if what != self._said:
            self._said = what
            _log.warning("events cannot be read now; slides wait", endpoint=self._endpoint, error=what)
