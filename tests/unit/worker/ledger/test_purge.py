"""worker.ledger.purge: what is removed, and what never is."""

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import update

from models.domain.errors import AccessDenied, LedgerUnavailable, SourceError
from tests.unit.worker.ledger.sample import claim, finish, rows_of, submit
from worker.ledger import Lease, Ledger
from worker.ledger.schema import job

_DAY_S = 86400.0
_MONTH_S = 30 * _DAY_S


def _kept(ledger: Ledger, key: str) -> Lease:
    """Return the lease of a job's only shard, with a checkpoint of it."""
    submitted = submit(ledger, key, shards=1)
    lease = claim(ledger, submitted.id)
    ledger.checkpoints.save(lease, 0, 1, rows_of(lease))
    return lease


def _long_ago(ledger: Ledger, job_id: str, seconds: float) -> None:
    with ledger._db.write() as connection:
        connection.execute(update(job).where(job.c.id == job_id).values(updated_at=ledger._db.now - seconds))


def _folder(ledger: Ledger, job_id: str) -> Path:
    return ledger.checkpoints._folder / job_id


def _aged(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"left behind")
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.mark.parametrize("end", ["failed", "quarantined", "cancelled", "succeeded"])
def test_checkpoints_of_jobs_that_ended_long_ago_are_removed(ledger: Ledger, end: str) -> None:
    """Rows, files and folder; once, and not a day too early. Tried again, the job begins anew and ends."""
    lease = _kept(ledger, "old")
    if end == "failed":
        ledger.shards.fail(lease, SourceError("No."))
    elif end == "cancelled":
        ledger.jobs.cancel(lease.job_id)
        ledger.shards.release(lease)
    else:
        ledger.shards.complete(lease)
        ledger.shards.publish(claim(ledger, lease.job_id), ())
        with ledger._db.write() as connection:  # a worker that died before it could discard them
            connection.execute(update(job).where(job.c.id == lease.job_id).values(state=end))
    [path] = _folder(ledger, lease.job_id).iterdir()
    size = path.stat().st_size
    _long_ago(ledger, lease.job_id, _MONTH_S - _DAY_S)
    assert ledger.checkpoints.purge(_MONTH_S).jobs == 0
    assert len(ledger.checkpoints.load(lease.job_id)) == 1
    _long_ago(ledger, lease.job_id, _MONTH_S + _DAY_S)
    done = ledger.checkpoints.purge(_MONTH_S)
    assert (done.jobs, done.files, done.freed_bytes) == (1, 1, size)
    assert not _folder(ledger, lease.job_id).exists()
    assert ledger.checkpoints.load(lease.job_id) == []
    again = ledger.checkpoints.purge(_MONTH_S)
    assert (again.jobs, again.files, again.freed_bytes) == (0, 0, 0)
    ledger.jobs.reopen(lease.job_id)
    while (next_lease := ledger.shards.claim("worker", lease.job_id)) is not None:
        finish(ledger, next_lease)
    assert ledger.jobs.get(lease.job_id).state == "succeeded"


def test_open_jobs_keep_everything(ledger: Ledger) -> None:
    """However old: a job that waits, one that is worked on, one that was opened again; also files without a row."""
    waiting, running, reopened = (_kept(ledger, key) for key in ("waiting", "running", "reopened"))
    ledger.shards.fail(waiting, AccessDenied("Later."))
    ledger.shards.fail(reopened, SourceError("No."))
    ledger.jobs.reopen(reopened.job_id)
    leases = (waiting, running, reopened)
    for lease in leases:
        _long_ago(ledger, lease.job_id, 2 * _MONTH_S)
        _aged(_folder(ledger, lease.job_id) / ".part-x", 2 * _MONTH_S)
        _aged(next(_folder(ledger, lease.job_id).glob("*.npy")), 2 * _MONTH_S)
    done = ledger.checkpoints.purge(0.0)
    assert (done.jobs, done.files) == (0, 0)
    assert all(len(ledger.checkpoints.load(lease.job_id)) == 1 for lease in leases)
    assert all((_folder(ledger, lease.job_id) / ".part-x").exists() for lease in leases)


def test_strays_are_removed_after_a_day(ledger: Ledger) -> None:
    """Files of jobs that the ledger does not know, and half files beside good ones; fresh ones and others' stay."""
    lease = _kept(ledger, "ended")
    ledger.shards.fail(lease, SourceError("No."))
    good = _aged(next(_folder(ledger, lease.job_id).glob("*.npy")), 2 * _DAY_S)
    strays = [
        _aged(_folder(ledger, "0" * 32) / "00000-000000-1-0123456789abcdef.npy", 2 * _DAY_S),
        _aged(_folder(ledger, lease.job_id) / ".part-abc", 2 * _DAY_S),
    ]
    others = [
        _aged(_folder(ledger, "1" * 32) / "fresh.npy", _DAY_S / 2),
        _aged(_folder(ledger, "not-a-job") / "notes.txt", 9 * _DAY_S),
        _aged(_folder(ledger, "g" * 32) / "notes.txt", 9 * _DAY_S),
        _aged(ledger.checkpoints._folder / "readme", 9 * _DAY_S),
    ]
    done = ledger.checkpoints.purge(_MONTH_S)
    assert (done.jobs, done.files, done.freed_bytes) == (0, 2, 2 * len(b"left behind"))
    assert not any(path.exists() for path in strays)
    assert not _folder(ledger, "0" * 32).exists()
    assert all(path.exists() for path in [good, *others])
    assert len(ledger.checkpoints.load(lease.job_id)) == 1


def test_nothing_to_purge(ledger: Ledger) -> None:
    """A ledger that never kept anything has no folder, and needs none."""
    done = ledger.checkpoints.purge(0.0)
    assert (done.jobs, done.files, done.freed_bytes) == (0, 0, 0)


def test_a_file_that_cannot_be_removed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and another purge finds the file again."""

    def read_only(path: Path) -> None:
        raise OSError(30, "Read-only file system")

    stray = _aged(_folder(ledger, "0" * 32) / "x.npy", 2 * _DAY_S)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", read_only)
        with pytest.raises(LedgerUnavailable, match="Read-only"):
            ledger.checkpoints.purge(0.0)
    assert stray.exists()
    assert ledger.checkpoints.purge(0.0).files == 1
