"""Which shard a worker gets next.

Shards queue by endpoint and lane. The head of each queue is one probe of an index, so that however many shards wait for
a server that is left alone just now, those of others behind them are found as fast.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Select, and_, bindparam, func, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from models.domain.job import Lane
from worker.ledger import transitions
from worker.ledger.breaker import BreakerState
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.records import EndpointRules, Lease, Rules, ShardState
from worker.ledger.schema import endpoint, shard

_DUE = and_(shard.c.state == ShardState.PENDING, shard.c.not_before <= NOW)
_BARRED = and_(endpoint.c.state != BreakerState.CLOSED, or_(endpoint.c.open_until > NOW, endpoint.c.probe_until > NOW))
_NO_RULES = EndpointRules()


def _head(lane: Lane) -> ScalarSelect[Any]:
    """Return the turn of an endpoint's first shard in a lane, as a column of the endpoint."""
    of_queue = and_(_DUE, shard.c.endpoint == endpoint.c.key, shard.c.rank == lane.rank)
    query: Select[Any] = select(shard.c.turn).where(of_queue).order_by(shard.c.turn, shard.c.idx).limit(1)
    return query.correlate(endpoint).scalar_subquery()


def _take_first(*due: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """Return the statement that leases the first due shard that nobody else is taking right now."""
    first = select(shard.c.id).where(_DUE, *due).order_by(shard.c.rank, shard.c.turn, shard.c.idx).limit(1)
    return (
        update(shard)
        .where(shard.c.id == first.with_for_update(skip_locked=True).scalar_subquery())
        .values(
            state=ShardState.LEASED, epoch=shard.c.epoch + 1, owner=bindparam("claimer"), note="", claimed_at=NOW,
            lease_until=NOW + bindparam("lease_s"), updated_at=NOW,
        )
        .returning(*transitions.LEASE_COLUMNS)
    )  # fmt: skip


# Made once: to put a statement together takes longer than to run it.
_HEADS = select(endpoint.c.key, endpoint.c.state, NOW.label("now"), *(_head(lane).label(lane) for lane in Lane)).where(
    ~_BARRED
)
_TAKE_OF_QUEUE = _take_first(
    shard.c.endpoint == bindparam("queue_endpoint"),
    shard.c.rank == bindparam("queue_rank"),
    shard.c.turn >= bindparam("queue_turn"),  # saves a second walk over shards that wait to be tried again
)
_TAKE_OF_JOB = _take_first(shard.c.job_id == bindparam("of_job"), shard.c.rank.in_(bindparam("ranks", expanding=True)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who claims, and what would do: shards of one job or of any, of these lanes."""

    owner: str
    job_id: str | None
    lanes: frozenset[Lane]


@dataclass(frozen=True, slots=True)
class Queue:
    """The shards of one endpoint in one lane, of which one may be claimed now.

    Parameters
    ----------
    endpoint : str
    lane : Lane
    turn : int
        Of the first shard that is due: the serial of its job.
    limited : bool
        Claims for the endpoint come one after the other, and the next one may be one too many.
    """

    endpoint: str
    lane: Lane
    turn: int
    limited: bool


def open_queues(connection: Connection, rules: Rules, lanes: Collection[Lane]) -> list[Queue]:
    """Return the queues that a shard may be claimed from, in the order of claims."""
    queues = []
    for row in connection.execute(_HEADS).mappings().all():
        rule = rules.endpoints.get(row["key"], _NO_RULES)
        turns = {lane: row[lane] for lane in lanes if row[lane] is not None}
        if rule.quiet is not None and rule.quiet.contains(row["now"]):
            turns.pop(Lane.BACKFILL, None)
        if turns and not _all_taken(connection, row["key"], rule):
            limited = rule.workers is not None or row["state"] != BreakerState.CLOSED
            queues += [Queue(row["key"], lane, turn, limited) for lane, turn in turns.items()]
    return sorted(queues, key=lambda queue: (queue.lane.rank, queue.turn))


def claim(db: Database, wanted: Wanted, rules: Rules) -> Lease | None:
    """Lease the first shard that is wanted and may be claimed; None if there is none.

    A shard of one job is leased whatever the limits and hours of its endpoint are: somebody waits for it.
    """
    if wanted.job_id is not None:
        of_job = {"of_job": wanted.job_id, "ranks": [lane.rank for lane in wanted.lanes]}
        with db.write("claim") as connection:
            return _take(connection, _TAKE_OF_JOB, _claimer(wanted, rules) | of_job)
    with db.read() as connection:  # who finds nothing has kept no writer waiting
        queues = open_queues(connection, rules, wanted.lanes)
    claims = (_claim_from(db, queue, wanted, rules) for queue in queues)
    return next((lease for lease in claims if lease is not None), None)


def _claim_from(db: Database, queue: Queue, wanted: Wanted, rules: Rules) -> Lease | None:
    with db.write("claim") as connection:  # one for each: locks of two endpoints are never held together
        if queue.limited and not _hold(connection, queue.endpoint, rules):
            return None
        of_queue = {"queue_endpoint": queue.endpoint, "queue_rank": queue.lane.rank, "queue_turn": queue.turn}
        lease = _take(connection, _TAKE_OF_QUEUE, _claimer(wanted, rules) | of_queue)
        if lease is not None and queue.limited:
            _try(connection, queue.endpoint, rules.lease_s)
        return lease


def _claimer(wanted: Wanted, rules: Rules) -> dict[str, object]:
    return {"claimer": wanted.owner, "lease_s": rules.lease_s}


def _take(connection: Connection, statement: ReturningUpdate[Any], values: dict[str, object]) -> Lease | None:
    row = connection.execute(statement, values).one_or_none()
    if row is None:
        return None
    lease = Lease(*row)
    transitions.start_job(connection, lease.job_id)
    transitions.audit(connection, lease, "claimed")
    return lease


def _all_taken(connection: Connection, key: str, rule: EndpointRules) -> bool:
    """Whether as many shards of an endpoint are worked on as may be."""
    if rule.workers is None:
        return False
    leased = and_(shard.c.state == ShardState.LEASED, shard.c.endpoint == key)
    return connection.execute(select(func.count()).select_from(shard).where(leased)).scalar_one() >= rule.workers


def _hold(connection: Connection, key: str, rules: Rules) -> bool:
    """Lock an endpoint, so that claims for it come one after the other; whether one more is allowed then."""
    query = select(_BARRED.label("barred")).where(endpoint.c.key == key).with_for_update()
    barred = connection.execute(query).scalar_one()
    return not barred and not _all_taken(connection, key, rules.endpoints.get(key, _NO_RULES))


def _try(connection: Connection, key: str, lease_s: float) -> None:
    """If an endpoint is half-open, let the shard that was just claimed be the only one for as long as a lease."""
    half_open = and_(endpoint.c.key == key, endpoint.c.state != BreakerState.CLOSED)
    connection.execute(update(endpoint).where(half_open).values(probe_until=NOW + lease_s))
