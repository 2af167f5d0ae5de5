"""The connection to the ledger's database: SQLite for one host, PostgreSQL for a fleet."""

import math
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DisconnectionError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.functions import FunctionElement

from models.domain.errors import LedgerError, LedgerUnavailable, SettingsInvalid
from worker.killpoint import reach
from worker.ledger import migration
from worker.ledger.clock import NOW

_BUSY_S = 30.0  # how long a writer waits for another one
_MIGRATION_S = 600.0  # and one who migrates
_IDLE_S = 1.0  # after which a connection is tried before it is used
_WRITE = "slidewire_write"
_USED_AT = "slidewire_used_at"
_OPTIONS = {
    # A worker that is stopped inside a transaction must not hold up the rest of the fleet.
    "lock_timeout": f"{_BUSY_S:.0f}s",
    "idle_in_transaction_session_timeout": "60s",
}


class Database:
    """A ledger's database, opened; its tables are made if there are none.

    Parameters
    ----------
    url : str
        ``sqlite:///relative/or//absolute/path`` or ``postgresql://user:password@host/name``; ``postgres://`` and
        ``postgresql+psycopg://`` mean the same as the latter.
    as_it_is : bool
        Whatever its tables are, and without making any: to look at them, or to `migrate` them. Others are waited for
        longer, as they may be at the same.

    Attributes
    ----------
    now : FunctionElement of float
        The database's clock, in seconds since 1970; no other clock decides anything in the ledger.

    Raises
    ------
    SettingsInvalid
        The URL is of no known kind.
    LedgerUnavailable
        The database does not answer.
    LedgerOutdated
        An older Slidewire wrote it.
    LedgerError
        It is no ledger, or one of a newer Slidewire.
    """

    now: FunctionElement[float] = NOW

    def __init__(self, url: str, *, as_it_is: bool = False) -> None:
        self._url = _known_url(url)
        self._sqlite = self._url.get_backend_name() == "sqlite"
        busy_s = _MIGRATION_S if as_it_is else _BUSY_S
        self._engine = _sqlite_engine(self._url, busy_s) if self._sqlite else _postgresql_engine(self._url)
        self._writer = self._engine.execution_options(**{_WRITE: True})
        self._failed_at = -math.inf
        try:
            self._open(as_it_is=as_it_is)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self, name: str = "unnamed", *, at_once: bool = False) -> Iterator[Connection]:
        """Open one transaction that may write; it commits at the end of the block or changes nothing.

        On SQLite writers come one after the other (BEGIN IMMEDIATE).

        Parameters
        ----------
        name : str
            Of what is done: the kill points around the commit are called after it.
        at_once : bool
            PostgreSQL is to be sent one statement, which commits by itself and saves two journeys. Who is killed
            before that commits is killed before it is sent.
        """
        alone = at_once and not self._sqlite
        with self._translated(), (self._engine if alone else self._writer).begin() as connection:
            if alone:
                reach(f"{name}.before_commit")
            yield connection
            if not alone:
                reach(f"{name}.before_commit")
        reach(f"{name}.after_commit")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Only read; that never waits for a writer. Each statement sees what is committed by then."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    def failed_within(self, seconds: float) -> bool:
        """Whether the database did not answer this process, not long ago."""
        return time.monotonic() - self._failed_at < seconds

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._url.get_backend_name()

    def revision(self) -> str | None:
        """Return the revision of the tables; None if there are none."""
        with self.read() as connection:
            return migration.revision_of(connection)

    def migrate(self) -> tuple[str | None, str]:
        """Bring the tables up to date; of several processes one does and the others wait.

        Returns
        -------
        str or None, str
            The revision before, and the one since; the same if there was nothing to do.

        Raises
        ------
        LedgerError
            A newer Slidewire wrote them.
        """
        with self.write("migrate") as connection:
            return migration.upgrade(connection, fresh=False), migration.known()[0]

    def _open(self, *, as_it_is: bool) -> None:
        if self._sqlite:
            with self._translated():
                _create_private(Path(self._url.database or ""))
                _enter_wal(self._engine)
        if as_it_is:
            return
        found = self.revision()
        migration.check(found)
        if found is None:
            with self.write("migrate") as connection:
                migration.upgrade(connection, fresh=True)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn what the database libraries raise about the database (not about our SQL) into our errors."""
        name = "SQLite" if self._sqlite else "PostgreSQL"
        try:
            yield
        except (DatabaseError, InterfaceError, PoolTimeout, sqlite3.DatabaseError) as exc:
            if _does_not_answer(exc):
                self._failed_at = time.monotonic()
                raise LedgerUnavailable(
                    f"The ledger ({name}) does not answer ({_cause(exc)}): "
                    + (
                        "is its folder writable, its disk not full, and no other program holding the file?"
                        if self._sqlite
                        else "is the server up, and are its name, user and password right?"
                    )
                ) from exc
            if type(exc) not in {DatabaseError, sqlite3.DatabaseError}:
                raise  # IntegrityError, ProgrammingError: a bug of ours
            raise LedgerError(
                f"The ledger ({name}) is damaged or no ledger ({_cause(exc)}): restore it from a backup, "
                "or name another file."
            ) from exc


def _does_not_answer(exc: Exception) -> bool:
    if isinstance(exc, DatabaseError) and exc.connection_invalidated:
        return True  # PostgreSQL cut the connection, whatever it says, as after a worker stood still in a transaction
    return isinstance(exc, OperationalError | InterfaceError | PoolTimeout | sqlite3.OperationalError)


def _known_url(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        # Not `from`: whatever the library says about the text may hold the password in it.
        raise SettingsInvalid(
            "The ledger's URL cannot be read; write sqlite:///path or postgresql://user:password@host/name."
        ) from None
    if url.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername in {"sqlite", "sqlite+pysqlite"} and url.database not in {None, "", ":memory:"}:
        return url.set(drivername="sqlite+pysqlite")
    raise SettingsInvalid(
        "The ledger is neither an SQLite file nor a PostgreSQL database; "
        "write sqlite:///path or postgresql://user:password@host/name."
    )


def _postgresql_engine(url: URL) -> Engine:
    arguments: dict[str, Any] = {"connect_timeout": 10}
    if "options" not in url.query:
        arguments["options"] = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
    engine = create_engine(url, hide_parameters=True, connect_args=arguments, isolation_level="AUTOCOMMIT")
    event.listen(engine, "begin", _begin_postgresql)
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", partial(_ping_if_idle, engine.dialect))
    return engine


def _begin_postgresql(connection: Connection) -> None:
    # Each statement has a snapshot of its own anyway: a read needs no transaction, so the driver opens none by itself.
    if connection.get_execution_options().get(_WRITE, False):
        connection.exec_driver_sql("BEGIN")


def _note_use(connection: Any, record: ConnectionPoolEntry) -> None:  # noqa: ARG001
    record.info[_USED_AT] = time.monotonic()


def _ping_if_idle(dialect: Dialect, connection: Any, record: ConnectionPoolEntry, proxy: object) -> None:  # noqa: ARG001
    """See that a connection still is one, unless it was a moment ago: the server may have been restarted."""
    if time.monotonic() - record.info.get(_USED_AT, math.inf) < _IDLE_S:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as exc:
        raise DisconnectionError from exc


def _sqlite_engine(url: URL, busy_s: float) -> Engine:
    engine = create_engine(url, hide_parameters=True)
    event.listen(engine, "connect", partial(_configure_sqlite, busy_s))
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(busy_s: float, connection: Any, record: object) -> None:  # noqa: ARG001
    connection.isolation_level = None  # the driver opens no transaction by itself: `_begin_sqlite` does
    try:
        for setting in (f"busy_timeout = {busy_s * 1000:.0f}", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {setting}")
    except sqlite3.Error:
        connection.close()
        raise


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later cannot be promoted under WAL once another one wrote.
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _create_private(path: Path) -> None:
    """Create the file readable by its owner only (requests name slides); SQLite copies the mode to -wal and -shm."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as exc:
        raise LedgerUnavailable(
            f"The ledger's file cannot be opened ({exc.strerror}): is its folder writable and its disk not full?"
        ) from exc


def _enter_wal(engine: Engine) -> None:
    """Switch the file to write-ahead logging, for ever; busy_timeout does not cover this one statement."""
    deadline = time.monotonic() + _BUSY_S
    raw = engine.raw_connection()
    try:
        while True:
            try:
                raw.driver_connection.execute("PRAGMA journal_mode = WAL")  # type: ignore[union-attr]
            except sqlite3.OperationalError as exc:
                if time.monotonic() > deadline:
                    raise LedgerUnavailable("The ledger's file stays locked: is another program holding it?") from exc
                time.sleep(0.02)
            else:
                return
    finally:
        raw.close()


def _cause(exc: Exception) -> str:
    """Return a name for what happened; the driver's own text may name hosts, users and values."""
    origin = getattr(exc, "orig", None) or exc
    return str(getattr(origin, "sqlite_errorname", "") or type(origin).__name__)
