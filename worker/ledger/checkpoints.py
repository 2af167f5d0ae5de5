"""Embeddings that are safe on disk before the slide is finished, so that a killed worker loses little.

The files are NumPy's .npy (float32, row by row; behind it, if the encoder marks what fell back, the marks, bool), one
folder a job, readable by their owner only. A row in the ledger
comes after its file is on disk for good; a file without a row is ignored, a row without a good file is dropped.
"""

import hashlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from sqlalchemy import Connection, Row, delete, insert, or_, select

from models.domain.errors import EmbeddingInvalid, LedgerError, LedgerUnavailable
from models.domain.job import JobState
from models.domain.patch import Rows
from worker.killpoint import reach
from worker.ledger import transitions
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.purge import purge
from worker.ledger.records import Checkpoint, Lease, PurgeReport
from worker.ledger.schema import checkpoint, job, shard


class Checkpoints:
    """The checkpoints of one ledger.

    Parameters
    ----------
    db : Database
    folder : Path
        Where the files go; every host whose workers share the ledger should see the same one. A worker that does
        not computes again what it cannot read.
    """

    def __init__(self, db: Database, folder: Path) -> None:
        self._db = db
        self._folder = folder.absolute()

    def save(self, lease: Lease, first_batch: int, batches: int, rows: Rows) -> Checkpoint:
        """Keep the embeddings of `batches` batches from number `first_batch` (0-based) on.

        Saving the same batches again replaces them.

        Raises
        ------
        LeaseLost
            Somebody else has the shard now; the file is gone again.
        LedgerUnavailable
            The folder or the database does not take it.
        """
        if rows.matrix.dtype != np.float32 or rows.matrix.ndim != 2:
            raise EmbeddingInvalid(f"A checkpoint holds float32 (N, D), not {rows.matrix.dtype} {rows.matrix.shape}.")
        content = _encode(rows)
        digest = hashlib.sha256(content).hexdigest()
        # The epoch makes the name this lease's own: a worker that lost it removes no file of its successor.
        name = f"{lease.index:05d}-{first_batch:06d}-{lease.epoch}-{digest[:16]}.npy"
        path = self._folder / lease.job_id / name
        kept = Checkpoint(first_batch, batches, len(rows), digest, path)
        reach("checkpoint.before_file")
        _write_durably(path, content)
        reach("checkpoint.after_file")
        try:
            with self._db.write("checkpoint") as connection:
                transitions.update_leased(connection, lease, {})
                _insert(connection, lease, kept)
        except LedgerError:
            path.unlink(missing_ok=True)
            raise
        return kept

    def load(self, shard_or_job_id: str) -> list[tuple[Checkpoint, Rows]]:
        """Return what is kept of a shard, or of all shards of a job, in order of shards and batches.

        Every file is hashed again. One that is missing or has changed is dropped from the ledger and left out here,
        so its batches are computed once more: look for gaps.
        """
        query = (
            select(checkpoint, shard.c.job_id)
            .join(shard, shard.c.id == checkpoint.c.shard_id)
            .where(or_(shard.c.id == shard_or_job_id, shard.c.job_id == shard_or_job_id))
            .order_by(shard.c.idx, checkpoint.c.first_batch)
        )
        with self._db.read() as connection:
            rows = connection.execute(query).all()
        found = []
        for row in rows:
            path = self._folder / row.job_id / row.name
            rows_kept = _read_verified(path, row.sha256, row.patches)
            if rows_kept is None:
                self._drop(row)
            else:
                kept = Checkpoint(row.first_batch, row.batches, row.patches, row.sha256, path)
                found.append((kept, rows_kept))
        return found

    def discard(self, job_id: str) -> None:
        """Remove what is kept of a job; after its publication nobody needs it any more."""
        if job_id:
            shutil.rmtree(self._folder / job_id, ignore_errors=True)
        # The rows go last: as long as they are there, `discard_published` finds what a killed worker left.
        with self._db.write("discard") as connection:
            of_job = select(shard.c.id).where(shard.c.job_id == job_id)
            connection.execute(delete(checkpoint).where(checkpoint.c.shard_id.in_(of_job)))

    def discard_published(self) -> int:
        """Discard what is kept of jobs that succeeded, whose workers died before they could; return how many."""
        query = (
            select(shard.c.job_id)
            .join(checkpoint, checkpoint.c.shard_id == shard.c.id)
            .join(job, job.c.id == shard.c.job_id)
            .where(job.c.state == JobState.SUCCEEDED)
            .distinct()
        )
        with self._db.read() as connection:
            left = connection.execute(query).scalars().all()
        for job_id in left:
            self.discard(job_id)
        return len(left)

    def purge(self, older_than_s: float) -> PurgeReport:
        """Remove what nobody will ask for; see `worker.ledger.purge`."""
        return purge(self._db, self._folder, older_than_s)

    def _drop(self, row: Row[Any]) -> None:
        with self._db.write("drop") as connection:
            connection.execute(
                delete(checkpoint).where(
                    checkpoint.c.shard_id == row.shard_id,
                    checkpoint.c.first_batch == row.first_batch,
                    checkpoint.c.name == row.name,
                )
            )


def _insert(connection: Connection, lease: Lease, kept: Checkpoint) -> None:
    of_shard = checkpoint.c.shard_id == lease.shard_id
    stop = kept.first_batch + kept.batches
    connection.execute(
        delete(checkpoint).where(
            of_shard, checkpoint.c.first_batch == kept.first_batch, checkpoint.c.batches == kept.batches
        )
    )
    overlap = select(checkpoint.c.first_batch).where(
        of_shard,
        checkpoint.c.first_batch < stop,
        checkpoint.c.first_batch + checkpoint.c.batches > kept.first_batch,
    )
    if connection.execute(overlap.limit(1)).first() is not None:
        raise LedgerError(
            f"Batches {kept.first_batch} to {stop - 1} overlap a checkpoint of other batches: save whole ones."
        )
    connection.execute(
        insert(checkpoint).values(
            shard_id=lease.shard_id,
            first_batch=kept.first_batch,
            batches=kept.batches,
            patches=kept.patches,
            sha256=kept.sha256,
            name=kept.path.name,
            created_at=NOW,
        )
    )


def _encode(rows: Rows) -> bytes:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.ascontiguousarray(rows.matrix, dtype="<f4"), version=(1, 0), allow_pickle=False)
    if rows.fallbacks is not None:
        npy.write_array(buffer, rows.fallbacks, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _write_durably(path: Path, content: bytes) -> None:
    """Write all of the file or none of it, and have it on the disk when this returns."""
    temporary = None
    try:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".part-", dir=path.parent)  # mode 0600
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        for folder in (path.parent, path.parent.parent):
            _sync_folder(folder)
    except OSError as exc:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise LedgerUnavailable(
            f"The checkpoint folder does not take a checkpoint ({exc.strerror}): is it writable, its disk not full?"
        ) from exc


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_verified(path: Path, sha256: str, patches: int) -> Rows | None:
    """Return the rows, or None if the file is not the one that was written."""
    try:
        content = path.read_bytes()
    except OSError:  # missing, or on a disk that lost it
        return None
    if hashlib.sha256(content).hexdigest() != sha256:
        return None
    buffer = io.BytesIO(content)
    matrix = npy.read_array(buffer, allow_pickle=False)
    marked = buffer.tell() < len(content)
    rows = Rows(matrix, npy.read_array(buffer, allow_pickle=False) if marked else None)
    return rows if len(rows) == patches else None
