"""What the fleet knows of the servers it reads from: a circuit breaker and a bucket of tokens each."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from models.domain.errors import RequestError
from worker.ledger.breaker import Breaker, BreakerState, Calls
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.records import EndpointRecord, ShardState, Standing
from worker.ledger.schema import endpoint, shard

_BREAKER = ("state", "code", "outcomes", "trips", "open_until", "probe_until", "succeeded_at")
_BURST_S = 1.0  # an idle bucket holds the requests of so many seconds


class EndpointBook:
    """The endpoints of one ledger.

    Parameters
    ----------
    db : Database
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def standing(self, key: str) -> Standing:
        """Return whether an endpoint may be asked; one of which nothing is known may."""
        with self._db.read() as connection:
            row = connection.execute(_rows(key)).one_or_none()
        return Standing() if row is None else _standing(_breaker(row), row.now)

    def note(self, key: str, calls: Calls) -> Standing:
        """Take note of what calls came to; return where the endpoint stands then."""
        with self._db.write("note") as connection:
            row = _locked(connection, key)
            breaker = _breaker(row)
            after = breaker.after(calls, row.now)
            if after != breaker:
                _store(connection, key, after)
        return _standing(after, row.now)

    def draw(self, key: str, count: int, rate: float, most_s: float) -> float:
        """Take tokens out of an endpoint's bucket, which fills at `rate` a second up to a second's worth.

        Parameters
        ----------
        key : str
        count : int
        rate : float
        most_s : float
            The longest wait that makes sense.

        Returns
        -------
        float
            Seconds after which the tokens are good, so that who asks first is served first; if they are more than
            `most_s`, nothing was taken.
        """
        with self._db.write("draw") as connection:
            row = _locked(connection, key)
            now = max(row.now, row.tokens_at)  # told before the row's lock was waited for
            full = max(1.0, rate * _BURST_S)
            left = min(full, row.tokens + (now - row.tokens_at) * rate) - count
            wait_s: float = max(0.0, -left / rate)
            if wait_s <= most_s:
                connection.execute(update(endpoint).where(endpoint.c.key == key).values(tokens=left, tokens_at=now))
        return wait_s

    def list(self) -> tuple[EndpointRecord, ...]:
        """Return all servers that jobs were read from, by key, with what waits for each."""
        counted = (
            select(shard.c.endpoint, shard.c.state, func.count().label("shards"))
            .where(shard.c.state.in_((ShardState.PENDING, ShardState.LEASED)))
            .group_by(shard.c.endpoint, shard.c.state)
        )
        with self._db.read() as connection:
            rows = connection.execute(_rows().where(endpoint.c.key != "").order_by(endpoint.c.key)).all()
            counts = {(row.endpoint, row.state): int(row.shards) for row in connection.execute(counted)}
        return tuple(
            _record(row, counts.get((row.key, ShardState.LEASED), 0), counts.get((row.key, ShardState.PENDING), 0))
            for row in rows
        )

    def resume(self, key: str) -> None:
        """Close the breaker of an endpoint by hand.

        Raises
        ------
        RequestError
            No job was ever read from it.
        """
        with self._db.write("resume") as connection:
            row = connection.execute(_rows(key).with_for_update()).one_or_none()
            if row is None or not key:
                raise RequestError("No job was read from an endpoint of that name; `slidewire endpoints` lists them.")
            _store(connection, key, _breaker(row).closed_by_hand(row.now))


def enter(connection: Connection, key: str) -> None:
    """Put an endpoint into the book, if it is not there: only shards of endpoints that are in it are claimed."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    fresh = asdict(Breaker()) | {"key": key, "tokens": 0.0, "tokens_at": 0.0}
    connection.execute(insert(endpoint).values(fresh).on_conflict_do_nothing(index_elements=[endpoint.c.key]))


def answered_since(connection: Connection, key: str, since: float) -> bool:
    """Whether a call of any worker to the endpoint has succeeded since a moment (seconds since 1970).

    An endpoint of which nothing is known counts as one that answers.
    """
    found = connection.execute(select(endpoint.c.succeeded_at).where(endpoint.c.key == key)).scalar_one_or_none()
    return found is None or found >= since


def _rows(key: str | None = None) -> Select[Any]:
    query = select(*endpoint.c, NOW.label("now"))
    return query if key is None else query.where(endpoint.c.key == key)


def _locked(connection: Connection, key: str) -> Row[Any]:
    """Return an endpoint's row, locked until the transaction ends; entered first if it is not there."""
    query = _rows(key).with_for_update()
    row = connection.execute(query).one_or_none()
    if row is None:
        enter(connection, key)
        row = connection.execute(query).one()
    return row


def _breaker(row: Row[Any]) -> Breaker:
    kept = {name: row._mapping[name] for name in _BREAKER}  # noqa: SLF001 - the documented way to a row's names
    return Breaker(**kept | {"state": BreakerState(row.state)})


def _store(connection: Connection, key: str, breaker: Breaker) -> None:
    connection.execute(update(endpoint).where(endpoint.c.key == key).values(asdict(breaker)))


def _standing(breaker: Breaker, now: float) -> Standing:
    if breaker.state is BreakerState.CLOSED:
        return Standing()
    return Standing(closed=False, pause_s=max(0.0, breaker.open_until - now), code=breaker.code)


def _record(row: Row[Any], leased: int, waiting: int) -> EndpointRecord:
    breaker = _breaker(row)
    paused = breaker.state is not BreakerState.CLOSED
    return EndpointRecord(
        key=row.key,
        state="half-open" if paused and breaker.open_until <= row.now else str(breaker.state),
        code=breaker.code,
        until=breaker.open_until if paused else None,
        leased=leased,
        waiting=waiting,
        succeeded_at=breaker.succeeded_at or None,
    )
