"""Brings the tables of a ledger up to date when it is opened."""

import threading

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from models.domain.errors import LedgerError

_ONE_AT_A_TIME = threading.Lock()  # Alembic keeps its context in module globals
_ADVISORY_LOCK = 0x511DE  # any number, as long as every Slidewire uses the same one


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "worker.ledger:migrations")
    return config


def is_current(connection: Connection) -> bool:
    """Return whether the tables are those that this version of the code expects."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return MigrationContext.configure(connection).get_current_revision() == head


def upgrade(connection: Connection) -> None:
    """Run the missing revisions inside the transaction of `connection`.

    Of several processes that open a fresh ledger together the first one works and the others wait: SQLite's
    BEGIN IMMEDIATE has seen to that already, PostgreSQL does it here by an advisory lock.

    Raises
    ------
    LedgerError
        A newer Slidewire wrote this ledger.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADVISORY_LOCK})
    config = _config()
    config.attributes["connection"] = connection
    with _ONE_AT_A_TIME:
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            raise LedgerError(
                "The ledger has tables this version does not know: a newer Slidewire wrote it, so use that one."
            ) from exc
