"""Brings the tables of a ledger up to date: a fresh one when it is opened, an older one when somebody says so."""

import threading
from functools import cache

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from models.domain.errors import LedgerError, LedgerOutdated

_ONE_AT_A_TIME = threading.Lock()  # Alembic keeps its context in module globals
_ADVISORY_LOCK = 0x511DE  # any number, as long as every Slidewire uses the same one


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "worker.ledger:migrations")
    return config


@cache
def known() -> tuple[str, ...]:
    """Return the revisions that this version knows, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def revision_of(connection: Connection) -> str | None:
    """Return the revision of the tables that are there; None if there are none."""
    return MigrationContext.configure(connection).get_current_revision()


def check(found: str | None) -> None:
    """See that a revision, or none, is one that this version works with.

    Raises
    ------
    LedgerOutdated
        It is an older one.
    LedgerError
        It is a newer one.
    """
    if found not in {None, *known()}:
        raise LedgerError(
            "The ledger has tables this version does not know: a newer Slidewire wrote it, so use that one."
        )
    if found not in {None, known()[0]}:
        raise LedgerOutdated(
            f"The ledger was written by an older Slidewire (revision {found}, this one needs {known()[0]}): "
            "back it up, then run `slidewire ledger migrate`; workers that run meanwhile go on."
        )


def upgrade(connection: Connection, *, fresh: bool) -> str | None:
    """Run the missing revisions inside the transaction of `connection`.

    Of several processes that do so together the first one works and the others wait: SQLite's BEGIN IMMEDIATE has seen
    to that already, PostgreSQL does it here by an advisory lock.

    Parameters
    ----------
    connection : Connection
    fresh : bool
        Only make the tables of a ledger that has none.

    Returns
    -------
    str or None
        The revision before.

    Raises
    ------
    LedgerOutdated
        There are older tables, and only fresh ones were to be made.
    LedgerError
        A newer Slidewire wrote this ledger.
    """
    if connection.dialect.name == "postgresql":
        # However long the first one takes; what the revisions themselves wait for is limited as ever.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
        connection.execute(text("SET LOCAL lock_timeout TO DEFAULT"))
    before = revision_of(connection)
    try:
        check(before)
    except LedgerOutdated:
        if fresh:
            raise
    config = _config()
    config.attributes["connection"] = connection
    with _ONE_AT_A_TIME:
        command.upgrade(config, "head")
    return before
