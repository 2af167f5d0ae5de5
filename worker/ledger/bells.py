"""The outbox: which shards workers were told of through the broker, and when.

A shard is noted as announced before its message is sent: of several processes one sends it. What is lost between the
two, or in the broker, is unheard of; it is announced again once its lane's queue has run empty.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, select, update

from models.domain.job import Lane
from worker.ledger.claim import open_queues
from worker.ledger.clock import NOW
from worker.ledger.constant import constant
from worker.ledger.database import Database
from worker.ledger.records import Doorbell, Remit, Rules, ShardState
from worker.ledger.schema import shard

AT_A_TIME: Final = 500
"""Shards of a lane that may be announced and unclaimed; the others wait in the ledger, not in the broker."""

_UNHEARD_S = 15.0


def _first(*which: ColumnElement[bool]) -> Select[str]:
    """Return the query for shards of one endpoint's lane, in the order of their index: none is looked at in vain."""
    of_queue = (shard.c.rank == bindparam("of_rank"), shard.c.endpoint == bindparam("of_endpoint"))
    query = select(shard.c.id).where(shard.c.state == constant(ShardState.PENDING), *of_queue, *which)
    return query.order_by(shard.c.rung_at, shard.c.not_before).limit(bindparam("most"))


_FRESH = _first(shard.c.rung_at.is_(None), shard.c.not_before <= NOW)
_ANNOUNCED = _first(shard.c.rung_at.is_not(None))
_UNHEARD = _first(shard.c.rung_at < NOW - _UNHEARD_S)


class Bells:
    """The doorbells of one ledger; only for shards that could be claimed, whose endpoint is not barred.

    Parameters
    ----------
    db : Database
    rules : Rules
    """

    def __init__(self, db: Database, rules: Rules) -> None:
        self._db = db
        self._rules = rules

    def fresh(self, lane: Lane) -> tuple[Doorbell, ...]:
        """Note the next shards of a lane as announced that are due and were not; as many as `AT_A_TIME` allows."""
        with self._db.read() as connection:
            endpoints = self._open(connection, lane)
            if not _found(connection, _FRESH, lane, endpoints, 1) or not _room(connection, lane, endpoints):
                return ()
        with self._db.write("rung") as connection:
            return _note(connection, _FRESH, lane, endpoints, _room(connection, lane, endpoints))

    def unheard(self, lane: Lane) -> bool:
        """Whether a shard was announced a while ago and nobody has claimed it."""
        with self._db.read() as connection:
            return bool(_found(connection, _UNHEARD, lane, self._open(connection, lane), 1))

    def again(self, lane: Lane) -> tuple[Doorbell, ...]:
        """Note the shards as announced once more that were announced a while ago and that nobody has claimed."""
        with self._db.write("rung") as connection:
            return _note(connection, _UNHEARD, lane, self._open(connection, lane), AT_A_TIME)

    def take_back(self, doorbells: Sequence[Doorbell]) -> None:
        """Note that these could not be rung, unless the shard was claimed or announced by somebody else since."""
        with self._db.write("ring") as connection:
            for doorbell in doorbells:
                rung = and_(shard.c.id == doorbell.shard_id, shard.c.dispatch_no == doorbell.dispatch_no)
                connection.execute(update(shard).where(rung).values(rung_at=None))

    def _open(self, connection: Connection, lane: Lane) -> list[str]:
        return [queue.endpoint for queue in open_queues(connection, self._rules, Remit((lane,)))]


def _found(connection: Connection, query: Select[str], lane: Lane, endpoints: Sequence[str], most: int) -> list[str]:
    """Return ids of at most so many shards, of one endpoint after the other."""
    ids: list[str] = []
    for key in endpoints:
        of_queue = {"of_rank": lane.rank, "of_endpoint": key, "most": most - len(ids)}
        ids += connection.execute(query, of_queue).scalars().all()
    return ids


def _room(connection: Connection, lane: Lane, endpoints: Sequence[str]) -> int:
    return AT_A_TIME - len(_found(connection, _ANNOUNCED, lane, endpoints, AT_A_TIME))


def _note(
    connection: Connection, query: Select[str], lane: Lane, endpoints: Sequence[str], most: int
) -> tuple[Doorbell, ...]:
    # A claim has locked its shard already: it need not be told.
    found = _found(connection, query.with_for_update(skip_locked=True), lane, endpoints, most)
    rows = connection.execute(
        update(shard)
        .where(shard.c.id.in_(found))
        .values(dispatch_no=shard.c.dispatch_no + 1, rung_at=NOW)
        .returning(shard.c.id, shard.c.dispatch_no, shard.c.kind)
    )
    return tuple(Doorbell(row.id, row.dispatch_no, row.kind, lane) for row in rows)
