"""The doorbell: tells workers through the broker that shards are ready. The ledger knows it anyway."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

import structlog

from worker.killpoint import reach
from worker.ledger import Doorbell, Lane, Ledger

TASK: Final = "slidewire.run"
QUEUES: Final = {Lane.INTERACTIVE: "embed.interactive", Lane.STANDARD: "embed.std", Lane.BACKFILL: "embed.backfill"}
_CONFIRM_S = 10.0  # for RabbitMQ to say that it has a message
_log = structlog.get_logger(__name__)


def ring(ledger: Ledger, app: Any) -> int:
    """Send a message for every shard that is due and was not announced, and again where messages were lost.

    Messages were lost if shards are announced and unclaimed though their lane's queue is empty. More than a few
    hundred are never under way. A broker that does not answer is no error: the next call announces again.

    Parameters
    ----------
    ledger : Ledger
    app : celery.Celery

    Returns
    -------
    int
        Messages sent.
    """
    bells, sent = ledger.bells, 0
    try:
        for lane in Lane:
            sent += _send_all(ledger, app, bells.fresh(lane))
            if bells.unheard(lane) and _is_empty(app, QUEUES[lane]):
                sent += _send_all(ledger, app, bells.again(lane))
    except _NoAnswer as exc:
        _log.warning("the broker does not answer; shards wait in the ledger", error=str(exc))
    return sent


class _NoAnswer(Exception):
    """The broker did not take or say something; holds the type of what its client raised."""


def _send_all(ledger: Ledger, app: Any, doorbells: Sequence[Doorbell]) -> int:
    for number, doorbell in enumerate(doorbells):
        try:
            reach("ring.before_send")
            _send(app, doorbell)
            reach("ring.after_send")
        except Exception as exc:  # brokers and their clients raise what they like
            ledger.bells.take_back(doorbells[number:])
            raise _NoAnswer(type(exc).__name__) from exc
    return len(doorbells)


def _send(app: Any, doorbell: Doorbell) -> None:
    message = {"v": 1, "shard": doorbell.shard_id, "n": doorbell.dispatch_no}
    app.send_task(
        TASK,
        args=[message],
        task_id=str(uuid5(NAMESPACE_OID, f"{doorbell.shard_id}/{doorbell.dispatch_no}")),
        queue=QUEUES[doorbell.lane],
        argsrepr="",  # else Celery copies the arguments into headers and logs
        kwargsrepr="",
        ignore_result=True,
        confirm_timeout=_CONFIRM_S,
    )


def _is_empty(app: Any, queue: str) -> bool:
    """Whether no message waits in a queue, which is made if there is none."""
    try:
        # A connection of its own: one of the pool may be a broker's that is no more.
        with app.connection_for_write() as connection, connection.channel() as channel:
            # Not passive: what is sent to a queue that is gone is dropped, and kombu finds none behind a key prefix.
            return not app.amqp.queues[queue].bind(channel).queue_declare().message_count
    except Exception as exc:
        raise _NoAnswer(type(exc).__name__) from exc
