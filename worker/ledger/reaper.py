"""Takes back the leases of workers that died or hang."""

from sqlalchemy import select

from models.domain.errors import ErrorCode
from worker.ledger import transitions
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.records import JobState, Lease, ReapReport, ShardState
from worker.ledger.schema import shard

CRASHES = 3  # so many workers die on a shard before it is taken for the cause
_AT_ONCE = 1000

_RAN_OUT = (shard.c.state == ShardState.LEASED) & (shard.c.lease_until < NOW)


def reap(db: Database) -> ReapReport:
    """Put shards back whose lease ran out; quarantine a shard, and its job, at the third crash.

    Any process may do this at any time, several at once; a lease is taken back once.
    """
    with db.read() as connection:
        query = select(*transitions.LEASE_COLUMNS).where(_RAN_OUT)
        rows = connection.execute(query.order_by(shard.c.lease_until).limit(_AT_ONCE)).all()
    ends = [_expire(db, Lease(*row)) for row in rows]
    return ReapReport(
        expired=sum(end is not None for end in ends),
        quarantined=sum(end == ShardState.QUARANTINED for end in ends),
    )


def _expire(db: Database, lease: Lease) -> ShardState | None:
    """End one lease; return the shard's new state, or None if a heartbeat or another reaper came first."""
    with db.write() as connection:
        locked = transitions.lock_job(connection, lease.job_id)
        crashes = connection.execute(
            select(shard.c.crashes)
            .where(shard.c.id == lease.shard_id, shard.c.epoch == lease.epoch, _RAN_OUT)
            .with_for_update()
        ).scalar_one_or_none()
        if locked is None or crashes is None:
            return None
        state = ShardState.PENDING
        if not locked.wanted:
            state = ShardState.CANCELLED
        elif crashes + 1 >= CRASHES:
            state = ShardState.QUARANTINED
        transitions.end_lease(connection, lease, state, {"crashes": crashes + 1})
        transitions.audit(connection, lease, "expired", ErrorCode.WORKER_LOST)
        if state == ShardState.QUARANTINED:
            message = (
                f"{crashes + 1} workers died or hung on shard {lease.index} of this job; look at the last lines of "
                "their logs, then reopen the job."
            )
            transitions.end_job(connection, locked.id, JobState.QUARANTINED, ErrorCode.WORKER_LOST, message)
        else:
            transitions.settle(connection, locked)
        return state
