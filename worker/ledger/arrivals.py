"""Arrivals: the series that came into a watched archive, when each is to be looked at, and what became of it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from connectors.intake.protocol import Place, Sighting
from models.domain.errors import JobNotFound
from worker.ledger.arrival_news import OPEN, look_again, news_of
from worker.ledger.arrival_records import Arrival, ArrivalState, Decision, Patience, WatchRecord
from worker.ledger.backfills import Cursor
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.jobs import cancel_job, submit_job
from worker.ledger.records import NewJob, Submission
from worker.ledger.schema import arrival, watch

_A_READ = 1000
_GIVEN_UP = (ArrivalState.FAILED, ArrivalState.OVERDUE)


class Arrivals:
    """The arrivals of one ledger.

    Parameters
    ----------
    db : Database
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def open(self, endpoint: str, start: Place) -> WatchRecord:
        """Return the watch of an endpoint; a new one reads the event log from `start`."""
        with self._db.write("watch.open") as connection:
            fresh = {"endpoint": endpoint, "created_at": NOW, "updated_at": NOW}
            insert = _insert(connection)(watch).values(**fresh, **asdict(start), **asdict(Cursor(listed=True)))
            connection.execute(insert.on_conflict_do_nothing(index_elements=[watch.c.endpoint]))
            return _watch(connection, endpoint)

    def watches(self) -> tuple[WatchRecord, ...]:
        """Return every watch, by endpoint."""
        with self._db.read() as connection:
            names = connection.execute(select(watch.c.endpoint).order_by(watch.c.endpoint)).scalars().all()
            return tuple(_watch(connection, name) for name in names)

    def find(self, endpoint: str) -> WatchRecord | None:
        """Return the watch of an endpoint; None if it never was watched."""
        return next((record for record in self.watches() if record.endpoint == endpoint), None)

    def read(
        self, endpoint: str, before: Place, after: Place, sightings: Iterable[Sighting], patience: Patience
    ) -> bool:
        """Record what an event log told and move its cursor, both or neither.

        Each series to which something has happened begins to be waited for, or is waited for anew, whatever had become
        of it.

        Returns
        -------
        bool
            False if another process has moved the cursor meanwhile: nothing was written.
        """
        with self._db.write("watch.read") as connection:
            stands = (watch.c.cursor == before.cursor, watch.c.mark == before.mark)
            moved = connection.execute(
                update(watch)
                .where(watch.c.endpoint == endpoint, *stands)
                .values(**asdict(after), read_at=NOW, updated_at=NOW)
            )
            if moved.rowcount != 1:
                return False
            _note(connection, endpoint, news_of(connection, endpoint, sightings).series, patience)
            return True

    def searched(
        self, endpoint: str, before: Cursor, after: Cursor, found: Iterable[Sighting], patience: Patience
    ) -> bool:
        """Record which series of a page are news, and move the reconciliation's cursor; both or neither.

        What is news, `worker.ledger.arrival_news.news_of` tells.

        Returns
        -------
        bool
            False if another process has moved the cursor meanwhile: nothing was written.
        """
        with self._db.write("watch.searched") as connection:
            stands = [watch.c[name] == value for name, value in asdict(before).items()]
            done = {"reconciled_at": NOW} if after.listed and not before.listed else {}
            moved = connection.execute(
                update(watch)
                .where(watch.c.endpoint == endpoint, *stands)
                .values(**asdict(after), **done, updated_at=NOW)
            )
            if moved.rowcount != 1:
                return False
            _take(connection, endpoint, found, patience)
            return True

    def found(self, endpoint: str, found: Iterable[Sighting], patience: Patience) -> int:
        """Record which series are news, as `searched`, and move no cursor; return how many there are."""
        with self._db.write("watch.found") as connection:
            return _take(connection, endpoint, found, patience)

    def due(self, endpoint: str, limit: int) -> tuple[Arrival, ...]:
        """Return series that are to be looked at now, the longest due first."""
        open_ones = (arrival.c.endpoint == endpoint, arrival.c.state.in_(OPEN), arrival.c.due_at <= NOW)
        query = _arrivals().where(*open_ones).order_by(arrival.c.due_at, arrival.c.serial).limit(limit)
        with self._db.read() as connection:
            return tuple(map(_arrival, connection.execute(query)))

    def decide(self, seen: Arrival, decision: Decision) -> bool:
        """Record what was decided about a series as it was seen.

        Returns
        -------
        bool
            False if something has happened to it meanwhile: it is looked at again.
        """
        with self._db.write("arrival.decide") as connection:
            return _decide(connection, seen, decision, seen.job_id)

    def submit(self, seen: Arrival, decision: Decision, new: NewJob) -> Submission | None:
        """Queue the job of a series and record that, both or neither; the job of its earlier instances is cancelled.

        Returns
        -------
        Submission or None
            None if something has happened to the series meanwhile: nothing was queued, it is looked at again.
        """
        with self._db.write("arrival.submit") as connection:
            # The arrival first: of two watches that saw the same series one goes on, and waits for nobody.
            if not _decide(connection, seen, decision, seen.job_id):
                return None
            submission = submit_job(connection, new)
            place = update(arrival).where(arrival.c.serial == seen.serial)
            connection.execute(place.values(job_id=submission.job.id))
            if seen.job_id not in {"", submission.job.id}:
                _supersede(connection, seen.job_id)
            return submission

    def retry(self, endpoint: str, patience: Patience, states: Collection[ArrivalState] = _GIVEN_UP) -> int:
        """Look again at the series that failed or were late, as if they had just come; return how many there are."""
        with self._db.write("arrival.retry") as connection:
            again = connection.execute(
                update(arrival)
                .where(arrival.c.endpoint == endpoint, arrival.c.state.in_(states))
                .values(
                    state=ArrivalState.SETTLING, code="", version=arrival.c.version + 1, tries=0, notice="",
                    first_at=NOW, due_at=NOW, deadline_at=NOW + patience.deadline_s, updated_at=NOW,
                )
            )  # fmt: skip
            return again.rowcount

    def of_series(self, endpoint: str, study_uid: str, series_uid: str) -> Arrival | None:
        """Return the arrival of a series; None if it never came."""
        of_series = (
            arrival.c.endpoint == endpoint,
            arrival.c.study_uid == study_uid,
            arrival.c.series_uid == series_uid,
        )
        with self._db.read() as connection:
            row = connection.execute(_arrivals().where(*of_series)).one_or_none()
        return None if row is None else _arrival(row)

    def tally(self, endpoint: str) -> Mapping[ArrivalState, int]:
        """Count the series of an endpoint by state."""
        query = select(arrival.c.state, func.count()).where(arrival.c.endpoint == endpoint).group_by(arrival.c.state)
        with self._db.read() as connection:
            counted = {state: int(number) for state, number in connection.execute(query)}
        return {state: counted.get(state, 0) for state in ArrivalState}

    def codes(self, endpoint: str) -> Mapping[ArrivalState, Mapping[str, int]]:
        """Count the series of an endpoint by state, and by why they stand so, where there is a reason."""
        query = (
            select(arrival.c.state, arrival.c.code, func.count())
            .where(arrival.c.endpoint == endpoint, arrival.c.code != "")
            .group_by(arrival.c.state, arrival.c.code)
            .order_by(arrival.c.code)
        )
        with self._db.read() as connection:
            counted = connection.execute(query).all()
        return {state: {code: int(n) for its, code, n in counted if its == state} for state in ArrivalState}

    def items(self, endpoint: str, state: ArrivalState) -> Iterator[Arrival]:
        """Yield the series in a state, in the order of their arrival; never more than a thousand in memory."""
        last = 0
        while True:
            query = _arrivals().where(arrival.c.endpoint == endpoint, arrival.c.state == state, arrival.c.serial > last)
            with self._db.read() as connection:
                found = connection.execute(query.order_by(arrival.c.serial).limit(_A_READ)).all()
            if not found:
                return
            yield from map(_arrival, found)
            last = found[-1].serial


def _watch(connection: Connection, endpoint: str) -> WatchRecord:
    row = connection.execute(select(watch, NOW.label("now")).where(watch.c.endpoint == endpoint)).one()
    return WatchRecord(
        row.endpoint,
        Place(row.cursor, row.mark),
        Cursor(row.first_day, row.last_day, row.seen, row.page, row.listed),
        row.read_at,
        row.reconciled_at,
        row.created_at,
        row.now,
    )


def _note(connection: Connection, endpoint: str, sightings: Iterable[Sighting], patience: Patience) -> None:
    """Begin to wait for series, or begin again."""
    seen = {(one.study_uid, one.series_uid): one for one in sightings}  # PostgreSQL updates no row twice at a time
    if not seen:
        return
    rows = [
        {
            "endpoint": endpoint, "study_uid": one.study_uid, "series_uid": one.series_uid,
            "calling_aet": one.calling_aet, "instances": one.instances,
        }
        for one in seen.values()
    ]  # fmt: skip
    insert = _insert(connection)(arrival).values(
        state=ArrivalState.SETTLING, code="", rule="", job_id="", set_sha256="", version=1, tries=0, first_at=NOW,
        changed_at=NOW, due_at=NOW + patience.quiet_s, deadline_at=NOW + patience.deadline_s, updated_at=NOW,
    )  # fmt: skip
    waits = or_(*(arrival.c.state == state for state in OPEN))  # no in_(): it cannot be sent for many rows at a time
    again = {
        "state": ArrivalState.SETTLING, "code": "", "version": arrival.c.version + 1, "tries": 0, "changed_at": NOW,
        "due_at": NOW + patience.quiet_s, "updated_at": NOW, "notice": "",
        # One that nobody waited for is waited for from now on.
        "first_at": _kept_if(waits, arrival.c.first_at, NOW),
        "deadline_at": _kept_if(waits, arrival.c.deadline_at, NOW + patience.deadline_s),
        "calling_aet": case(
            (insert.excluded.calling_aet != "", insert.excluded.calling_aet), else_=arrival.c.calling_aet
        ),
        "instances": case((insert.excluded.instances > 0, insert.excluded.instances), else_=arrival.c.instances),
    }  # fmt: skip
    keys = [arrival.c.endpoint, arrival.c.study_uid, arrival.c.series_uid]
    connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=again), rows)


def _take(connection: Connection, endpoint: str, found: Iterable[Sighting], patience: Patience) -> int:
    """Wait for the series of a search that are news, and have doubtful ones looked at again; return how many."""
    news = news_of(connection, endpoint, [replace(one, changed=False) for one in found])
    _note(connection, endpoint, news.series, patience)
    look_again(connection, news.doubtful)
    return len(news.series) + len(news.doubtful)


def _kept_if(condition: ColumnElement[bool], kept: ColumnElement[float], fresh: ColumnElement[float]) -> Any:
    return case((condition, kept), else_=fresh)


def _decide(connection: Connection, seen: Arrival, decision: Decision, job_id: str) -> bool:
    news = arrival.c.notice == ""  # one that was late before, and was looked at again, is told once
    told = {
        "notice": case((news, "due"), else_=arrival.c.notice), "notice_at": case((news, NOW), else_=arrival.c.notice_at)
    } if decision.state in _GIVEN_UP else {}  # fmt: skip
    decided = connection.execute(
        update(arrival)
        .where(arrival.c.serial == seen.serial, arrival.c.version == seen.version, arrival.c.state == seen.state)
        .values(
            state=decision.state, code=decision.code, rule=decision.rule,
            set_sha256=decision.set_sha256 or arrival.c.set_sha256,
            # What the archive's lists say is kept: they are what the next search is compared with.
            instances=case((arrival.c.instances > 0, arrival.c.instances), else_=decision.instances),
            job_id=job_id, tries=arrival.c.tries + 1,
            due_at=NOW + decision.again_s, updated_at=NOW, **told,
        )
    )  # fmt: skip
    return decided.rowcount == 1


def _supersede(connection: Connection, job_id: str) -> None:
    try:
        cancel_job(connection, job_id)
    except JobNotFound:
        return  # somebody removed it


def _arrivals() -> Any:
    columns = (arrival.c[name] for name in Arrival.__slots__ if name != "now")
    return select(*columns, NOW.label("now"))


def _arrival(row: Row[Any]) -> Arrival:
    fields = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    return Arrival(**fields | {"state": ArrivalState(fields["state"])})


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
