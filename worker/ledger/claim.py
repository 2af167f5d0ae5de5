"""Which shard a worker gets next."""

from dataclasses import dataclass

from sqlalchemy import Connection, Select, select, update

from models.domain.job import Lane
from worker.ledger import transitions
from worker.ledger.clock import NOW
from worker.ledger.records import Lease, Rules, ShardState
from worker.ledger.schema import shard


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who claims, and what would do: shards of one job or of any, of these lanes."""

    owner: str
    job_id: str | None
    lanes: frozenset[Lane]


def due() -> Select[tuple[str]]:
    """Return the query for the ids of the shards that may be claimed, in the order of claims."""
    return (
        select(shard.c.id)
        .where(shard.c.state == ShardState.PENDING, shard.c.not_before <= NOW)
        .order_by(shard.c.rank, shard.c.turn, shard.c.idx)
    )


def claim(connection: Connection, wanted: Wanted, rules: Rules) -> Lease | None:
    """Lease the first shard that is wanted and due; None if there is none."""
    query = due()
    if wanted.job_id is not None:
        query = query.where(shard.c.job_id == wanted.job_id)
    if wanted.lanes != frozenset(Lane):
        query = query.where(shard.c.rank.in_([lane.rank for lane in wanted.lanes]))
    found = connection.execute(query.limit(1).with_for_update(skip_locked=True)).scalar_one_or_none()
    if found is None:
        return None
    row = connection.execute(
        update(shard)
        .where(shard.c.id == found)
        .values(
            state=ShardState.LEASED, epoch=shard.c.epoch + 1, owner=wanted.owner, note="", claimed_at=NOW,
            lease_until=NOW + rules.lease_s, updated_at=NOW,
        )
        .returning(*transitions.LEASE_COLUMNS)
    ).one()  # fmt: skip
    lease = Lease(*row)
    transitions.start_job(connection, lease.job_id)
    transitions.audit(connection, lease, "claimed")
    return lease
