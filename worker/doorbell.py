"""The doorbell: tells workers through the broker that shards are ready. The ledger knows it anyway."""

from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

import structlog

from worker.killpoint import reach
from worker.ledger import Doorbell, Lane, Ledger

TASK: Final = "slidewire.run"
_AT_A_TIME = 500
QUEUES: Final = {Lane.INTERACTIVE: "embed.interactive", Lane.STANDARD: "embed.std", Lane.BACKFILL: "embed.backfill"}
_log = structlog.get_logger(__name__)


def ring(ledger: Ledger, app: Any) -> int:
    """Send a message for every shard that is due and was not announced lately.

    A broker that does not answer is no error: the next call announces again, and workers poll the ledger
    in any case.

    Parameters
    ----------
    ledger : Ledger
    app : celery.Celery

    Returns
    -------
    int
        Messages sent.
    """
    sent = 0
    for doorbell in ledger.shards.doorbells(_AT_A_TIME):
        try:
            reach("ring.before_send")
            _send(app, doorbell)
            reach("ring.after_send")
        except Exception as exc:  # noqa: BLE001 - brokers and their clients raise what they like
            _log.warning("the broker does not answer; shards wait in the ledger", error=type(exc).__name__)
            return sent
        ledger.shards.rung(doorbell)
        sent += 1
    return sent


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
    )
