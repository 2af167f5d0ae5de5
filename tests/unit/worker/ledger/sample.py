"""Small jobs, and ways to move a ledger's time without waiting."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select, update

from models.domain.patch import Rows
from worker.ledger import JobRecord, Lane, Lease, Ledger, NewJob
from worker.ledger.schema import attempt, shard

ROOT = Path(__file__).parents[4]


def new_job(key: str = "job", shards: int = 2, lane: Lane = Lane.STANDARD, endpoint: str = "") -> NewJob:
    """Return a job of `shards` shards of ten patches each."""
    ranges = tuple((10 * index, 10 * index + 10) for index in range(shards))
    return NewJob(key, f"result-{key}", "pixel-grid", lane, {"key": key}, b"plan", 10 * shards, ranges, endpoint)


def submit(
    ledger: Ledger, key: str = "job", shards: int = 2, lane: Lane = Lane.STANDARD, endpoint: str = ""
) -> JobRecord:
    """Queue such a job."""
    return ledger.jobs.submit(new_job(key, shards, lane, endpoint)).job


def claim(ledger: Ledger, job_id: str | None = None) -> Lease:
    """Lease the next shard, of one job if that is given; it must be there."""
    lease = ledger.shards.claim("worker", job_id)
    assert lease is not None
    return lease


def finish(ledger: Ledger, lease: Lease) -> None:
    """Do the work of a lease as a worker would."""
    if lease.kind == "publish":
        ledger.shards.publish(lease, ())
        return
    ledger.checkpoints.save(lease, 0, 1, rows_of(lease))
    ledger.shards.complete(lease)


def rows_of(lease: Lease) -> Rows:
    """Return recognisable embeddings for the patches of a shard."""
    return Rows(np.arange(lease.start * 3, lease.stop * 3, dtype=np.float32).reshape(-1, 3))


def run_out(ledger: Ledger, lease: Lease) -> None:
    """Let the lease be over, as if its worker had been dead for a minute."""
    _set(ledger, lease.shard_id, lease_until=ledger._db.now - 1.0)


def make_due(ledger: Ledger, shard_id: str) -> None:
    """Let the wait of a shard be over."""
    _set(ledger, shard_id, not_before=0.0)


def shard_row(ledger: Ledger, shard_id: str) -> Any:
    """Return the shard as it is stored."""
    with ledger._db.read() as connection:
        return connection.execute(select(shard).where(shard.c.id == shard_id)).one()


def shard_rows(ledger: Ledger, job_id: str) -> list[Any]:
    """Return the shards of a job in order."""
    with ledger._db.read() as connection:
        return list(connection.execute(select(shard).where(shard.c.job_id == job_id).order_by(shard.c.idx)))


def events(ledger: Ledger, shard_id: str) -> list[tuple[int, str, str]]:
    """Return epoch, event and code of what happened to a shard."""
    query = select(attempt.c.epoch, attempt.c.event, attempt.c.code).where(attempt.c.shard_id == shard_id)
    with ledger._db.read() as connection:
        return [tuple(row) for row in connection.execute(query.order_by(attempt.c.id))]


def together(*jobs: Callable[[], object]) -> list[Any]:
    """Run the callables in threads that begin at the same moment; return what they return or raise."""
    barrier = threading.Barrier(len(jobs))
    results: list[Any] = [None] * len(jobs)

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = jobs[index]()
        except Exception as exc:  # noqa: BLE001 - handed to the test
            results[index] = exc

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def processes(count: int, script: str, *arguments: str) -> list[str]:
    """Run a script in `count` processes at once; return what they print."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in range(count)
    ]  # fmt: skip
    outputs = []
    for process in running:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        outputs.append(output)
    return outputs


def _set(ledger: Ledger, shard_id: str, **values: object) -> None:
    with ledger._db.write() as connection:
        connection.execute(update(shard).where(shard.c.id == shard_id).values(**values))
