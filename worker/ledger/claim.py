"""Which shard a worker gets next.

Shards queue by endpoint and lane. The head of each queue is one probe of an index, so that however many shards wait for
a server that is left alone just now, those of others behind them are found as fast. For a worker of certain encoders
they queue by encoder, too, and by an index of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    ScalarSelect,
    Select,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from models.domain.job import Lane
from worker.ledger import transitions
from worker.ledger.breaker import BreakerState
from worker.ledger.clock import NOW
from worker.ledger.constant import constant
from worker.ledger.database import Database
from worker.ledger.queues import enter_nameless, queue_at, queue_of
from worker.ledger.records import EndpointRules, Lease, Remit, Rules, ShardState
from worker.ledger.schema import attempt, endpoint, shard

_DUE = and_(shard.c.state == constant(ShardState.PENDING), shard.c.not_before <= NOW)
_UNWELL = endpoint.c.state != constant(BreakerState.CLOSED)
_BARRED = and_(_UNWELL, or_(endpoint.c.open_until > NOW, endpoint.c.probe_until > NOW))
_NO_RULES = EndpointRules()


def _heads(of_endpoint: ColumnElement[bool]) -> Select[Any]:
    """Return the query for the turn of each endpoint's first shard in each lane."""

    def head(lane: Lane) -> ScalarSelect[Any]:
        of_queue = and_(_DUE, of_endpoint, shard.c.rank == constant(lane.rank))
        query: Select[Any] = select(shard.c.turn).where(of_queue).order_by(shard.c.turn, shard.c.idx).limit(constant(1))
        return query.correlate(endpoint).scalar_subquery()

    turns = (head(lane).label(lane) for lane in Lane)
    return select(endpoint.c.key, endpoint.c.state, NOW.label("now"), *turns).where(~_BARRED)


@dataclass(frozen=True, slots=True)
class _Take:
    """Two forms of one claim."""

    shard: ReturningUpdate[Any]
    """Leases the shard; its job and its history have statements of their own."""
    everything: Select[Any]
    """Does all of it, in one journey to the server; SQLite has no such statements, and no journeys."""


def _take_first(*due: ColumnElement[bool]) -> _Take:
    """Return what leases the first due shard that nobody else is taking right now."""
    first = select(shard.c.id).where(_DUE, *due).order_by(shard.c.rank, shard.c.turn, shard.c.idx).limit(constant(1))
    take = (
        update(shard)
        .where(shard.c.id == first.with_for_update(skip_locked=True).scalar_subquery())
        .values(
            state=constant(ShardState.LEASED), epoch=shard.c.epoch + constant(1), owner=bindparam("claimer"),
            note=constant(""), claimed_at=NOW, lease_until=NOW + bindparam("lease_s"), updated_at=NOW,
        )
        .returning(*transitions.LEASE_COLUMNS)
    )  # fmt: skip
    taken = take.cte("taken")
    started = transitions.starting(select(taken.c.job_id).scalar_subquery())
    history = {
        attempt.c.shard_id: taken.c.id, attempt.c.epoch: taken.c.epoch, attempt.c.owner: taken.c.owner,
        attempt.c.event: constant("claimed"), attempt.c.code: constant(""), attempt.c.detail: constant(""),
        attempt.c.at: NOW,
    }  # fmt: skip
    noted = insert(attempt).from_select(list(history), select(*history.values()).select_from(taken))
    return _Take(take, select(taken).add_cte(started.cte("started"), noted.cte("noted")))


# Made once: to put a statement together takes longer than to run it.
_HEADS = _heads(shard.c.endpoint == endpoint.c.key)
_HEADS_OF_ENCODER = _heads(shard.c.queue == queue_at(endpoint.c.key))
_FROM_HEAD = (
    shard.c.rank == bindparam("queue_rank"),
    shard.c.turn >= bindparam("queue_turn"),  # saves a second walk over shards that wait to be tried again
)
_TAKE_OF_ENDPOINT = _take_first(shard.c.endpoint == bindparam("queue_endpoint"), *_FROM_HEAD)
_TAKE_OF_ENCODER = _take_first(shard.c.queue == bindparam("queue_name"), *_FROM_HEAD)
_LEASED = (
    select(func.count())
    .select_from(shard)
    .where(shard.c.state == constant(ShardState.LEASED), shard.c.endpoint == bindparam("of_endpoint"))
)
_HELD = select(_BARRED).where(endpoint.c.key == bindparam("of_endpoint")).with_for_update()
_TRIED = (
    update(endpoint)
    .where(endpoint.c.key == bindparam("of_endpoint"), _UNWELL)
    .values(probe_until=NOW + bindparam("lease_s"))
)
_TAKE_OF_JOB = _take_first(shard.c.job_id == bindparam("of_job"), shard.c.rank.in_(bindparam("ranks", expanding=True)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who claims, and what would do: shards of one job or of any, within a remit."""

    owner: str
    job_id: str | None
    remit: Remit


@dataclass(frozen=True, slots=True)
class Queue:
    """The shards of one endpoint in one lane, of one encoder or of all, of which one may be claimed now.

    Parameters
    ----------
    endpoint : str
    encoder : str or None
    lane : Lane
    turn : int
        Of the first shard that is due: the serial of its job.
    limited : bool
        Claims for the endpoint come one after the other, and the next one may be one too many.
    """

    endpoint: str
    encoder: str | None
    lane: Lane
    turn: int
    limited: bool


def open_queues(connection: Connection, rules: Rules, remit: Remit) -> list[Queue]:
    """Return the queues that a shard may be claimed from, in the order of claims."""
    queues = []
    for encoder in remit.encoders or (None,):
        for row in _heads_of(connection, encoder):
            rule = rules.endpoints.get(row["key"], _NO_RULES)
            turns = {lane: row[lane] for lane in remit.lanes if row[lane] is not None}
            if rule.quiet is not None and rule.quiet.contains(row["now"]):
                turns.pop(Lane.BACKFILL, None)
            if turns and not _all_taken(connection, row["key"], rule):
                limited = rule.workers is not None or row["state"] != BreakerState.CLOSED
                queues += [Queue(row["key"], encoder, lane, turn, limited) for lane, turn in turns.items()]
    return sorted(queues, key=lambda queue: (queue.lane.rank, queue.turn))


def _heads_of(connection: Connection, encoder: str | None) -> Sequence[RowMapping]:
    if encoder is None:
        return connection.execute(_HEADS).mappings().all()
    return connection.execute(_HEADS_OF_ENCODER, {"of_encoder": encoder}).mappings().all()


def claim(db: Database, wanted: Wanted, rules: Rules) -> Lease | None:
    """Lease the first shard that is wanted and may be claimed; None if there is none.

    A shard of one job is leased whatever the limits and hours of its endpoint are: somebody waits for it.
    """
    if wanted.job_id is not None:
        of_job = {"of_job": wanted.job_id, "ranks": [lane.rank for lane in wanted.remit.lanes]}
        with db.write("claim", at_once=True) as connection:
            return _take(connection, _TAKE_OF_JOB, _claimer(wanted, rules) | of_job)
    if wanted.remit.encoders:
        enter_nameless(db)
    with db.read() as connection:  # who finds nothing has kept no writer waiting
        queues = open_queues(connection, rules, wanted.remit)
    claims = (_claim_from(db, queue, wanted, rules) for queue in queues)
    return next((lease for lease in claims if lease is not None), None)


def _claim_from(db: Database, queue: Queue, wanted: Wanted, rules: Rules) -> Lease | None:
    # One for each: locks of two endpoints are never held together.
    with db.write("claim", at_once=not queue.limited) as connection:
        if queue.limited and not _hold(connection, queue.endpoint, rules):
            return None
        of_queue: dict[str, object] = {"queue_rank": queue.lane.rank, "queue_turn": queue.turn}
        if queue.encoder is None:
            take, of_queue["queue_endpoint"] = _TAKE_OF_ENDPOINT, queue.endpoint
        else:
            take, of_queue["queue_name"] = _TAKE_OF_ENCODER, queue_of(queue.encoder, queue.endpoint)
        lease = _take(connection, take, _claimer(wanted, rules) | of_queue)
        if lease is not None and queue.limited:
            _try(connection, queue.endpoint, rules.lease_s)
        return lease


def _claimer(wanted: Wanted, rules: Rules) -> dict[str, object]:
    return {"claimer": wanted.owner, "lease_s": rules.lease_s}


def _take(connection: Connection, take: _Take, values: dict[str, object]) -> Lease | None:
    at_once = connection.dialect.name == "postgresql"
    row = connection.execute(take.everything if at_once else take.shard, values).one_or_none()
    if row is None:
        return None
    lease = Lease(*row)
    if not at_once:
        transitions.start_job(connection, lease.job_id)
        transitions.audit(connection, lease, "claimed")
    return lease


def _all_taken(connection: Connection, key: str, rule: EndpointRules) -> bool:
    """Whether as many shards of an endpoint are worked on as may be."""
    if rule.workers is None:
        return False
    return connection.execute(_LEASED, {"of_endpoint": key}).scalar_one() >= rule.workers


def _hold(connection: Connection, key: str, rules: Rules) -> bool:
    """Lock an endpoint, so that claims for it come one after the other; whether one more is allowed then."""
    barred = connection.execute(_HELD, {"of_endpoint": key}).scalar_one()
    return not barred and not _all_taken(connection, key, rules.endpoints.get(key, _NO_RULES))


def _try(connection: Connection, key: str, lease_s: float) -> None:
    """If an endpoint is half-open, let the shard that was just claimed be the only one for as long as a lease."""
    connection.execute(_TRIED, {"of_endpoint": key, "lease_s": lease_s})
