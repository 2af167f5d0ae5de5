"""The steps that jobs and shards share; each runs inside the caller's transaction.

Locking: who changes a job or more than its own lease takes the job's row first (`lock_job`) and sees everything
that was committed before. Claims and heartbeats touch one shard and never wait for a job, so there is no deadlock.
SQLite has one writer at a time and ignores the row locks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Select, Update, bindparam, exists, func, insert, or_, select, update

from models.domain.errors import LeaseLost
from models.domain.job import JobState, Lane
from worker.ledger.clock import NOW
from worker.ledger.constant import constant
from worker.ledger.queues import queue_of
from worker.ledger.records import Lease, ShardState
from worker.ledger.schema import attempt, checkpoint, job, shard

OPEN_JOBS = (JobState.QUEUED, JobState.RUNNING)
OPEN_SHARDS = (ShardState.PENDING, ShardState.LEASED)

LEASE_COLUMNS = (
    shard.c.id, shard.c.job_id, shard.c.kind, shard.c.idx, shard.c.start, shard.c.stop, shard.c.epoch, shard.c.owner,
    shard.c.dispatch_no, shard.c.endpoint,
)  # fmt: skip
"""A row of these, in the order of `Lease`."""


def starting(job_id: ColumnElement[str]) -> Update:
    """Return what makes a queued job a running one, unless somebody has locked it (and so changes its state anyway)."""
    queued = select(job.c.serial).where(job.c.id == job_id, job.c.state == constant(JobState.QUEUED))
    free = queued.with_for_update(key_share=True, skip_locked=True).scalar_subquery()
    return update(job).where(job.c.serial == free).values(state=constant(JobState.RUNNING), updated_at=NOW)


# What every shard needs is made once: to put a statement together takes longer than to run it.
_LOCKED_JOB = (
    select(job.c.id, job.c.serial, job.c.encoder, job.c.lane, job.c.endpoint, job.c.state, job.c.cancel_requested)
    .where(job.c.id == bindparam("job_id"))
    .with_for_update(key_share=True)
)
_START_JOB = starting(bindparam("job_id"))
_LEASED_SHARD = (
    update(shard)
    .where(
        shard.c.id == bindparam("shard_id"),
        shard.c.epoch == bindparam("lease_epoch"),
        shard.c.state == constant(ShardState.LEASED),
    )
    .values(updated_at=NOW)
)
_OF_JOB = shard.c.job_id == bindparam("job_id")
_ANY_LEASED = select(exists().where(_OF_JOB, shard.c.state == constant(ShardState.LEASED)))
_ANY_TO_EMBED = select(
    exists().where(_OF_JOB, shard.c.kind == constant("embed"), shard.c.state != constant(ShardState.DONE))
)
_ANY_TO_PUBLISH = select(exists().where(_OF_JOB, shard.c.kind == constant("publish")))
_AUDIT = insert(attempt).values(at=NOW)


@dataclass(frozen=True, slots=True)
class LockedJob:
    """What decides about a job; its row is locked until the transaction ends."""

    id: str
    serial: int
    encoder: str
    lane: Lane
    endpoint: str
    state: JobState
    cancel_requested: bool

    @property
    def wanted(self) -> bool:
        """Whether more work on the job makes sense."""
        return self.state in OPEN_JOBS and not self.cancel_requested


def lock_job(connection: Connection, job_id: str) -> LockedJob | None:
    """Lock the job's row; None if there is no such job."""
    row = connection.execute(_LOCKED_JOB, {"job_id": job_id}).one_or_none()
    if row is None:
        return None
    lane, state = Lane(row.lane), JobState(row.state)
    return LockedJob(row.id, row.serial, row.encoder, lane, row.endpoint, state, row.cancel_requested)


def lock_leased_job(connection: Connection, lease: Lease) -> LockedJob:
    """Lock the job of a lease; LeaseLost if it is gone."""
    locked = lock_job(connection, lease.job_id)
    if locked is None:
        raise lease_lost(lease)
    return locked


def lease_lost(lease: Lease) -> LeaseLost:
    """Return the error of a fence that did not hold."""
    return LeaseLost(
        f"Shard {lease.index} of job {lease.job_id[:8]} is no longer leased under epoch {lease.epoch}: "
        "drop the work, another worker has it or nobody wants it any more."
    )


def update_leased(connection: Connection, lease: Lease, values: dict[str, object]) -> None:
    """Write to the leased shard: the fence that every write under a lease passes.

    Raises
    ------
    LeaseLost
        The shard is not leased under this epoch any more; nothing was written.
    """
    fence = {"shard_id": lease.shard_id, "lease_epoch": lease.epoch}
    result = connection.execute(_LEASED_SHARD.values(**values), fence)
    if result.rowcount != 1:
        raise lease_lost(lease)


def end_lease(connection: Connection, lease: Lease, state: ShardState, values: dict[str, object]) -> None:
    """Give the shard another state, and with it the lease back, through the fence."""
    given_back: dict[str, object] = {"state": state, "owner": "", "lease_until": None, "rung_at": None}
    update_leased(connection, lease, given_back | values)


def audit(connection: Connection, lease: Lease, event: str, code: str = "", detail: str = "") -> None:
    """Append to the history of the shard."""
    incident = {
        "shard_id": lease.shard_id, "epoch": lease.epoch, "owner": lease.owner, "event": event, "code": code,
        "detail": one_line(detail),
    }  # fmt: skip
    connection.execute(_AUDIT, incident)


def insert_shards(connection: Connection, locked: LockedJob, kind: str, ranges: Sequence[tuple[int, int]]) -> None:
    """Insert pending shards of one kind behind those that the job has."""
    of_job = shard.c.job_id == locked.id
    first_index = connection.execute(select(func.count()).select_from(shard).where(of_job)).scalar_one()
    fresh = {
        "job_id": locked.id, "kind": kind, "state": ShardState.PENDING, "rank": locked.lane.rank,
        "turn": locked.serial, "epoch": 0, "owner": "", "lease_until": None, "patches_done": 0,
        "not_before": 0.0, "attempts": 0, "crashes": 0, "dispatch_no": 0, "rung_at": None, "endpoint": locked.endpoint,
        "queue": queue_of(locked.encoder, locked.endpoint),
    }  # fmt: skip
    rows = [
        fresh | {"id": uuid4().hex, "idx": first_index + offset, "start": start, "stop": stop}
        for offset, (start, stop) in enumerate(ranges)
    ]
    if rows:
        connection.execute(insert(shard).values(updated_at=NOW), rows)


def cancel_pending(connection: Connection, job_id: str) -> None:
    """Cancel what nobody works on."""
    connection.execute(
        update(shard)
        .where(shard.c.job_id == job_id, shard.c.state == ShardState.PENDING)
        .values(state=ShardState.CANCELLED, updated_at=NOW)
    )


def start_job(connection: Connection, job_id: str) -> None:
    """Make a queued job a running one; see `starting`."""
    connection.execute(_START_JOB, {"job_id": job_id})


def end_job(connection: Connection, job_id: str, state: JobState, code: str = "", message: str = "") -> None:
    """Give the job its final state, which the webhook is to be told, and cancel what is left of it."""
    told = {"notice": "due", "notice_at": NOW, "notice_tries": 0}
    connection.execute(
        update(job)
        .where(job.c.id == job_id)
        .values(state=state, error_code=code, error_message=one_line(message), updated_at=NOW, **told)
    )
    cancel_pending(connection, job_id)


def settle(connection: Connection, locked: LockedJob) -> None:
    """Take the step that follows from the states of the shards: cancelled, or on to the publish shard.

    The caller holds the job's lock, so of two workers that finish the last two shards exactly one sees none left.
    """
    if locked.state not in OPEN_JOBS:
        return
    if locked.cancel_requested:
        if not _any(connection, _ANY_LEASED, locked):
            end_job(connection, locked.id, JobState.CANCELLED)
        return
    if not _any(connection, _ANY_TO_EMBED, locked):
        _ready_publish(connection, locked)


def rewind(connection: Connection, locked: LockedJob) -> int:
    """Make the embed shards pending again whose patches are not all in checkpoints; return how many.

    The publish shard, if there is one, is left cancelled meanwhile; `settle` wakes it.
    """
    kept = (
        select(func.coalesce(func.sum(checkpoint.c.patches), 0))
        .where(checkpoint.c.shard_id == shard.c.id)
        .scalar_subquery()
    )
    of_job = shard.c.job_id == locked.id
    lacking = or_(shard.c.state != ShardState.DONE, kept < shard.c.stop - shard.c.start)
    result = connection.execute(
        update(shard)
        .where(of_job, shard.c.kind == "embed", lacking)
        .values(**_PENDING, not_before=0.0, patches_done=kept)
    )
    connection.execute(
        update(shard)
        .where(of_job, shard.c.kind == "publish")
        .values(state=ShardState.CANCELLED, owner="", lease_until=None, updated_at=NOW)
    )
    return result.rowcount


def one_line(message: str) -> str:
    """Return `message` as one printable line of at most 1000 characters (PostgreSQL stores no NUL)."""
    return " ".join("".join(c if c.isprintable() else " " for c in message).split())[:1000]


_PENDING = {
    "state": ShardState.PENDING, "owner": "", "lease_until": None, "rung_at": None, "updated_at": NOW,
}  # fmt: skip


def _ready_publish(connection: Connection, locked: LockedJob) -> None:
    of_job = shard.c.job_id == locked.id
    waiting = shard.c.state == ShardState.CANCELLED
    woken = connection.execute(
        update(shard).where(of_job, shard.c.kind == "publish", waiting).values(**_PENDING, not_before=0.0)
    ).rowcount
    if not woken and not _any(connection, _ANY_TO_PUBLISH, locked):
        insert_shards(connection, locked, "publish", [(0, 0)])


def _any(connection: Connection, query: Select[bool], locked: LockedJob) -> bool:
    return connection.execute(query, {"job_id": locked.id}).scalar_one()
