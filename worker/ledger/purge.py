"""Removes checkpoints that nobody will ask for: of jobs that ended long ago, and files that are in no row."""

import string
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import delete, select

from models.domain.errors import LedgerUnavailable
from worker.ledger import transitions
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.records import PurgeReport
from worker.ledger.schema import checkpoint, job, shard

_STRAY_S = 86400.0  # a file that nobody has written to for so long is in nobody's hands
_ID_LENGTH = 32


def purge(db: Database, folder: Path, older_than_s: float) -> PurgeReport:
    """Forget the checkpoints of jobs that ended `older_than_s` seconds ago or before, and remove stray files of a day.

    A job that is purged can still be tried again: it begins at its first patch. What belongs to an open job is never
    touched, nor is anything in the folder that is not named like a job.

    Parameters
    ----------
    db : Database
    folder : Path
        Of the checkpoints; of this ledger and no other.
    older_than_s : float

    Raises
    ------
    LedgerUnavailable
        The database does not answer, or a file cannot be removed.
    """
    forgotten = [job_id for job_id in _ended(db, older_than_s) if _forget(db, job_id)]
    files = [path for job_id in forgotten for path in _files(folder / job_id)] + list(_strays(db, folder))
    try:
        freed = sum(_remove(path) for path in dict.fromkeys(files))
        for place in {path.parent for path in files}:
            if not any(place.iterdir()):
                place.rmdir()
    except OSError as exc:
        raise LedgerUnavailable(f"A checkpoint cannot be removed ({exc.strerror}): is its folder writable?") from exc
    return PurgeReport(len(forgotten), len(files), freed)


def _ended(db: Database, older_than_s: float) -> list[str]:
    ended = job.c.state.not_in(transitions.OPEN_JOBS), job.c.updated_at < NOW - older_than_s
    with_some = select(shard.c.job_id).join(checkpoint, checkpoint.c.shard_id == shard.c.id)
    query = select(job.c.id).where(*ended, job.c.id.in_(with_some)).order_by(job.c.serial)
    with db.read() as connection:
        return list(connection.execute(query).scalars())


def _forget(db: Database, job_id: str) -> bool:
    """Delete a job's rows; False if somebody has opened it again."""
    with db.write("purge") as connection:
        locked = transitions.lock_job(connection, job_id)
        if locked is None or locked.state in transitions.OPEN_JOBS:
            return False
        of_job = select(shard.c.id).where(shard.c.job_id == job_id)
        connection.execute(delete(checkpoint).where(checkpoint.c.shard_id.in_(of_job)))
        return True


def _strays(db: Database, folder: Path) -> Iterator[Path]:
    """Yield the files that no row names, and nobody has written to for a day; not those of open jobs."""
    for place in _places(folder):
        old = [path for path in _files(place) if time.time() - path.stat().st_mtime > _STRAY_S]
        known = _known(db, place.name) if old else None
        yield from (path for path in old if known is not None and path.name not in known)


def _known(db: Database, job_id: str) -> set[str] | None:
    """Return the names of a job's files that are in the ledger; None if the job is open."""
    names = select(checkpoint.c.name).join(shard, shard.c.id == checkpoint.c.shard_id).where(shard.c.job_id == job_id)
    with db.read() as connection:
        state = connection.execute(select(job.c.state).where(job.c.id == job_id)).scalar_one_or_none()
        return None if state in transitions.OPEN_JOBS else set(connection.execute(names).scalars())


def _places(folder: Path) -> list[Path]:
    """Return the folders of jobs."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_dir() and len(path.name) == _ID_LENGTH and set(path.name) <= set(string.hexdigits)
    ]


def _files(place: Path) -> list[Path]:
    return [path for path in sorted(place.iterdir()) if path.is_file()] if place.is_dir() else []


def _remove(path: Path) -> int:
    size = path.stat().st_size
    path.unlink()
    return size
