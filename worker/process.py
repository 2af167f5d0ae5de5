"""The worker's process: polls the ledger, or answers the doorbell; stops in order; takes back what others lost."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from models.domain.errors import LedgerError, LedgerUnavailable, SettingsInvalid, SlidewireError
from worker.doorbell import QUEUES, ring
from worker.engine import Engine
from worker.health import watched_over
from worker.ledger import Ledger, Remit
from worker.pipeline import Cancellation
from worker.wiring import Installation

_log = structlog.get_logger(__name__)
_SWEEP_S = 10.0
_STOP_S = 2.0
_TURN_S = 120.0  # a look into the ledger takes as long as its patience with other writers, and a connection


@contextmanager
def stopping_on_signals(cancellation: Cancellation) -> Iterator[None]:
    """Cancel on SIGTERM and SIGINT: the shard in hand is checkpointed and given back."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        cancellation.cancel()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def poll(installation: Installation, remit: Remit, *, drain: bool = False, leave_after_s: float = math.inf) -> int:
    """Work off the ledger without a broker.

    Parameters
    ----------
    installation : Installation
    remit : Remit
        Only jobs within it.
    drain : bool
        Leave when nothing is left, rather than wait for more.
    leave_after_s : float
        Leave when there was nothing to claim for so long; while the ledger does not answer, nobody knows.

    Returns
    -------
    int
        Shards worked on.
    """
    if installation.settings.broker_url:
        _log.info("the broker is not listened to: this worker looks into the ledger by itself")
    cancellation, worked = Cancellation(), 0
    engine = Engine(installation, cancellation, remit=remit)
    activity = installation.activity
    shards, idle, idle_since = installation.ledger.shards, threading.Event(), time.monotonic()
    try:
        with stopping_on_signals(cancellation), watched_over(installation, cancellation):
            activity.expect("poll", installation.settings.poll_s + _TURN_S)
            while not cancellation.cancelled:
                activity.turned("poll")
                try:
                    shards.reap()
                    if engine.run_next():
                        worked, idle_since = worked + 1, time.monotonic()
                        continue
                    if drain and not shards.remaining(remit=remit):
                        break
                    if time.monotonic() - idle_since >= leave_after_s:
                        _log.info("nothing to do: this worker leaves", idle_s=round(time.monotonic() - idle_since, 1))
                        break
                except LedgerUnavailable as exc:
                    if drain:
                        raise
                    _log.warning("the ledger does not answer", error=exc.message)
                    idle_since = time.monotonic()
                idle.wait(installation.settings.poll_s)
    finally:
        engine.close()
    return worked


class Sweeper(threading.Thread):
    """Takes back expired leases and rings for shards that nobody was told of: every ten seconds, and when woken.

    A thread of its own, so that a broker that does not answer holds up nobody's work.

    Parameters
    ----------
    ledger : Ledger
    app : celery.Celery
    """

    def __init__(self, ledger: Ledger, app: object) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._ledger, self._app = ledger, app
        self._awake, self._over = threading.Event(), threading.Event()

    def run(self) -> None:
        """Sweep until told to stop."""
        while not self._over.is_set():
            self._awake.clear()
            try:
                self._ledger.shards.reap()
                ring(self._ledger, self._app)
            except LedgerError as exc:
                _log.warning("the ledger does not answer", error=exc.message)
            self._awake.wait(_SWEEP_S)

    def wake(self) -> None:
        """Sweep now."""
        self._awake.set()

    def stop(self) -> None:
        """Stop, and wait for it; not for long, as a broker may hang."""
        self._over.set()
        self._awake.set()
        self.join(_STOP_S)


def serve_broker(installation: Installation, remit: Remit) -> None:
    """Answer the doorbell until told to stop: a Celery worker, one shard at a time, only jobs within a remit.

    Its queues are those of lanes: it hears of jobs of all encoders.

    Raises
    ------
    SettingsInvalid
        The environment asks Celery for a shutdown that would lose the running message.
    SlidewireError
        Celery gave up though nobody asked it to.
    """
    if "REMAP_SIGTERM" in os.environ:
        raise SettingsInvalid("REMAP_SIGTERM makes Celery lose the running shard's message: unset it.")
    from worker.app import make_app
    from worker.consumer import watch_consumer
    from worker.tasks import register

    app = make_app(installation.settings.broker_url)
    cancellation = Cancellation()
    sweeper = Sweeper(installation.ledger, app)
    engine = Engine(installation, cancellation, after_shard=sweeper.wake, remit=remit)
    register(app, engine, cancellation, installation.settings.turn_s)
    watch_consumer(app, installation.activity)
    sweeper.start()
    try:
        with watched_over(installation, cancellation, broker_url=installation.settings.broker_url):
            app.worker_main(
                [
                    "worker",
                    "--pool=solo",
                    "--concurrency=1",
                    "--without-gossip",
                    "--without-mingle",
                    "--loglevel=WARNING",
                    f"--hostname={installation.owner.replace('/', '-')}@slidewire",
                    f"--queues={','.join(QUEUES[lane] for lane in remit.lanes)}",
                ]
            )
    finally:
        sweeper.stop()
        engine.close()
    if not cancellation.cancelled:
        raise SlidewireError("The Celery worker ended by itself: look at the last lines of its log.")
