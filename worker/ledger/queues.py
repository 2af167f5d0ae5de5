"""The queue that a shard stands in: that of its encoder at its endpoint, for workers of certain encoders."""

from sqlalchemy import ColumnElement, Text, and_, bindparam, exists, select, update

from worker.ledger.constant import constant
from worker.ledger.database import Database
from worker.ledger.records import ShardState
from worker.ledger.schema import job, shard

_SPACE = " "  # in no encoder's name
_NAMELESS = and_(shard.c.state == constant(ShardState.PENDING), shard.c.queue == constant(""))
_ANY_NAMELESS = select(exists().where(_NAMELESS))
_ENTER = (
    update(shard)
    .where(_NAMELESS)
    .values(
        queue=select(job.c.encoder.concat(_SPACE).concat(shard.c.endpoint))
        .where(job.c.id == shard.c.job_id)
        .scalar_subquery()
    )
)


def queue_of(encoder: str, endpoint: str) -> str:
    """Return the name of the queue of an encoder at an endpoint."""
    return f"{encoder}{_SPACE}{endpoint}"


def encoder_of(queue: str) -> str:
    """Return the encoder in the name of a queue."""
    return queue.partition(_SPACE)[0]


def queue_at(endpoint: ColumnElement[str]) -> ColumnElement[str]:
    """Return the name of the queue at an endpoint in SQL; the parameter ``of_encoder`` is the encoder."""
    return bindparam("of_encoder", type_=Text).concat(constant(_SPACE)).concat(endpoint)


def enter_nameless(db: Database) -> None:
    """Put the waiting shards into their queues that stand in none: older processes insert such ones."""
    with db.read() as connection:
        if not connection.execute(_ANY_NAMELESS).scalar_one():
            return
    with db.write("enter") as connection:
        connection.execute(_ENTER)
