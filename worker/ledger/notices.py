"""Notices: what the webhook is still to be told of jobs that ended and of slides that are late."""

from dataclasses import dataclass
from typing import Any, Literal
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import Connection, Select, Table, func, select, update

from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.schema import arrival, job

Kind = Literal["job", "arrival"]

_TABLES: dict[Kind, Table] = {"job": job, "arrival": arrival}
_COMMON = ("state", "endpoint", "updated_at", "notice_tries")
_OF_JOB = (*_COMMON, "id", "encoder", "lane", "patches", "holes", "error_code", "error_message")
_OF_ARRIVAL = (*_COMMON, "serial", "code", "rule", "first_at", "study_uid", "series_uid", "job_id")


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told.

    Parameters
    ----------
    kind : {"job", "arrival"}
    serial : int
        Of the job or arrival.
    row : dict
        What the ledger knows of it, by column.
    tries : int
        How often it was taken, this time included.
    age_s : float
        Since what it tells of.
    """

    kind: Kind
    serial: int
    row: dict[str, Any]
    tries: int
    age_s: float

    @property
    def id(self) -> str:
        """Name of what it tells of: a job that is opened again and ends again is another thing to tell."""
        return str(uuid5(NAMESPACE_OID, f"{self.kind}/{self.serial}/{self.row['updated_at']!r}"))


class Notices:
    """The notices of one ledger; any number of processes may tell them, each is told by one at a time.

    Parameters
    ----------
    db : Database
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def take(self, lease_s: float) -> Notice | None:
        """Return the notice that has been due longest; nobody else gets it for as long as the lease."""
        with self._db.read() as connection:  # who finds nothing has kept no writer waiting
            if not any(connection.execute(_first(kind)).first() for kind in _TABLES):
                return None
        with self._db.write("notice.take") as connection:
            return next((found for kind in _TABLES if (found := _take(connection, kind, lease_s))), None)

    def sent(self, notice: Notice) -> None:
        """Note that it was told."""
        self._end(notice, "sent", 0.0)

    def give_up(self, notice: Notice) -> None:
        """Note that it will not be told any more."""
        self._end(notice, "given-up", 0.0)

    def later(self, notice: Notice, wait_s: float) -> None:
        """Let it wait for another try."""
        self._end(notice, "due", wait_s)

    def due(self) -> int:
        """Return how many have not been told yet."""
        with self._db.read() as connection:
            return sum(
                int(connection.execute(select(func.count()).where(table.c.notice == "due")).scalar_one())
                for table in _TABLES.values()
            )

    def _end(self, notice: Notice, state: str, wait_s: float) -> None:
        """Write how a try went; what has changed meanwhile is another notice, and stays as it is."""
        table = _TABLES[notice.kind]
        same = (
            table.c.serial == notice.serial,
            table.c.notice_tries == notice.tries,
            table.c.updated_at == notice.row["updated_at"],
        )
        with self._db.write("notice.end") as connection:
            connection.execute(update(table).where(*same).values(notice=state, notice_at=NOW + wait_s))


def _first(kind: Kind) -> Select[Any]:
    table = _TABLES[kind]
    due = (table.c.notice == "due", table.c.notice_at <= NOW)
    return select(table.c.serial).where(*due).order_by(table.c.notice_at).limit(1)


def _take(connection: Connection, kind: Kind, lease_s: float) -> Notice | None:
    table = _TABLES[kind]
    columns = [table.c[name] for name in (_OF_JOB if kind == "job" else _OF_ARRIVAL)]
    first = _first(kind).with_for_update(skip_locked=True).scalar_subquery()
    taking = (
        update(table)
        .where(table.c.serial == first)
        .values(notice_at=NOW + lease_s, notice_tries=table.c.notice_tries + 1)
        .returning(table.c.serial.label("taken"), NOW.label("now"), *columns)
    )
    found = connection.execute(taking).one_or_none()
    if found is None:
        return None
    row = {column.name: found._mapping[column.name] for column in columns}  # noqa: SLF001 - the documented way
    return Notice(kind, found.taken, row, row["notice_tries"], max(0.0, found.now - row["updated_at"]))
