"""The census: what is in the ledger right now, in numbers, for whoever watches the fleet.

It is taken every few seconds for as long as the fleet runs, so each question is answered by an index, and counts of
what may be millions stop at ten thousand.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Text, bindparam, case, func, literal, select, text

from models.domain.job import JobState, Lane
from worker.ledger.breaker import BreakerState
from worker.ledger.claim import Queue, open_queues
from worker.ledger.clock import NOW
from worker.ledger.constant import constant
from worker.ledger.database import Database
from worker.ledger.queues import encoder_of, enter_nameless, queue_of
from worker.ledger.records import Remit, Rules, ShardState
from worker.ledger.schema import arrival, attempt, endpoint, job, shard, watch

MOST = 10_000  # so many are counted; more are as many
_HEAD = 100  # shards of a queue, in the order of claims, among which the oldest is looked for
_OVERLAP = 1000  # PostgreSQL gives out numbers before it commits them: so many are looked at again

_PENDING = shard.c.state == constant(ShardState.PENDING)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Shards of an encoder in a lane that a worker could claim right now.

    Parameters
    ----------
    lane : Lane
    encoder : str
    due : int
        At most `MOST` of each endpoint.
    oldest_s : float
        Since the longest due became so.
    """

    lane: Lane
    encoder: str
    due: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class WatchAge:
    """How long ago an archive was looked into; None: never, and for how long it has been watched.

    Parameters
    ----------
    endpoint : str
    read_s, reconciled_s : float or None
        Since its event log was read, and since a reconciliation ended.
    watched_s : float
    """

    endpoint: str
    read_s: float | None
    reconciled_s: float | None
    watched_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """One census.

    Parameters
    ----------
    waiting : tuple of Waiting
    leased : mapping of str to int
        Shards that are worked on, by encoder.
    oldest_unclaimed_s : float
        Since the submission of the oldest job that has a shard waiting, whatever it waits for; 0: none has.
    expiries : int
        Leases that ran out since the first census of this process.
    jobs : mapping of JobState to int
    open_endpoints : mapping of str to bool
        By key: whether the server is left alone.
    arrivals : mapping of (str, str) to int
        By endpoint and state.
    notices : int
        That are to be sent, at most twice `MOST`.
    watches : tuple of WatchAge
    """

    waiting: tuple[Waiting, ...] = ()
    leased: Mapping[str, int] = field(default_factory=dict)
    oldest_unclaimed_s: float = 0.0
    expiries: int = 0
    jobs: Mapping[JobState, int] = field(default_factory=dict)
    open_endpoints: Mapping[str, bool] = field(default_factory=dict)
    arrivals: Mapping[tuple[str, str], int] = field(default_factory=dict)
    notices: int = 0
    watches: tuple[WatchAge, ...] = ()


# One step in the index for each queue in which shards wait. SQLite has to be told which index, or it takes the one of
# the states and sorts a million shards.
_QUEUE_NAMES = """
WITH RECURSIVE names(name) AS (
    SELECT (SELECT queue FROM shard {by} WHERE state = 'pending' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM shard {by} WHERE state = 'pending' AND queue > name ORDER BY queue LIMIT 1)
    FROM names WHERE name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL
"""
_QUEUES = {
    "sqlite": text(_QUEUE_NAMES.format(by="INDEXED BY ix_shard_queue")),
    "postgresql": text(_QUEUE_NAMES.format(by="")),
}
_OF_QUEUE = (
    _PENDING,
    shard.c.queue == bindparam("of_queue", type_=Text),
    shard.c.rank == bindparam("of_rank"),
    shard.c.turn >= bindparam("from_turn"),
    shard.c.not_before <= NOW,
)
_IN_ORDER = (shard.c.turn, shard.c.idx)
_SINCE = case((shard.c.not_before > shard.c.updated_at, shard.c.not_before), else_=shard.c.updated_at).label("since")
_DUE = select(func.count()).select_from(
    select(shard.c.turn).where(*_OF_QUEUE).order_by(*_IN_ORDER).limit(MOST).subquery()
)
_HEADS = select(_SINCE).where(*_OF_QUEUE).order_by(*_IN_ORDER).limit(_HEAD).subquery()
_OLDEST_S = select(NOW - func.min(_HEADS.c.since))
_LEASED = (
    select(job.c.encoder, func.count())
    .join(shard, shard.c.job_id == job.c.id)
    .where(shard.c.state == constant(ShardState.LEASED))
    .group_by(job.c.encoder)
)
_FIRST_TURNS = select(
    *(
        select(shard.c.turn)
        .where(_PENDING, shard.c.endpoint == endpoint.c.key, shard.c.rank == constant(lane.rank))
        .order_by(shard.c.turn, shard.c.idx)
        .limit(1)
        .correlate(endpoint)
        .scalar_subquery()
        for lane in Lane
    )
).select_from(endpoint)
_NOTICES = tuple(
    select(func.count()).select_from(select(literal(1)).where(table.c.notice == "due").limit(MOST).subquery())
    for table in (job, arrival)
)


class Census:
    """Counts what is in one ledger; safe to use from several threads.

    Parameters
    ----------
    db : Database
    rules : Rules
        What may be claimed depends on them.
    """

    def __init__(self, db: Database, rules: Rules) -> None:
        self._db, self._rules = db, rules
        self._lock = threading.Lock()
        self._expired: set[int] | None = None
        self._expiries = self._last_attempt = 0

    def take(self) -> Figures:
        """Count.

        Raises
        ------
        LedgerError
            The ledger does not answer.
        """
        enter_nameless(self._db)
        with self._db.read() as connection:
            return Figures(
                waiting=self._waiting(connection),
                leased={row[0]: int(row[1]) for row in connection.execute(_LEASED)},
                oldest_unclaimed_s=_oldest_unclaimed_s(connection),
                expiries=self._count_expiries(connection),
                jobs=_jobs(connection),
                open_endpoints=_open_endpoints(connection),
                arrivals=_arrivals(connection),
                notices=sum(connection.execute(query).scalar_one() for query in _NOTICES),
                watches=_watches(connection),
            )

    def _waiting(self, connection: Connection) -> tuple[Waiting, ...]:
        named = _QUEUES[connection.dialect.name]
        encoders = tuple(sorted({encoder_of(name) for (name,) in connection.execute(named)}))
        found = {(encoder, lane): (0, 0.0) for encoder in encoders for lane in Lane}
        for queue in open_queues(connection, self._rules, Remit(encoders=encoders)) if encoders else ():
            due, oldest_s = _due(connection, queue)
            before, before_s = found[queue.encoder or "", queue.lane]
            found[queue.encoder or "", queue.lane] = (before + due, max(before_s, oldest_s))
        return tuple(Waiting(lane, encoder, *counted) for (encoder, lane), counted in found.items())

    def _count_expiries(self, connection: Connection) -> int:
        with self._lock:
            recent = attempt.c.id > self._last_attempt - _OVERLAP
            if self._expired is None:  # what happened before this process is not told again
                self._last_attempt = connection.execute(select(func.max(attempt.c.id))).scalar_one() or 0
                recent = attempt.c.id > self._last_attempt - _OVERLAP
            query = select(attempt.c.id, attempt.c.event).where(recent).order_by(attempt.c.id)
            rows = connection.execute(query).all()
            expired = {row.id for row in rows if row.event == "expired"}
            if self._expired is not None:
                self._expiries += len(expired - self._expired)
            self._last_attempt = max((row.id for row in rows), default=self._last_attempt)
            self._expired = expired
            return self._expiries


def _due(connection: Connection, queue: Queue) -> tuple[int, float]:
    name = queue_of(queue.encoder or "", queue.endpoint)
    values = {"of_queue": name, "of_rank": queue.lane.rank, "from_turn": queue.turn}
    oldest_s = connection.execute(_OLDEST_S, values).scalar_one()
    return connection.execute(_DUE, values).scalar_one(), max(0.0, oldest_s or 0.0)


def _oldest_unclaimed_s(connection: Connection) -> float:
    turns = [turn for row in connection.execute(_FIRST_TURNS) for turn in row if turn is not None]
    if not turns:
        return 0.0
    age_s = connection.execute(select(NOW - job.c.created_at).where(job.c.serial == min(turns))).scalar_one_or_none()
    return max(0.0, age_s or 0.0)


def _jobs(connection: Connection) -> dict[JobState, int]:
    query = select(job.c.state, func.count()).group_by(job.c.state)
    counted: dict[str, int] = {state: int(number) for state, number in connection.execute(query)}
    return {state: counted.get(state, 0) for state in JobState}


def _open_endpoints(connection: Connection) -> dict[str, bool]:
    query = select(endpoint.c.key, endpoint.c.state).where(endpoint.c.key != "")
    return {row.key: row.state != BreakerState.CLOSED for row in connection.execute(query)}


def _arrivals(connection: Connection) -> dict[tuple[str, str], int]:
    query = select(arrival.c.endpoint, arrival.c.state, func.count()).group_by(arrival.c.endpoint, arrival.c.state)
    return {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}


def _watches(connection: Connection) -> tuple[WatchAge, ...]:
    moments = (watch.c.read_at, watch.c.reconciled_at, watch.c.created_at)
    query = select(watch.c.endpoint, *(NOW - moment for moment in moments)).order_by(watch.c.endpoint)
    return tuple(WatchAge(*row) for row in connection.execute(query))
