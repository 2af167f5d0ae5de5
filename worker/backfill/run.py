"""One start of a backfill: searches, hands out, records, until all has become of the slides what can."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

from connectors.archive import Archive, FoundSeries, Window
from models.domain.errors import (
    EndpointError,
    EndpointPaused,
    LedgerUnavailable,
    PatchOutsideSlide,
    RequestError,
    SlideTooSmall,
    SlidewireError,
    SourceError,
    SpacingTooFine,
    TissueFileInvalid,
)
from models.domain.job import JobState, Lane
from models.domain.request import EmbedRequest
from worker.announcer import Announcer
from worker.backfill.intake import Intake, Outcome
from worker.backfill.order import Order
from worker.backfill.patience import Patience
from worker.embedding import submit
from worker.ledger import JobRecord
from worker.ledger.backfills import BackfillRecord, Cursor, Item, ItemState
from worker.pipeline import Cancellation
from worker.survey import Survey
from worker.wiring import Installation

Step = tuple[Cursor, tuple[FoundSeries, ...]]
Submit = Callable[[Installation, EmbedRequest, Lane], JobRecord]

_OF_THE_SLIDE = (SourceError, SpacingTooFine, SlideTooSmall, PatchOutsideSlide, TissueFileInvalid)
_TRIES = 5
_AHEAD = 2  # series handed out a thread
_TICK_S = 0.2
_FIRST_PAUSE = 5  # looks into an empty ledger


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How much is done at a time, and when to leave.

    Parameters
    ----------
    at_once : int
        Jobs of this backfill that wait or run.
    threads : int
        Slides that are made jobs of at a time.
    slides : int or None
        Leave after so many.
    detach : bool
        Leave when all are submitted.
    afresh : bool
        Search the archive from its beginning; what was found stays, and is not found twice.
    """

    at_once: int = 200
    threads: int = 4
    slides: int | None = None
    detach: bool = False
    afresh: bool = False


@contextmanager
def surveyed(installation: Installation, order: Order) -> Iterator[Survey]:
    """Open the archive of an order for the length of a block."""
    archive = Archive(order.endpoint(installation.endpoints), {order.modality})
    try:
        yield Survey(archive, Window(order.first, order.last))
    finally:
        archive.close()


def count(installation: Installation, order: Order) -> tuple[int, int]:
    """Return how many series an order would find, and how many of them it has found before; writes nothing."""
    before, found, known = installation.ledger.backfills.find(order.key), 0, 0
    with surveyed(installation, order) as survey:
        cursor = survey.start
        while not cursor.listed:
            cursor, series = survey.step(cursor)
            found += len(series)
            if before is not None:
                pairs = [(one.study_uid, one.series_uid) for one in series]
                known += installation.ledger.backfills.known(before.id, pairs)
    return found, known


class Run:
    """One start of a backfill.

    Two of the same backfill at a time do no harm: the cursor moves under one of them only, and a slide has one job.

    Parameters
    ----------
    installation : Installation
    order : Order
    limits : RunLimits
    stop : Cancellation
        Ends the run; it goes on with the next start.
    submitting : callable
        Makes a job of a request.
    """

    def __init__(
        self,
        installation: Installation,
        order: Order,
        limits: RunLimits,
        stop: Cancellation,
        submitting: Submit = submit,
    ) -> None:
        self._installation, self._order, self._limits, self._stop = installation, order, limits, stop
        self._submitting = submitting
        self._backfills = installation.ledger.backfills
        pause_s = _FIRST_PAUSE * installation.settings.poll_s
        self._searching, self._submission, self._keeping = Patience(pause_s), Patience(pause_s), Patience(pause_s)
        self._announcer = Announcer(installation)
        self._tries: dict[int, int] = {}
        self._handled = 0
        self._page: Future[Step] | None = None

    def work(self, watch: Callable[[str], None]) -> None:
        """Work until nothing is left to do.

        Parameters
        ----------
        watch : callable
            Told the backfill's id several times a second.

        Raises
        ------
        Interrupted
            Somebody asked to stop.
        SlidewireError
            No slide can be submitted as asked, or the server failed for too long. What was found is kept.
        """
        with surveyed(self._installation, self._order) as survey:
            self._survey = survey
            self._record = self._opened()
            self._cursor = self._backfills.cursor(self._record.id)
            self._intake = Intake(self._submit_one, self._limits.threads)
            try:
                while self._goes_on():
                    watch(self._record.id)
            finally:
                self._intake.close()
                self._keep_jobs()

    def _opened(self) -> BackfillRecord:
        record = self._backfills.open(self._order.key, self._order.wanted, self._survey.start)
        resumed = self._survey.start if self._limits.afresh else self._survey.resumed(record.cursor)
        if resumed != record.cursor:
            self._backfills.rewind(record.id, resumed)
        return record

    def _goes_on(self) -> bool:
        """Do one round; return whether there is another one."""
        self._stop.check()
        try:
            outcomes = self._intake.outcomes(_TICK_S)
            for outcome in outcomes:
                self._take(outcome)
            if any(outcome.job for outcome in outcomes):
                self._announcer.ring()
            self._backfills.settle(self._record.id)
            self._search()
            over = self._hand_out()
        except LedgerUnavailable as exc:
            self._keeping.trouble(exc)
            return True
        self._keeping.good()
        return not over

    def _keep_jobs(self) -> None:
        """Record the jobs that came after the end; without it, the next start would open their slides again."""
        with suppress(LedgerUnavailable):
            for outcome in self._intake.outcomes(0.0):
                if outcome.job is not None:
                    self._take(outcome)

    def _is_searching(self) -> bool:
        if self._cursor.listed:
            return False
        return self._limits.slides is None or not self._backfills.waiting(self._record.id, 1)

    def _search(self) -> None:
        """Take a page into the ledger that has come, and ask for the next one."""
        if self._page is not None and self._page.done():
            page, self._page = self._page, None
            self._take_page(page)
        if self._page is None and self._is_searching() and not self._searching.left_s and not self._is_quiet():
            self._page = _in_background(partial(self._survey.step, self._cursor))
            self._page.add_done_callback(lambda _: self._intake.wake())

    def _take_page(self, page: "Future[Step]") -> None:
        try:
            following, series = page.result()
        except EndpointError as exc:
            if not exc.retryable:
                raise
            (self._searching.wait if isinstance(exc, EndpointPaused) else self._searching.trouble)(exc)
            return
        self._searching.good()
        found = [(one.study_uid, one.series_uid, one.error_code) for one in series]
        moved = self._backfills.found(self._record.id, self._cursor, following, found)
        self._cursor = following if moved else self._backfills.cursor(self._record.id)

    def _hand_out(self) -> bool:
        """Give the threads what they can take; return whether nothing is left for this run to do."""
        running, under_way = self._backfills.running(self._record.id), len(self._intake.under_way)
        allowed = float("inf") if self._limits.slides is None else self._limits.slides - self._handled - under_way
        waiting = [
            item
            for item in self._backfills.waiting(self._record.id, under_way + _AHEAD * self._limits.threads)
            if item.serial not in self._intake.under_way
        ]
        room = min(self._limits.at_once - running, _AHEAD * self._limits.threads) - under_way
        if not self._submission.left_s and not self._is_quiet():
            for item in waiting[: max(0, int(min(room, allowed)))]:
                self._intake.put(item)
        if self._intake.under_way or (allowed > 0 and (waiting or self._is_searching())):
            return False
        return self._limits.detach or not running

    def _is_quiet(self) -> bool:
        """Whether the server is left to its other users at this hour."""
        key = self._order.endpoint(self._installation.endpoints).key
        rules = self._installation.settings.ledger_rules.endpoints.get(key)
        return rules is not None and rules.quiet is not None and rules.quiet.contains(time.time())

    def _submit_one(self, item: Item) -> JobRecord:
        return self._submitting(self._installation, self._order.slide(item.study_uid, item.series_uid), Lane.BACKFILL)

    def _take(self, outcome: Outcome) -> None:
        """Record what came of a series, or let it wait for another try."""
        item, job, error = outcome.item, outcome.job, outcome.error
        if job is not None:
            # One that succeeded since was this backfill's own: its process was killed before it could say so.
            known = job.state is JobState.SUCCEEDED and job.created_at < self._record.created_at
            self._end(item, ItemState.KNOWN if known else ItemState.SUBMITTED, job_id=job.id)
        elif isinstance(error, _OF_THE_SLIDE) and not error.retryable:
            self._end(item, ItemState.SKIPPED, error.code)
        elif isinstance(error, RequestError):
            raise error  # it would be the same for all
        elif error is not None:
            self._failed(item, error)

    def _failed(self, item: Item, error: SlidewireError) -> None:
        if isinstance(error, EndpointPaused | LedgerUnavailable):
            self._submission.wait(error)
            return
        tries = self._tries.pop(item.serial, 0) + 1
        if error.retryable and tries < _TRIES:
            self._tries[item.serial] = tries
            self._submission.trouble(error)
            return
        self._backfills.record(item, ItemState.FAILED, error.code)
        self._handled += 1
        self._submission.trouble(error) if error.retryable else self._submission.failure(error)

    def _end(self, item: Item, state: ItemState, code: str = "", job_id: str = "") -> None:
        self._backfills.record(item, state, code, job_id)
        self._tries.pop(item.serial, None)
        self._handled += 1
        self._submission.good()


def _in_background(call: Callable[[], Step]) -> "Future[Step]":
    """Call in a daemon thread: a server that does not answer must not hold up the end of the program."""
    future: Future[Step] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - it is raised again by the taker
            future.set_exception(exc)

    threading.Thread(target=run, name="search", daemon=True).start()
    return future
