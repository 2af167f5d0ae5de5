"""Backfills: how far an archive has been searched, which series were found, and what became of each."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from models.domain.codes import ErrorCode
from models.domain.job import JobState
from worker.ledger import transitions
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.schema import backfill, backfill_item, job, shard

_A_READ = 1000


class ItemState(StrEnum):
    """What became of a series; the first two are not its end."""

    WAITING = "waiting"
    SUBMITTED = "submitted"
    DONE = "done"
    KNOWN = "already-done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far an archive has been searched.

    Parameters
    ----------
    first_day, last_day : str
        The days that are being searched, ISO 8601, both included; "" for no bound.
    seen : int
        Studies of those days that the archive has named.
    page : str
        Digest of the page before; "" at the first one.
    listed : bool
        Nothing is left to search.
    """

    first_day: str = ""
    last_day: str = ""
    seen: int = 0
    page: str = ""
    listed: bool = False


@dataclass(frozen=True, slots=True)
class BackfillRecord:
    """A backfill as the ledger knows it.

    Parameters
    ----------
    id : str
        32 hexadecimal digits.
    wanted : dict
        What was asked for, as JSON; free of UIDs.
    cursor : Cursor
    created_at : float
        In seconds since 1970.
    """

    id: str
    wanted: dict[str, Any]
    cursor: Cursor
    created_at: float


@dataclass(frozen=True, slots=True)
class Item:
    """A series of a backfill; its UIDs are for the archive, not for messages.

    Parameters
    ----------
    serial : int
        Order in which it was found.
    study_uid, series_uid : str
    state : ItemState
    code : str
        Of the error that it was skipped or failed with.
    job_id : str
        "" if there is none.
    """

    serial: int
    study_uid: str
    series_uid: str
    state: ItemState
    code: str
    job_id: str


@dataclass(frozen=True, slots=True)
class Tally:
    """The series of a backfill, counted.

    Parameters
    ----------
    found, submitted : int
        Named by the archive; of those, made jobs of by this backfill.
    waiting, running, done, known : int
        Not submitted yet; jobs that have not ended; that succeeded; that had succeeded before.
    skipped, failed : mapping of str to int
        By code of the error.
    patches : int
        Embedded so far by this backfill's jobs.
    """

    found: int = 0
    submitted: int = 0
    waiting: int = 0
    running: int = 0
    done: int = 0
    known: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    patches: int = 0

    @property
    def ended(self) -> int:
        """Series that nothing more will be done about."""
        return self.found - self.waiting - self.running


class Backfills:
    """The backfills of one ledger.

    Parameters
    ----------
    db : Database
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def open(self, key: str, wanted: Mapping[str, Any], start: Cursor) -> BackfillRecord:
        """Return the backfill of that key; a new one begins at `start`.

        What failed before waits again, unless somebody cancelled it.
        """
        with self._db.write("backfill.open") as connection:
            fresh = {"id": uuid4().hex, "key": key, "wanted": dict(wanted), "created_at": NOW, "updated_at": NOW}
            insert = _insert(connection)(backfill).values(**fresh, **asdict(start))
            connection.execute(insert.on_conflict_do_nothing(index_elements=[backfill.c.key]))
            found = _record(connection.execute(select(backfill).where(backfill.c.key == key)).one())
            again = and_(_of(found.id, ItemState.FAILED), backfill_item.c.code != ErrorCode.CANCELLED)
            connection.execute(
                update(backfill_item).where(again).values(state=ItemState.WAITING, code="", job_id="", updated_at=NOW)
            )
            return found

    def find(self, key: str) -> BackfillRecord | None:
        """Return the backfill of that key; None if there is none."""
        with self._db.read() as connection:
            row = connection.execute(select(backfill).where(backfill.c.key == key)).one_or_none()
            return None if row is None else _record(row)

    def all(self) -> tuple[BackfillRecord, ...]:
        """Return every backfill, the oldest first."""
        with self._db.read() as connection:
            return tuple(map(_record, connection.execute(select(backfill).order_by(backfill.c.created_at))))

    def cursor(self, backfill_id: str) -> Cursor:
        """Return how far the archive has been searched."""
        with self._db.read() as connection:
            return _record(connection.execute(select(backfill).where(backfill.c.id == backfill_id)).one()).cursor

    def rewind(self, backfill_id: str, start: Cursor) -> None:
        """Search again from `start`; what was found stays, and is not found twice."""
        with self._db.write("backfill.rewind") as connection:
            place = update(backfill).where(backfill.c.id == backfill_id)
            connection.execute(place.values(**asdict(start), updated_at=NOW))

    def found(self, backfill_id: str, before: Cursor, after: Cursor, series: Collection[tuple[str, str, str]]) -> bool:
        """Record what a page held and move the cursor past it, both or neither.

        Parameters
        ----------
        backfill_id : str
        before, after : Cursor
            Where it must stand, and where it goes.
        series : collection of (study UID, series UID, code)
            With a code, it is skipped.

        Returns
        -------
        bool
            False if another process has moved the cursor meanwhile: nothing was written.
        """
        with self._db.write("backfill.found") as connection:
            stands = [backfill.c[name] == value for name, value in asdict(before).items()]
            moved = connection.execute(
                update(backfill).where(backfill.c.id == backfill_id, *stands).values(**asdict(after), updated_at=NOW)
            )
            if moved.rowcount != 1:
                return False
            if series:
                keys = [backfill_item.c[name] for name in ("backfill_id", "study_uid", "series_uid")]
                insert = _insert(connection)(backfill_item).values(updated_at=NOW)
                rows = [_row(backfill_id, one) for one in series]
                connection.execute(insert.on_conflict_do_nothing(index_elements=keys), rows)
            return True

    def waiting(self, backfill_id: str, limit: int) -> tuple[Item, ...]:
        """Return the first series that wait to be submitted."""
        query = _items().where(_of(backfill_id, ItemState.WAITING)).order_by(backfill_item.c.serial).limit(limit)
        with self._db.read() as connection:
            return tuple(map(_item, connection.execute(query)))

    def running(self, backfill_id: str) -> int:
        """Return how many series have a job that has not ended, as far as `settle` knows."""
        query = select(func.count()).select_from(backfill_item).where(_of(backfill_id, ItemState.SUBMITTED))
        with self._db.read() as connection:
            return int(connection.execute(query).scalar_one())

    def record(self, item: Item, state: ItemState, code: str = "", job_id: str = "") -> None:
        """Note what became of a series; one that does not wait any more stays as it is."""
        with self._db.write("backfill.record") as connection:
            connection.execute(
                update(backfill_item)
                .where(backfill_item.c.serial == item.serial, backfill_item.c.state == ItemState.WAITING)
                .values(state=state, code=code, job_id=job_id, updated_at=NOW)
            )

    def settle(self, backfill_id: str) -> int:
        """Take over how jobs have ended; return how many have since the last time."""
        ended = (
            select(backfill_item.c.serial, job.c.state, job.c.error_code, job.c.patches)
            .join(job, job.c.id == backfill_item.c.job_id)
            .where(_of(backfill_id, ItemState.SUBMITTED), job.c.state.not_in(transitions.OPEN_JOBS))
        )
        with self._db.read() as connection:
            rows = connection.execute(ended).all()
        if rows:
            with self._db.write("backfill.settle") as connection:
                for row in rows:
                    good = row.state == JobState.SUCCEEDED
                    code = ErrorCode.CANCELLED if row.state == JobState.CANCELLED else row.error_code
                    said = {"state": ItemState.DONE, "patches": row.patches} if good else {
                        "state": ItemState.FAILED, "code": code
                    }  # fmt: skip
                    connection.execute(
                        update(backfill_item)
                        .where(backfill_item.c.serial == row.serial, backfill_item.c.state == ItemState.SUBMITTED)
                        .values(**said, updated_at=NOW)
                    )
        return len(rows)

    def tally(self, backfill_id: str) -> Tally:
        """Count the series; those of jobs that ended unseen are still counted as running."""
        item, with_job = backfill_item.c, backfill_item.c.job_id != ""
        counts = (
            select(item.state, item.code, with_job.label("job"), func.count().label("n"), func.sum(item.patches))
            .where(item.backfill_id == backfill_id)
            .group_by(item.state, item.code, with_job)
        )
        under_way = (
            select(func.coalesce(func.sum(shard.c.patches_done), 0))
            .join(backfill_item, item.job_id == shard.c.job_id)
            .where(_of(backfill_id, ItemState.SUBMITTED))
        )
        with self._db.read() as connection:
            rows, patches = connection.execute(counts).all(), int(connection.execute(under_way).scalar_one())
        by_state = {state: sum(row.n for row in rows if row.state == state) for state in ItemState}
        return Tally(
            found=sum(by_state.values()),
            submitted=sum(row.n for row in rows if row.job and row.state != ItemState.KNOWN),
            waiting=by_state[ItemState.WAITING],
            running=by_state[ItemState.SUBMITTED],
            done=by_state[ItemState.DONE],
            known=by_state[ItemState.KNOWN],
            skipped=_by_code(rows, ItemState.SKIPPED),
            failed=_by_code(rows, ItemState.FAILED),
            patches=patches + sum(row[4] for row in rows),
        )

    def items(self, backfill_id: str, state: ItemState) -> Iterator[Item]:
        """Yield the series in a state, as they were found; never more than a thousand in memory."""
        last = 0
        while True:
            query = _items().where(_of(backfill_id, state), backfill_item.c.serial > last)
            with self._db.read() as connection:
                found = connection.execute(query.order_by(backfill_item.c.serial).limit(_A_READ)).all()
            if not found:
                return
            yield from map(_item, found)
            last = found[-1].serial

    def known(self, backfill_id: str, series: Iterable[tuple[str, str]]) -> int:
        """Return how many of these (study UID, series UID) the backfill has found before."""
        pairs = [and_(backfill_item.c.study_uid == one, backfill_item.c.series_uid == other) for one, other in series]
        query = select(func.count()).select_from(backfill_item).where(backfill_item.c.backfill_id == backfill_id)
        with self._db.read() as connection:
            return sum(
                int(connection.execute(query.where(or_(*pairs[at : at + 100]))).scalar_one())
                for at in range(0, len(pairs), 100)
            )


def _of(backfill_id: str, state: ItemState) -> ColumnElement[bool]:
    return and_(backfill_item.c.backfill_id == backfill_id, backfill_item.c.state == state)


def _items() -> Any:
    return select(*(backfill_item.c[name] for name in Item.__slots__))


def _item(row: Row[Any]) -> Item:
    return Item(row.serial, row.study_uid, row.series_uid, ItemState(row.state), row.code, row.job_id)


def _record(row: Row[Any]) -> BackfillRecord:
    cursor = Cursor(row.first_day, row.last_day, row.seen, row.page, row.listed)
    return BackfillRecord(row.id, dict(row.wanted), cursor, row.created_at)


def _row(backfill_id: str, series: tuple[str, str, str]) -> dict[str, Any]:
    study_uid, series_uid, code = series
    state = ItemState.SKIPPED if code else ItemState.WAITING
    return {
        "backfill_id": backfill_id, "study_uid": study_uid, "series_uid": series_uid, "state": state, "code": code,
        "job_id": "", "patches": 0,
    }  # fmt: skip


def _by_code(rows: Iterable[Row[Any]], state: ItemState) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        if row.state == state:
            found[row.code] = found.get(row.code, 0) + row.n
    return dict(sorted(found.items()))


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
