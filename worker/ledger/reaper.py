"""Takes back the leases of workers that died or hang."""

from sqlalchemy import select

from models.domain.codes import ErrorCode
from worker.ledger import transitions
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.failures import count_crash
from worker.ledger.records import Lease, ReapReport, ShardState
from worker.ledger.schema import shard

_AT_ONCE = 1000
_CALM_S = 5.0

_RAN_OUT = (shard.c.state == ShardState.LEASED) & (shard.c.lease_until < NOW)


def reap(db: Database) -> ReapReport:
    """Put shards back whose lease ran out; quarantine a shard, and its job, at the third crash.

    Any process may do this at any time, several at once; a lease is taken back once. While the database did not
    answer, nobody could renew a lease: when it is back, the living come first.
    """
    if db.failed_within(_CALM_S):
        return ReapReport(expired=0, quarantined=0)
    with db.read() as connection:
        query = select(*transitions.LEASE_COLUMNS).where(_RAN_OUT)
        rows = connection.execute(query.order_by(shard.c.lease_until).limit(_AT_ONCE)).all()
    ends = [_expire(db, Lease(*tuple(row))) for row in rows]
    return ReapReport(
        expired=sum(end is not None for end in ends),
        quarantined=sum(end == ShardState.QUARANTINED for end in ends),
    )


def _expire(db: Database, lease: Lease) -> ShardState | None:
    """End one lease; return the shard's new state, or None if a heartbeat or another reaper came first."""
    with db.write("reap") as connection:
        locked = transitions.lock_job(connection, lease.job_id)
        note = connection.execute(
            select(shard.c.note)
            .where(shard.c.id == lease.shard_id, shard.c.epoch == lease.epoch, _RAN_OUT)
            .with_for_update()
        ).scalar_one_or_none()
        if locked is None or note is None:
            return None
        if locked.wanted:
            state = count_crash(
                connection, lease, "expired", ErrorCode.WORKER_LOST, f"{lease.owner}: {note or 'no heartbeat yet'}"
            )
        else:
            state = ShardState.CANCELLED
            transitions.end_lease(connection, lease, state, {"crashes": shard.c.crashes + 1})
            transitions.audit(connection, lease, "expired", ErrorCode.WORKER_LOST, note)
        transitions.settle(connection, transitions.lock_leased_job(connection, lease))
        return state
