"""worker.ledger.migration: older ledgers are refused and migrated, newer ones refused, and running workers go on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Inspector, inspect, select

from models.domain.codes import ErrorCode
from models.domain.errors import LedgerError, LedgerOutdated
from tests.services.revisions import NEWER, bring_to, migrate_as_newer
from tests.unit.worker.ledger.sample import claim, finish, new_job, submit
from worker.ledger import Database, Jobs, Ledger, Remit, migration
from worker.ledger.schema import metadata, shard

_FIRST_ADDITIVE = "0005"


@contextmanager
def _as_it_is(url: str) -> Iterator[Database]:
    database = Database(url, as_it_is=True)
    try:
        yield database
    finally:
        database.close()


def test_the_migrations_build_exactly_the_schema(ledger: Ledger) -> None:
    """What the revisions create is what the code declares, column by column."""
    with ledger._db.write() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_every_older_ledger_is_refused_until_it_is_migrated(ledger_url: str, tmp_path: Path) -> None:
    """With the command that helps, from each revision there ever was; opening it changes nothing."""
    newest, *older = migration.known()
    for revision in reversed(older):
        bring_to(ledger_url, revision)
        with pytest.raises(LedgerOutdated, match="slidewire ledger migrate") as caught:
            Ledger(ledger_url, tmp_path)
        assert (caught.value.code, caught.value.retryable) == (ErrorCode.LEDGER_OUTDATED, False)
        with _as_it_is(ledger_url) as database:
            assert database.revision() == revision
    with _as_it_is(ledger_url) as database:
        assert database.migrate() == (older[0], newest)
        assert database.migrate() == (newest, newest)
    with Ledger(ledger_url, tmp_path) as ledger:
        submit(ledger)


def test_a_ledger_of_a_newer_slidewire_is_refused(ledger: Ledger, ledger_url: str, tmp_path: Path) -> None:
    """A revision the code does not know is an error that says so, also for who would migrate it."""
    submit(ledger)
    migrate_as_newer(ledger_url, tmp_path / "newer")
    with pytest.raises(LedgerError, match="newer Slidewire") as caught:
        Database(ledger_url)
    assert caught.value.code == ErrorCode.LEDGER_INVALID
    with _as_it_is(ledger_url) as database:
        with pytest.raises(LedgerError, match="newer Slidewire"):
            database.migrate()
        assert database.revision() == NEWER
        assert Jobs(database).counts() == {"queued": 1}


def test_who_is_at_work_goes_on_while_a_newer_slidewire_migrates(
    ledger: Ledger, ledger_url: str, tmp_path: Path
) -> None:
    """A ledger that was open before takes every step of a job after: connections, statements and all."""
    job = submit(ledger, shards=3)
    for _ in range(6):  # PostgreSQL's driver has prepared the statements by then
        ledger.shards.release(claim(ledger))
    first = claim(ledger)
    migrate_as_newer(ledger_url, tmp_path / "newer")
    finish(ledger, first)
    assert submit(ledger, "later").state == "queued"
    while (lease := ledger.shards.claim("worker", job.id)) is not None:
        ledger.shards.heartbeat(lease, 1, "embedding")
        finish(ledger, lease)
    assert ledger.jobs.get(job.id).state == "succeeded"
    assert ledger.shards.reap().expired == 0


def test_who_migrates_while_another_does_waits(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For longer than for any other lock, and then finds nothing left to do."""
    newest, *older = migration.known()
    bring_to(ledger_url, older[-1])
    monkeypatch.setattr("worker.ledger.database._BUSY_S", 0.05)
    impatient = f"{ledger_url}?options=-c%20lock_timeout%3D50ms" if "postgresql" in ledger_url else ledger_url
    said: list[tuple[str | None, str]] = []
    with _as_it_is(ledger_url) as first, _as_it_is(impatient) as second:
        other = threading.Thread(target=lambda: said.append(second.migrate()))
        with first.write() as connection:
            assert migration.upgrade(connection, fresh=False) == older[-1]
            other.start()
            other.join(0.3)
            assert other.is_alive()
        other.join()
    assert said == [(newest, newest)]


def test_only_looking_makes_no_tables(ledger_url: str) -> None:
    """An empty database stays so until it is used, or migrated."""
    with _as_it_is(ledger_url) as database:
        assert database.revision() is None
        with database.read() as connection:
            assert inspect(connection).get_table_names() == []
        assert database.migrate() == (None, migration.known()[0])


def test_jobs_that_wait_are_found_by_encoder_after_the_migration(ledger: Ledger, ledger_url: str) -> None:
    """Those that an older Slidewire queued have a queue then: of their encoder, at their endpoint."""
    wanted = ledger.jobs.submit(replace(new_job("a", 2, endpoint="pacs"), encoder="uni")).job
    submit(ledger, "b")
    with ledger._db.write() as connection:  # back to what revision 0005 was
        connection.exec_driver_sql("DROP INDEX ix_shard_queue")
        connection.exec_driver_sql("ALTER TABLE shard DROP COLUMN queue")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0005'")
    ledger.close()
    with _as_it_is(ledger_url) as database:
        database.migrate()
        with database.read() as connection:
            names = set(connection.execute(select(shard.c.queue)).scalars())
        assert names == {"uni pacs", "pixel-grid "}
    leases = [ledger.shards.claim("worker", remit=Remit(encoders=("uni",))) for _ in range(3)]
    assert [lease and lease.job_id for lease in leases] == [wanted.id, wanted.id, None]


def _shape(inspector: Inspector, table: str) -> dict[str, Any]:
    """Return what an older version relies on in a table."""
    uniques = inspector.get_unique_constraints(table)
    keys = inspector.get_foreign_keys(table)
    return {
        "columns": {column["name"]: column for column in inspector.get_columns(table)},
        "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
        "unique": sorted(one["column_names"] for one in uniques),
        "refers to": sorted((one["constrained_columns"], one["referred_table"]) for one in keys),
        "indexes": {one["name"] for one in inspector.get_indexes(table)},
    }


def _tables(url: str) -> dict[str, dict[str, Any]]:
    with _as_it_is(url) as database, database.read() as connection:
        inspector = inspect(connection)
        return {table: _shape(inspector, table) for table in inspector.get_table_names()}


def test_revisions_only_add(ledger_url: str) -> None:
    """The rule of `migrations/env.py`: whatever an older version reads and writes stays possible."""
    bring_to(ledger_url, migration.known()[migration.known().index(_FIRST_ADDITIVE) + 1])
    before = _tables(ledger_url)
    for revision in reversed(migration.known()[: migration.known().index(_FIRST_ADDITIVE) + 1]):
        bring_to(ledger_url, revision)
        after = _tables(ledger_url)
        for table, was in before.items():
            now = after[table]
            for name, column in was["columns"].items():
                kept = now["columns"][name]
                assert (str(kept["type"]), kept["nullable"]) == (str(column["type"]), column["nullable"]), (table, name)
            for name in now["columns"].keys() - was["columns"].keys():
                added = now["columns"][name]
                assert added["nullable"] or added["default"] is not None, (revision, table, name)
            for what in ("primary key", "unique", "refers to"):
                assert now[what] == was[what], (revision, table, what)
            assert was["indexes"] <= now["indexes"], (revision, table)
        before = after
