"""The watch of one archive: follows its events, reconciles, settles what is due, and tells who is to be told."""

import datetime as dt
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

from connectors.endpoints import Endpoint
from connectors.intake.orthanc import OrthancLog
from connectors.intake.protocol import Place
from models.domain.errors import SlidewireError
from models.domain.slide import SlideRef
from worker.announcer import Announcer
from worker.health import watched_over
from worker.notices import notifying
from worker.pipeline import Cancellation
from worker.watch.events import EventPoller
from worker.watch.look import Look
from worker.watch.reconcile import Reconciler, Searches, search_once
from worker.watch.rules import rules_of
from worker.watch.settler import Settler
from worker.wiring import Installation

_TURN_S = 0.2
_LATE_S = 120.0  # as long as the ledger's patience with other writers, and a connection
_log = structlog.get_logger(__name__)


class Part(Protocol):
    """A thread of the watch; that one has ended by itself is a bug of ours."""

    name: str

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End, and wait for it, not for long."""

    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""


class Watch:
    """Watches one archive until told to stop; two of the same archive do no harm.

    Parameters
    ----------
    installation : Installation
    endpoint : str
        Name of the archive.

    Raises
    ------
    SettingsInvalid
        There is no such endpoint, no rule for it, or one that cannot be used.
    """

    def __init__(self, installation: Installation, endpoint: str) -> None:
        self._installation, self._name = installation, endpoint
        self._rules = rules_of(installation.settings, endpoint)
        self._endpoint: Endpoint = installation.endpoints.of_ref(
            SlideRef("dicomweb", installation.endpoints.named(endpoint).url, endpoint)
        )

    def run(self, stop: Cancellation) -> None:
        """Watch.

        Raises
        ------
        SlidewireError
            A part of it has ended by itself: start it again; nothing is lost.
        """
        settings, ledger = self._installation.settings, self._installation.ledger
        activity = self._installation.activity
        with (
            watched_over(self._installation, stop, broker_url=settings.broker_url, of_ledger=True),
            notifying(ledger, settings),
            _running(self._parts()) as parts,
        ):
            _log.info("watching", endpoint=self._name, rules=len(self._rules), events=bool(self._endpoint.orthanc_url))
            activity.expect("watch", _LATE_S)
            turn = threading.Event()  # not the one that a signal's handler sets: it must not be waited for
            while not stop.cancelled:
                turn.wait(_TURN_S)
                activity.turned("watch")
                ended = [part.name for part in parts if not part.is_alive()]
                if ended:
                    raise SlidewireError(f"Slidewire itself failed: its part {ended[0]} ended; see the watch's log.")

    def reconcile(self, first: dt.date | None, stop: Cancellation) -> int:
        """Search the archive once, from a day of study on; return how many series a watch will look at for that.

        Raises
        ------
        Interrupted
            Somebody asked to stop; what was found stays.
        EndpointError
        """
        searches = Searches(self._endpoint, self._rules, self._installation.settings.watch)
        return search_once(searches, self._installation.ledger.arrivals, first, stop)

    def _parts(self) -> list[Part]:
        settings, arrivals = self._installation.settings.watch, self._installation.ledger.arrivals
        reconciler = Reconciler(self._endpoint, arrivals, self._rules, settings)
        look = Look(self._installation, self._rules).look
        settler = Settler(self._installation.ledger, self._name, look, Announcer(self._installation), settings.threads)
        parts: list[Part] = [reconciler, settler]
        if self._endpoint.orthanc_url:
            log = OrthancLog(self._endpoint)
            poller = EventPoller(log, arrivals, self._name, settings.patience, reconciler.wake, settings.events_s)
            parts.append(poller)
        else:
            arrivals.open(self._name, Place())
        return parts


@contextmanager
def _running(parts: list[Part]) -> Iterator[list[Part]]:
    """Run threads for the length of a block."""
    try:
        for part in parts:
            part.start()
        yield parts
    finally:
        stopping = [threading.Thread(target=part.stop, name="stop") for part in parts]  # each may wait for a server
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
