"""The one Celery task: wake up, and work for as long as there is something to do."""

import time
from typing import Any

import structlog
from celery import Celery, signals
from celery.exceptions import Reject

from models.domain.errors import LedgerUnavailable
from worker.doorbell import TASK
from worker.engine import Engine
from worker.pipeline import Cancellation

_log = structlog.get_logger(__name__)
_VERSION = 1


def register(app: Celery, engine: Engine, cancellation: Cancellation, turn_s: float) -> None:
    """Register the task on an application, bound to this process's engine.

    Parameters
    ----------
    app : Celery
    engine : Engine
    cancellation : Cancellation
        Set when the worker shuts down: the shard in hand is checkpointed and goes back.
    turn_s : float
        Seconds after which no further shard is begun under the same message, which goes back to the broker.
    """

    @app.task(name=TASK, bind=False, shared=False)  # type: ignore[untyped-decorator]
    def run(message: Any = None) -> None:
        """Claim the most urgent shard that is due, which need not be the one that rang, then the next; until none is.

        So a few messages do for many shards, and what they cannot say is found: that a server answers again, that
        another worker's place at it is free.
        """
        if shard_of(message) is None:
            _log.warning("a message that is none of ours was dropped")
            return
        turn_over = time.monotonic() + turn_s
        while not cancellation.cancelled:
            try:
                if not engine.run_next():
                    return
            except LedgerUnavailable:
                _log.warning("the ledger does not answer; the shard will be announced again")
                return
            if time.monotonic() > turn_over:
                break
        raise Reject(requeue=True)

    @signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def stop(**_: Any) -> None:
        cancellation.cancel()


def shard_of(message: Any) -> str | None:
    """Return the shard that a message names: ``{"v": 1, "shard": 32 hexadecimal digits, "n": int}``, else None."""
    if not isinstance(message, dict) or message.get("v") != _VERSION:
        return None
    shard = message.get("shard")
    if not isinstance(shard, str) or len(shard) != 32 or not set(shard) <= set("0123456789abcdef"):
        return None
    return shard
