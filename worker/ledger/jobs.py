"""The jobs of the ledger: queued once, looked up, cancelled, reopened."""

import hashlib
import string
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Insert, Row, Select, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from models.domain.embedding import Output
from models.domain.errors import JobNotFound, LedgerError
from models.domain.job import JobState, Lane
from worker.ledger import endpoints, transitions
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.records import Incident, JobRecord, NewJob, Submission
from worker.ledger.schema import attempt, job, shard

_ID_LENGTH = 32
_UNTOLD = {
    "plan", "plan_sha256", "endpoint", "serial", "cancel_requested", "notice", "notice_at", "notice_tries",
}  # fmt: skip
_INCIDENT = ("epoch", "owner", "event", "code", "detail", "at")


class Jobs:
    """The jobs of one ledger.

    Parameters
    ----------
    db : Database
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def submit(self, new: NewJob) -> Submission:
        """Queue a job with its shards, or find the one that was queued under the same key; in one transaction.

        A job without patches has nothing to embed and goes straight to its publish shard. A job that exists is
        returned as it stands, even if it failed: see `reopen`; if it waits in a later lane, it moves to this one.
        """
        with self._db.write("submit") as connection:
            return submit_job(connection, new)

    def get(self, job_id: str) -> JobRecord:
        """Return the job with that id, or the only one whose id begins so.

        Raises
        ------
        JobNotFound
            None does, or more than one.
        """
        with self._db.read() as connection:
            return _record(connection.execute(_records().where(job.c.id == _resolve(connection, job_id))).one())

    def list(self, limit: int, state: str | None = None) -> tuple[JobRecord, ...]:
        """Return the newest jobs, the newest first; only those in `state` if it is given."""
        query = _records().order_by(job.c.serial.desc()).limit(limit)
        if state is not None:
            query = query.where(job.c.state == state)
        with self._db.read() as connection:
            return tuple(_record(row) for row in connection.execute(query))

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state, of those that any are in; also from tables of another revision."""
        query = select(job.c.state, func.count()).group_by(job.c.state).order_by(job.c.state)
        with self._db.read() as connection:
            return {str(state): int(count) for state, count in connection.execute(query)}

    def ended(self, state: JobState, code: str | None = None) -> tuple[str, ...]:
        """Return the ids of the jobs in a state, only those with an error code if one is given, oldest first."""
        query = select(job.c.id).where(job.c.state == state).order_by(job.c.serial)
        if code is not None:
            query = query.where(job.c.error_code == code)
        with self._db.read() as connection:
            return tuple(connection.execute(query).scalars())

    def plan(self, job_id: str) -> bytes:
        """Return the frozen plan of a job (id or unique prefix; JobNotFound otherwise).

        Raises
        ------
        LedgerError
            It is not the one that was submitted.
        """
        with self._db.read() as connection:
            query = select(job.c.plan, job.c.plan_sha256).where(job.c.id == _resolve(connection, job_id))
            plan, digest = connection.execute(query).one()
        if hashlib.sha256(plan).hexdigest() != digest:
            raise LedgerError("The job's plan in the ledger is damaged: restore a backup, or submit the slide again.")
        return bytes(plan)

    def history(self, job_id: str) -> tuple[Incident, ...]:
        """Return what happened to the shards of a job (id or unique prefix; JobNotFound otherwise), oldest first."""
        columns = (shard.c.idx, shard.c.kind, *(attempt.c[name] for name in _INCIDENT))
        with self._db.read() as connection:
            query = (
                select(*columns)
                .join(shard, shard.c.id == attempt.c.shard_id)
                .where(shard.c.job_id == _resolve(connection, job_id))
                .order_by(attempt.c.id)
            )
            return tuple(Incident(*row) for row in connection.execute(query))

    def cancel(self, job_id: str) -> JobRecord:
        """Ask for the end of a job (id or unique prefix; JobNotFound otherwise).

        Shards that wait are cancelled at once. Workers hear of it by their next heartbeat, and the job is cancelled
        as soon as none of them holds a shard any more. A publication that is complete before its worker hears of
        it counts: that job succeeds, for its objects exist. A job that has ended stays as it is.
        """
        with self._db.write("cancel") as connection:
            locked = cancel_job(connection, job_id)
            return _record(connection.execute(_records().where(job.c.id == locked.id)).one())

    def reopen(self, job_id: str) -> JobRecord:
        """Queue a job again that has ended (id or unique prefix; JobNotFound otherwise).

        What is in checkpoints is not computed again: only embed shards that are not done, or whose checkpoints were
        discarded meanwhile, are; then the publish shard runs (again). Attempts and crashes count from 0, and a
        worker that still holds a shard of the job loses its lease. A job that has not ended stays as it is.
        """
        with self._db.write("reopen") as connection:
            locked = _lock(connection, job_id)
            if locked.state not in transitions.OPEN_JOBS:
                _reopen(connection, locked.id)
            return _record(connection.execute(_records().where(job.c.id == locked.id)).one())


def submit_job(connection: Connection, new: NewJob) -> Submission:
    """Queue a job, or find the one under its key, inside the caller's transaction; see `Jobs.submit`."""
    serial = connection.execute(_insert_if_new(connection, new)).scalar_one_or_none()
    if serial is None:
        _hurry(connection, new)
    record = _record(connection.execute(_records().where(job.c.key == new.key)).one())
    if serial is not None:
        endpoints.enter(connection, new.endpoint)
        locked = _lock(connection, record.id)
        transitions.insert_shards(connection, locked, "embed", new.shards)
        if not new.shards:
            transitions.settle(connection, locked)
    return Submission(record, created=serial is not None)


def cancel_job(connection: Connection, job_id: str) -> transitions.LockedJob:
    """Ask for the end of a job inside the caller's transaction; see `Jobs.cancel`."""
    locked = _lock(connection, job_id)
    if locked.wanted:
        connection.execute(update(job).where(job.c.id == locked.id).values(cancel_requested=True, updated_at=NOW))
        transitions.cancel_pending(connection, locked.id)
        locked = _lock(connection, locked.id)
        transitions.settle(connection, locked)
    return locked


_FRESH: dict[str, Any] = {"attempts": 0, "crashes": 0, "deferred_at": None}


def _hurry(connection: Connection, new: NewJob) -> None:
    """Move an open job to the lane of a new submission, if that is an earlier one."""
    query = select(job.c.id, job.c.lane).where(job.c.key == new.key, job.c.state.in_(transitions.OPEN_JOBS))
    found = connection.execute(query.with_for_update(key_share=True)).one_or_none()
    if found is not None and new.lane.rank < Lane(found.lane).rank:
        connection.execute(update(job).where(job.c.id == found.id).values(lane=new.lane))
        connection.execute(update(shard).where(shard.c.job_id == found.id).values(rank=new.lane.rank))


def _reopen(connection: Connection, job_id: str) -> None:
    fresh = {
        "cancel_requested": False, "error_code": "", "error_message": "", "outputs": [], "holes": 0, "notice": "",
    }  # fmt: skip
    connection.execute(update(job).where(job.c.id == job_id).values(**fresh, state=JobState.QUEUED, updated_at=NOW))
    locked = _lock(connection, job_id)
    transitions.rewind(connection, locked)
    connection.execute(update(shard).where(shard.c.job_id == job_id).values(_FRESH))
    transitions.settle(connection, locked)


def _lock(connection: Connection, job_id: str) -> transitions.LockedJob:
    locked = transitions.lock_job(connection, _resolve(connection, job_id))
    if locked is None:
        raise _not_found()
    return locked


def _resolve(connection: Connection, job_id: str) -> str:
    """Return the full id of the only job whose id begins with `job_id`."""
    if not job_id or len(job_id) > _ID_LENGTH or not set(job_id) <= set(string.hexdigits):
        raise _not_found()
    query = select(job.c.id).where(job.c.id.startswith(job_id.lower())).limit(2)
    if len(job_id) == _ID_LENGTH:
        query = select(job.c.id).where(job.c.id == job_id.lower())
    found = connection.execute(query).scalars().all()
    if len(found) > 1:
        raise JobNotFound("More than one job has an id that begins so; give more digits.")
    if not found:
        raise _not_found()
    return str(found[0])


def _not_found() -> JobNotFound:
    return JobNotFound("No job has that id, or one that begins so; `slidewire jobs` lists them.")


def _insert_if_new(connection: Connection, new: NewJob) -> Insert:
    """Return the INSERT that gives the serial of a new job and nothing for one whose key is there."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return (
        insert(job)
        .values(
            id=uuid4().hex, key=new.key, result_key=new.result_key, encoder=new.encoder, lane=new.lane,
            endpoint=new.endpoint, request=new.request, plan=new.plan, plan_sha256=hashlib.sha256(new.plan).hexdigest(),
            patches=new.patches, state=JobState.QUEUED,
            cancel_requested=False, error_code="", error_message="", outputs=[], created_at=NOW, updated_at=NOW,
        )
        .on_conflict_do_nothing(index_elements=[job.c.key])
        .returning(job.c.serial)
    )  # fmt: skip


def _records() -> Select[Any]:
    done = select(func.coalesce(func.sum(shard.c.patches_done), 0)).where(shard.c.job_id == job.c.id).scalar_subquery()
    return select(*(column for column in job.c if column.name not in _UNTOLD), done.label("patches_done"))


def _record(row: Row[Any]) -> JobRecord:
    fields = dict(row._mapping)  # noqa: SLF001 - the documented way to a row's names
    fields["state"], fields["lane"] = JobState(fields["state"]), Lane(fields["lane"])
    fields["outputs"] = tuple(Output(**output) for output in fields["outputs"])
    return JobRecord(**fields)
