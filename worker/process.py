"""The worker's process: polls the ledger, or answers the doorbell; stops in order; takes back what others lost."""

import os
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from models.domain.errors import LedgerError, LedgerUnavailable, SettingsInvalid, SlidewireError
from worker.doorbell import QUEUES, ring
from worker.engine import Engine
from worker.ledger import Lane, Ledger
from worker.pipeline import Cancellation
from worker.wiring import Installation

_log = structlog.get_logger(__name__)
_SWEEP_S = 10.0
_STOP_S = 2.0


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


def poll(installation: Installation, lanes: Collection[Lane], *, drain: bool = False) -> int:
    """Work off the ledger without a broker.

    Parameters
    ----------
    installation : Installation
    lanes : collection of Lane
        Only jobs of these.
    drain : bool
        Leave when nothing is left, rather than wait for more.

    Returns
    -------
    int
        Shards worked on.
    """
    cancellation, worked = Cancellation(), 0
    engine = Engine(installation, cancellation, lanes=lanes)
    shards, idle = installation.ledger.shards, threading.Event()
    try:
        with stopping_on_signals(cancellation):
            while not cancellation.cancelled:
                try:
                    shards.reap()
                    if engine.run_next():
                        worked += 1
                        continue
                    if drain and not shards.remaining():
                        break
                except LedgerUnavailable as exc:
                    if drain:
                        raise
                    _log.warning("the ledger does not answer", error=exc.message)
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


def serve_broker(installation: Installation, lanes: Collection[Lane]) -> None:
    """Answer the doorbell until told to stop: a Celery worker, one shard at a time, only jobs of these lanes.

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
    from worker.tasks import register

    app = make_app(installation.settings.broker_url)
    cancellation = Cancellation()
    sweeper = Sweeper(installation.ledger, app)
    engine = Engine(installation, cancellation, after_shard=sweeper.wake, lanes=lanes)
    register(app, engine, cancellation, installation.settings.turn_s)
    sweeper.start()
    try:
        app.worker_main(
            [
                "worker",
                "--pool=solo",
                "--concurrency=1",
                "--without-gossip",
                "--without-mingle",
                "--loglevel=WARNING",
                f"--hostname={installation.owner.replace('/', '-')}@slidewire",
                f"--queues={','.join(QUEUES[lane] for lane in lanes)}",
            ]
        )
    finally:
        sweeper.stop()
        engine.close()
    if not cancellation.cancelled:
        raise SlidewireError("The Celery worker ended by itself: look at the last lines of its log.")
