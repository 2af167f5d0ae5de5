"""The way through an archive: a few days at a time, page by page; where it stands is a cursor that can be kept."""

import datetime as dt
from dataclasses import replace

from connectors.archive import PAGE, UNDATED, Archive, FoundSeries, Window
from models.domain.errors import ResponseInvalid
from worker.ledger.backfills import Cursor

_FEW, _MANY = PAGE // 4, 4 * PAGE  # studies of a window, for the next one to take more days, or fewer
_MOST_DAYS = 64
_MOST_SEEN = 1_000_000  # of one window; Google takes no larger offset
_AGAIN = dt.timedelta(days=2)  # of a search that went up to today: studies may have come in late
_DAY = dt.timedelta(days=1)


class Survey:
    """Moves a cursor through an archive.

    Days make the way steady: studies that come in while it is searched are of other days than the one at hand.
    Without a first day there is only one window, and what comes in may be missed.

    Parameters
    ----------
    archive : Archive
    days : Window
        Of study.
    today : date or None
        None: by this machine's clock. A search without a last day goes a day further, for the time zones.
    undated : bool
        Search for studies without a date, too, before the days; without a first day that makes no difference.
    """

    def __init__(self, archive: Archive, days: Window, today: dt.date | None = None, *, undated: bool = False) -> None:
        self._archive = archive
        self._days = days
        self._until = days.last or (today or dt.datetime.now(dt.UTC).date()) + _DAY
        self._undated = undated and days.first is not None

    @property
    def start(self) -> Cursor:
        """Where a search begins."""
        if self._undated:
            return Cursor(last_day=_text(UNDATED.last))
        return self._first_days

    @property
    def _first_days(self) -> Cursor:
        if self._days.first is None:
            return Cursor(last_day=_text(self._days.last))
        return Cursor(_text(self._days.first), _text(self._days.first))

    def resumed(self, cursor: Cursor) -> Cursor:
        """Return where a search goes on that was given up, or had come to its end on an earlier day."""
        if not cursor.listed or self._days.first is None or self._days.last is not None:
            return cursor
        reached = dt.date.fromisoformat(cursor.last_day)
        if reached >= self._until:
            return cursor
        day = _text(max(self._days.first, reached - _AGAIN))
        return Cursor(day, day)

    def step(self, cursor: Cursor) -> tuple[Cursor, tuple[FoundSeries, ...]]:
        """Ask for one page; return the cursor after it, and the series it held.

        A page that comes a second time is of a server that knows no offset: if it was shorter or longer than asked
        for, that was all there is; else fewer days are asked for.

        Raises
        ------
        ResponseInvalid
            The server cannot be paged through.
        EndpointError
            It does not answer; the cursor stays where it is.
        """
        window = Window(_day(cursor.first_day), _day(cursor.last_day))
        page = self._archive.page(window, cursor.seen)
        if not page.studies:
            return self._beyond(cursor, window), ()
        if page.digest == cursor.page:
            return (self._beyond if page.studies != PAGE else self._narrowed)(cursor, window), ()
        if cursor.seen > _MOST_SEEN:
            raise ResponseInvalid(
                "The archive names more than a million studies and comes to no end: give --from, so that they are "
                "asked for by days."
            )
        return replace(cursor, seen=cursor.seen + page.studies, page=page.digest), page.series

    def _beyond(self, cursor: Cursor, window: Window) -> Cursor:
        """Return the cursor at the first page of the days that follow."""
        if self._undated and window == UNDATED:
            return self._first_days
        if window.first is None or window.last is None or window.last >= self._until:
            return replace(cursor, listed=True)
        days = (window.last - window.first).days + 1
        days = min(2 * days, _MOST_DAYS) if cursor.seen < _FEW else max(1, days // 2) if cursor.seen > _MANY else days
        last = min(window.last + days * _DAY, self._until)
        return Cursor(_text(window.last + _DAY), _text(last))

    def _narrowed(self, cursor: Cursor, window: Window) -> Cursor:
        """Return the cursor at the first page of the earlier half of its days."""
        if window.first is None or window.last is None or window.first == window.last:
            raise ResponseInvalid(
                f"The archive gives the same {PAGE} studies for every offset, and does not say how many there are: "
                + ("it cannot be searched." if window.first else "give --from, so that they are asked for by days.")
            )
        days = (window.last - window.first).days + 1
        return Cursor(cursor.first_day, _text(window.first + (days // 2 - 1) * _DAY))


def _day(text: str) -> dt.date | None:
    return dt.date.fromisoformat(text) if text else None


def _text(day: dt.date | None) -> str:
    return day.isoformat() if day else ""
