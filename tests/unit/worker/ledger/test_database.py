"""worker.ledger.database."""

import sqlite3
import stat
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from models.domain.errors import LedgerError, LedgerUnavailable, SettingsInvalid
from tests.services.ports import free_port
from tests.services.postgresql import PostgresServer
from tests.unit.worker.ledger.sample import processes, submit
from worker.ledger import Ledger
from worker.ledger.database import Database

_OPEN = """
import sys
from pathlib import Path
from worker.ledger import Ledger
with Ledger(sys.argv[1], Path(sys.argv[2])) as ledger:
    print(len(ledger.jobs.list(1)))
"""


def test_processes_that_open_a_fresh_ledger_together_do_not_collide(ledger_url: str, tmp_path: Path) -> None:
    """Four processes open the same empty database at once and each finds a ledger."""
    assert processes(4, _OPEN, ledger_url, str(tmp_path / "checkpoints")) == ["0\n"] * 4


def test_opening_again_keeps_the_jobs(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    """A ledger that is opened a second time holds what it held."""
    job = submit(ledger)
    with Ledger(ledger_url, tmp_path / "checkpoints") as again:
        assert again.jobs.get(job.id) == job


def test_a_transaction_that_raises_writes_nothing(ledger: Ledger) -> None:
    """An exception inside write() takes everything back."""
    submit(ledger)

    def write_and_raise() -> None:
        with ledger._db.write() as connection:
            connection.execute(text("UPDATE job SET holes = 7"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_raise()
    assert ledger.jobs.list(1)[0].holes == 0


def test_a_reader_does_not_wait_for_a_writer(ledger: Ledger) -> None:
    """While a write is open, readers see the state before it."""
    submit(ledger)
    with ledger._db.write() as connection:
        connection.execute(text("UPDATE job SET holes = 7"))
        assert ledger.jobs.list(1)[0].holes == 0
    assert ledger.jobs.list(1)[0].holes == 7


def test_the_clock_is_in_seconds_since_1970_and_moves_inside_a_transaction(ledger: Ledger) -> None:
    """The database's clock agrees with this host's, which it runs on, and is not that of the transaction's start."""
    with ledger._db.write() as connection:
        first = connection.scalar(ledger._db.now)
        assert first == pytest.approx(time.time(), abs=5.0)
        while connection.scalar(ledger._db.now) == first:
            pass


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_way_to_write_a_postgresql_url_is_understood(scheme: str, postgresql_url: str) -> None:
    """The three schemes in use open the same database."""
    database = Database(postgresql_url.replace("postgresql", scheme, 1))
    assert database._url.drivername == "postgresql+psycopg"
    database.close()


@pytest.mark.parametrize("url", ["", "ledger.db", "sqlite://", "sqlite:///:memory:", "mysql://u:secret@h/d"])
def test_other_urls_are_refused(url: str) -> None:
    """What is neither an SQLite file nor PostgreSQL is a wrong setting, named without the URL."""
    with pytest.raises(SettingsInvalid) as caught:
        Database(url)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable_and_its_password_stays_secret() -> None:
    """Nobody listens: a retryable error without the URL."""
    with pytest.raises(LedgerUnavailable) as caught:
        Database(f"postgresql://user:secret@127.0.0.1:{free_port()}/ledger")
    assert caught.value.retryable
    assert "secret" not in str(caught.value) + str(caught.value.__cause__)
    assert "127.0.0.1" not in str(caught.value)


def test_a_server_that_went_away_is_found_again(
    postgresql_server: PostgresServer, postgresql_url: str, tmp_path: Path
) -> None:
    """While PostgreSQL is down every call says so; once it is back the same ledger works, with what was in it."""
    with Ledger(postgresql_url, tmp_path) as ledger:
        job = submit(ledger)
        postgresql_server.kill()
        with pytest.raises(LedgerUnavailable):
            submit(ledger, "other")
        postgresql_server.start()
        assert ledger.jobs.list(5) == (job,)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """Text in the ledger's place is an error that no retry repairs."""
    path = tmp_path / "ledger.db"
    path.write_text("something else entirely, and long enough to be looked at as a header" * 20)
    with pytest.raises(LedgerError, match="no ledger") as caught:
        Database(f"sqlite:///{path}")
    assert not caught.value.retryable


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """A file where the folder should be is reported as the ledger's."""
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable):
        Database(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}")


def test_a_lock_that_is_not_released_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program holds the file: the writer gives up after its patience."""
    monkeypatch.setattr("worker.ledger.database._BUSY_S", 0.05)
    path = tmp_path / "ledger.db"
    with Ledger(f"sqlite:///{path}", tmp_path) as ledger:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="SQLITE_BUSY"):
            submit(ledger)
        other.close()
        submit(ledger)


def test_the_sqlite_file_is_durable_and_private(tmp_path: Path) -> None:
    """WAL, synchronous FULL, foreign keys; nobody but the owner reads it or its log."""
    path = tmp_path / "new" / "ledger.db"
    with Ledger(f"sqlite:///{path}", tmp_path) as ledger:
        submit(ledger)
        with ledger._db.read() as connection:
            pragmas = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
        assert pragmas == ["wal", 2, 1]
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
