"""Fault 24: the ledger's database is locked, killed, restarted, cut off, while workers run."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from models.domain.errors import LedgerUnavailable
from tests.faults.conftest import Fault as Record
from tests.faults.invariants import assert_sound, digests
from tests.services.command import Running, Slidewire
from tests.services.ports import wait_until
from tests.services.postgresql import PostgresServer, running_postgresql
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess
from tests.unit.worker.ledger.sample import claim, run_out, submit
from worker.ledger import Ledger

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--stride-px", "112", "--out", "out")
_SETTINGS = {
    "SLIDEWIRE_SHARD_PATCHES": "128", "SLIDEWIRE_BATCH_SIZE": "32", "SLIDEWIRE_CHECKPOINT_S": "0.001",
    "SLIDEWIRE_LEASE_S": "4",
}  # fmt: skip


@pytest.fixture(scope="module")
def golden(cmu_slide: SlideOnDisk, warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Embed without trouble; give the digests of what came out."""
    quiet = Slidewire(tmp_path_factory.mktemp("golden"), warm, dict(_SETTINGS))
    return digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT).json["job"]])[0]


@pytest.fixture
def own_postgresql(slidewire: Slidewire) -> Iterator[PostgresServer]:
    """Run a PostgreSQL of the test's own, to be killed at will, as the command's ledger; commits are on disk."""
    with running_postgresql(durable=True) as server:
        slidewire.environment["SLIDEWIRE_LEDGER_URL"] = server.create_database()
        yield server


def _begun(slidewire: Slidewire, slide: SlideOnDisk, workers: int, *armed: str) -> tuple[str, list[Running]]:
    """Submit a job, start slow workers, wait for the first checkpoint."""
    slidewire.environment |= _SETTINGS
    job = str(slidewire.done("submit", slide.folder, *_WHAT).json["job"])
    running = [slidewire.start("worker", armed=["slow=:0.15", *armed]) for _ in range(workers)]
    wait_until(lambda: bool(slidewire.rows("SELECT 1 FROM checkpoint")), "a checkpoint")
    return job, running


def _noticed(workers: list[Running]) -> None:
    """Wait until every worker has found the ledger away, and lives."""
    wait_until(lambda: all("does not answer" in worker.log for worker in workers), "the workers to notice", 60.0)
    assert all(worker.process.poll() is None for worker in workers)


def _goes_on(slidewire: Slidewire, job: str, workers: list[Running], golden: tuple[str, ...]) -> None:
    def ended() -> bool:
        with slidewire.ledger() as connection:  # the waits are over
            connection.exec_driver_sql("UPDATE shard SET not_before = 0 WHERE state = 'pending'")
            connection.commit()
        return bool(slidewire.rows("SELECT state FROM job") == [("succeeded",)])

    wait_until(ended, "the job to succeed", 90.0)
    assert all(worker.terminate() == 0 for worker in workers), workers[0].log
    assert_sound(slidewire, {job: golden})
    assert slidewire.rows("SELECT sum(crashes) FROM shard") == [(0,)], "no worker died, and one was counted as dead"


@pytest.mark.faults
def test_sqlite_locked_for_longer_than_anybody_waits(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record
) -> None:
    """Another program holds the file beyond patience and lease: the worker lives on, and its shard is still its own."""
    fault.is_number(24, "SQLite locked beyond patience and lease", "BEGIN IMMEDIATE of another process")
    job, workers = _begun(slidewire, cmu_slide, 1, "busy=:0.3")
    path = Path(slidewire.environment["SLIDEWIRE_STATE_FOLDER"]) / "ledger.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30.0)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        fault.strikes()
        _noticed(workers)
        over = "SELECT 1 FROM shard WHERE state = 'leased' AND lease_until < strftime('%s', 'now')"
        wait_until(lambda: bool(slidewire.rows(over)), "the lease to run out")
        holder.execute("ROLLBACK")
    _goes_on(slidewire, job, workers, golden)
    fault.is_over()
    assert slidewire.rows("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.faults
@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_postgresql_goes_away_and_comes_back(
    slidewire: Slidewire,
    own_postgresql: PostgresServer,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    fault: Record,
    how: str,
) -> None:
    """Killed as in a power cut, or failed over: two workers live on and go on, nothing is claimed twice."""
    fault.is_number(24, f"PostgreSQL {how} under two workers", "SIGKILL" if how == "killed" else "fast shutdown")
    job, workers = _begun(slidewire, cmu_slide, 2)
    if how == "killed":
        own_postgresql.kill()
    else:
        own_postgresql.stop()
    fault.strikes()
    _noticed(workers)
    own_postgresql.start()
    _goes_on(slidewire, job, workers, golden)
    fault.is_over()


@pytest.mark.faults
def test_connections_are_ended_again_and_again(
    slidewire: Slidewire, postgresql_url: str, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record
) -> None:
    """`pg_terminate_backend` on every session, wherever each is in its transaction: no double claim, same bytes."""
    fault.is_number(24, "PostgreSQL: sessions ended", "pg_terminate_backend, thirty rounds, two workers")
    slidewire.environment["SLIDEWIRE_LEDGER_URL"] = postgresql_url
    job, workers = _begun(slidewire, cmu_slide, 2)
    others = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    ended = rounds = 0
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        while rounds < 30 or (ended <= 10 and rounds < 300):  # on a busy machine they connect again more slowly
            rounds += 1
            row = connection.execute(others).fetchone()
            assert row is not None
            ended += int(row[0])
            fault.strikes()
            connection.execute("SELECT pg_sleep(0.05)")
    assert ended > 10, "hardly anybody was connected"
    _goes_on(slidewire, job, workers, golden)
    fault.is_over()
    fault.times = ended


@pytest.mark.faults
def test_a_transaction_that_is_cut_off_changes_nothing(fault: Record, tmp_path: Path) -> None:
    """PostgreSQL killed inside each kind of write: after its restart none of it is there, and the claim is free."""
    fault.is_number(24, "PostgreSQL killed inside a transaction", "SIGKILL between statement and commit")
    with running_postgresql(durable=True) as server, Ledger(server.create_database(), tmp_path / "kept") as ledger:
        job = submit(ledger)

        def cut_off() -> None:
            with ledger._db.write("claim") as connection:
                connection.exec_driver_sql("UPDATE shard SET state = 'leased', epoch = epoch + 1, owner = 'nobody'")
                server.kill()
                fault.strikes()

        with pytest.raises(LedgerUnavailable):
            cut_off()
        server.start()
        assert ledger._db.failed_within(60.0)
        lease = claim(ledger, job.id)
        fault.is_over()
        assert lease.epoch == 1
        assert claim(ledger, job.id).shard_id != lease.shard_id


@pytest.mark.parametrize("before", ["an outage", "nothing"])
def test_nobody_is_taken_for_dead_while_nobody_could_say_that_he_lives(
    tmp_path: Path, fault: Record, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """After an outage the reaper gives the living some seconds to renew their leases; without one it does not wait."""
    fault.is_number(24, "SQLite locked: the reaper after it", "BEGIN IMMEDIATE of another connection")
    monkeypatch.setattr("worker.ledger.database._BUSY_S", 0.05)
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", tmp_path / "kept") as ledger:
        lease = claim(ledger, submit(ledger, shards=1).id)
        run_out(ledger, lease)
        fault.strikes()
        if before == "an outage":
            with closing(sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)) as holder:
                holder.execute("BEGIN IMMEDIATE")
                with pytest.raises(LedgerUnavailable):
                    ledger.shards.heartbeat(lease, 0)
        assert ledger.shards.reap().expired == (before == "nothing")
        if before == "an outage":
            ledger.shards.heartbeat(lease, 0)
            monkeypatch.setattr("worker.ledger.reaper._CALM_S", 0.0)
            assert ledger.shards.reap().expired == 0
        fault.is_over()
