"""The outbox: which shards workers were told of through the broker, and when.

A shard is noted as announced before its message is sent: of several processes one sends it. What is lost between the
two, or in the broker, is unheard of; it is announced again once its lane's queue has run empty.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select, update

from models.domain.job import Lane
from worker.ledger.claim import open_queues
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.records import Doorbell, Rules, ShardState
from worker.ledger.schema import shard

AT_A_TIME: Final = 500
"""Shards of a lane that may be announced and unclaimed; the others wait in the ledger, not in the broker."""

_UNHEARD_S = 15.0
_FRESH = and_(shard.c.rung_at.is_(None), shard.c.not_before <= NOW)
_ANNOUNCED = shard.c.rung_at.is_not(None)
_UNHEARD = shard.c.rung_at < NOW - _UNHEARD_S


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
            pending = self._pending(connection, lane)
            if not _any(connection, pending & _FRESH) or not _room(connection, pending):
                return ()
        with self._db.write("rung") as connection:
            return _note(connection, lane, pending & _FRESH, _room(connection, pending))

    def unheard(self, lane: Lane) -> bool:
        """Whether a shard was announced a while ago and nobody has claimed it."""
        with self._db.read() as connection:
            return _any(connection, self._pending(connection, lane) & _UNHEARD)

    def again(self, lane: Lane) -> tuple[Doorbell, ...]:
        """Note the shards as announced once more that were announced a while ago and that nobody has claimed."""
        with self._db.write("rung") as connection:
            return _note(connection, lane, self._pending(connection, lane) & _UNHEARD, AT_A_TIME)

    def take_back(self, doorbells: Sequence[Doorbell]) -> None:
        """Note that these could not be rung, unless the shard was claimed or announced by somebody else since."""
        with self._db.write("ring") as connection:
            for doorbell in doorbells:
                rung = and_(shard.c.id == doorbell.shard_id, shard.c.dispatch_no == doorbell.dispatch_no)
                connection.execute(update(shard).where(rung).values(rung_at=None))

    def _pending(self, connection: Connection, lane: Lane) -> ColumnElement[bool]:
        open_now = [queue.endpoint for queue in open_queues(connection, self._rules, [lane])]
        of_lane = and_(shard.c.state == ShardState.PENDING, shard.c.rank == lane.rank)
        return and_(of_lane, shard.c.endpoint.in_(open_now))


def _any(connection: Connection, which: ColumnElement[bool]) -> bool:
    return connection.execute(select(exists().where(which))).scalar_one()


def _room(connection: Connection, pending: ColumnElement[bool]) -> int:
    announced = select(shard.c.id).where(pending, _ANNOUNCED).limit(AT_A_TIME).subquery()
    return AT_A_TIME - connection.execute(select(func.count()).select_from(announced)).scalar_one()


def _note(connection: Connection, lane: Lane, which: ColumnElement[bool], limit: int) -> tuple[Doorbell, ...]:
    # A claim has locked its shard already: it need not be told.
    query = select(shard.c.id).where(which).limit(limit).with_for_update(skip_locked=True)
    found = connection.execute(query).scalars().all()
    rows = connection.execute(
        update(shard)
        .where(shard.c.id.in_(found))
        .values(dispatch_no=shard.c.dispatch_no + 1, rung_at=NOW)
        .returning(shard.c.id, shard.c.dispatch_no, shard.c.kind)
    )
    return tuple(Doorbell(row.id, row.dispatch_no, row.kind, lane) for row in rows)
