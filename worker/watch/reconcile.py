"""Reconciliation: an archive is searched page by page for what its events did not tell; the net below every intake."""

import datetime as dt
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import structlog

from connectors.archive import ANY_MODALITY, Archive, FoundSeries, Window
from connectors.endpoints import Endpoint
from connectors.intake.protocol import Sighting
from models.domain.errors import SlidewireError
from models.domain.rule import Rule, fits
from worker.intake_settings import WatchSettings
from worker.ledger import Arrivals
from worker.ledger.backfills import Cursor
from worker.pipeline import Cancellation
from worker.survey import Survey
from worker.watch.pause import pause_s

_LEAST_S = 5.0  # between searches, however often events go astray
_LONGEST_S = 300.0  # between tries of a server that fails
_UNOPENED_S = 1.0  # between looks for a watch whose event log has not been found yet
_STOP_S = 5.0

_log = structlog.get_logger(__name__)


class Searches:
    """Opens searches of one archive for what rules ask for.

    Parameters
    ----------
    endpoint : Endpoint
    rules : sequence of Rule
    settings : WatchSettings
    """

    def __init__(self, endpoint: Endpoint, rules: Sequence[Rule], settings: WatchSettings) -> None:
        self._endpoint, self._settings = endpoint, settings
        self._modalities = modalities_of(rules, endpoint.name)
        self.name = endpoint.name
        self.patience = settings.patience

    @contextmanager
    def opened(self, first: dt.date | None = None) -> Iterator[Survey]:
        """Give a way through the archive for the length of a block.

        Parameters
        ----------
        first : date or None
            First day of study; None: as the settings say.
        """
        if first is None and self._settings.reconcile_days:
            first = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=self._settings.reconcile_days)
        archive = Archive(self._endpoint, self._modalities)
        try:
            yield Survey(archive, Window(first), undated=True)
        finally:
            archive.close()


class Reconciler(threading.Thread):
    """Searches an archive at its start, every so often, and when woken; where it stands is in the ledger.

    Page and news are written at once: killed anywhere, it goes on at that page. A server that fails is asked ever more
    seldom, at least every five minutes, for the page at hand. Quiet hours do not hold it up: slides come at any hour.

    Parameters
    ----------
    endpoint : Endpoint
    arrivals : Arrivals
    rules : sequence of Rule
        What no rule's modalities hold is not even an arrival.
    settings : WatchSettings
    """

    def __init__(self, endpoint: Endpoint, arrivals: Arrivals, rules: Sequence[Rule], settings: WatchSettings) -> None:
        super().__init__(name="reconciliation", daemon=True)
        self._searches, self._arrivals = Searches(endpoint, rules, settings), arrivals
        self._every_s = settings.reconcile_s
        self._over, self._awake, self._afresh = threading.Event(), threading.Event(), threading.Event()

    def run(self) -> None:
        """Search until told to stop."""
        failures, said = 0, ""
        while not self._over.is_set():
            self._awake.clear()
            try:
                wait_s = self._every_s if self.search() else _UNOPENED_S
                failures, said = 0, ""
            except Exception as exc:  # noqa: BLE001 - a bug of ours, too, is no reason to search never again
                failures += 1
                said = self._complain(exc, said)
                self._over.wait(pause_s(failures, exc, _LONGEST_S))
                continue
            self._over.wait(min(_LEAST_S, wait_s))  # woken or not
            self._awake.wait(max(0.0, wait_s - _LEAST_S))

    def wake(self) -> None:
        """Search from the beginning, soon: events may have been lost."""
        self._afresh.set()
        self._awake.set()

    def stop(self) -> None:
        """Stop, and wait for it; not for long, as a server may hang."""
        self._over.set()
        self._awake.set()
        if self.ident is not None:
            self.join(_STOP_S)

    def search(self) -> bool:
        """Go through the archive once, from where the ledger says; return False if nobody has opened the watch yet.

        Raises
        ------
        EndpointError
            The archive fails; what was found before is written down.
        LedgerError
            The ledger fails; nothing was skipped.
        """
        record = self._arrivals.find(self._searches.name)
        if record is None:
            return False
        cursor, pages, found = record.search, 0, 0
        with self._searches.opened() as survey:
            while (cursor.listed or self._afresh.is_set()) and not self._over.is_set():
                begun = self._write(cursor, survey.start, ())
                if begun == survey.start:
                    self._afresh.clear()
                cursor = begun
            while not cursor.listed and not self._over.is_set():
                following, series = survey.step(cursor)
                cursor = self._write(cursor, following, series)
                pages, found = pages + 1, found + len(series)
        _log.info("archive searched", endpoint=self._searches.name, pages=pages, series=found, to_its_end=cursor.listed)
        return True

    def _write(self, before: Cursor, after: Cursor, series: Sequence[FoundSeries]) -> Cursor:
        """Write down a page; return where the search stands: another watch may have moved it on."""
        name, patience = self._searches.name, self._searches.patience
        if self._arrivals.searched(name, before, after, _sightings(name, series), patience):
            return after
        record = self._arrivals.find(name)
        assert record is not None
        return record.search

    def _complain(self, exc: Exception, said: str) -> str:
        """Log what is wrong, once as long as it is the same; return what was said."""
        known = isinstance(exc, SlidewireError)
        error = exc if known else SlidewireError(f"Slidewire itself failed ({type(exc).__name__}): please report it.")
        assert isinstance(error, SlidewireError)
        if error.code != said:
            _log.warning("the archive cannot be searched now", endpoint=self._searches.name, error=error.message)
        return error.code


def search_once(searches: Searches, arrivals: Arrivals, first: dt.date | None, stop: Cancellation) -> int:
    """Go through an archive once, beside the searches of its watch; return how many series are to be looked at.

    Parameters
    ----------
    searches : Searches
    arrivals : Arrivals
        They are settled by a watch of the archive.
    first : date or None
        First day of study; None: as the settings say.
    stop : Cancellation

    Raises
    ------
    Interrupted
        Somebody asked to stop; what was found stays.
    EndpointError
        The archive cannot be searched.
    """
    news = 0
    with searches.opened(first) as survey:
        cursor = survey.start
        while not cursor.listed:
            stop.check()
            cursor, series = survey.step(cursor)
            news += arrivals.found(searches.name, _sightings(searches.name, series), searches.patience)
    return news


def modalities_of(rules: Sequence[Rule], endpoint: str) -> frozenset[str]:
    """Return the modalities that rules for an archive ask for; any, if one asks by a pattern, or does not ask."""
    criteria = [rule.criteria for rule in rules]
    asked = [
        one.modality
        for one in criteria
        if not one.endpoints or any(fits(pattern, endpoint) for pattern in one.endpoints)
    ]
    named = {pattern.upper() for patterns in asked for pattern in patterns or (ANY_MODALITY,)}
    return frozenset(ANY_MODALITY if set(name) & set("*?") else name for name in named)


def _sightings(endpoint: str, series: Sequence[FoundSeries]) -> list[Sighting]:
    """Return the series that can be asked for."""
    unusable = sum(bool(one.error_code) for one in series)
    if unusable:
        _log.warning("series cannot be asked for: what they are called is no UID", endpoint=endpoint, series=unusable)
    return [
        Sighting(one.study_uid, one.series_uid, instances=one.instances, changed=False)
        for one in series
        if not one.error_code
    ]
