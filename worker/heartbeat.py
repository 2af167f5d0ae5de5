"""The heartbeat of a shard: renews its lease while work moves on, and ends a process in which nothing moves."""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType, TracebackType
from typing import Final, NoReturn, Self

import structlog

from models.domain.errors import JobCancelled, LeaseLost, LedgerError, LedgerUnavailable, SlidewireError, WorkerLost
from worker.ledger import Lease, Ledger
from worker.pipeline import Cancellation

EXIT_HUNG: Final = 75  # EX_TEMPFAIL: whoever started the worker starts it again
_FIRST_BEAT_S = 1.0  # soon: a slide that brings its worker down at once should leave a trace
_log = structlog.get_logger(__name__)


def end_process(error: SlidewireError) -> NoReturn:
    """Say why and end this process, though some threads hang; nothing is cleaned up, the ledger knows what is safe."""
    sys.stderr.write(f"slidewire: {error.code}: {error.message}\n")
    sys.stderr.flush()
    os._exit(EXIT_HUNG)


class Pulse:
    """Renews one lease from a thread of its own, for as long as there is progress.

    A thread that hangs in a decoder, a driver or a socket cannot be stopped: without progress the shard is given back
    as one that brought down its worker, and the process ends.

    Parameters
    ----------
    ledger : Ledger
    lease : Lease
    cancellation : Cancellation
        Cancelled when the lease is lost or the job cancelled.
    every_s, stall_s : float
        Between renewals, and without progress until the process is taken for hung.
    on_hang : callable
        Ends the process.
    """

    def __init__(
        self,
        ledger: Ledger,
        lease: Lease,
        cancellation: Cancellation,
        *,
        every_s: float,
        stall_s: float,
        on_hang: Callable[[WorkerLost], None] = end_process,
    ) -> None:
        self._ledger, self._lease, self._cancellation = ledger, lease, cancellation
        self._every_s, self._stall_s, self._on_hang = every_s, stall_s, on_hang
        self._done, self._stage = 0, "starting"
        self._moved = time.monotonic()
        self._over = threading.Event()
        # In the context of who works: what the heartbeat logs says of which shard.
        self._thread = threading.Thread(target=copy_context().run, args=(self._run,), name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def enter(self, stage: str) -> None:
        """Note progress: the work has come to another stage."""
        self._stage = stage
        self._moved = time.monotonic()

    def advance(self, patches: int) -> None:
        """Note progress: `patches` more are embedded."""
        self._done += patches
        self._moved = time.monotonic()

    @property
    def still_s(self) -> float:
        """Seconds since there was progress."""
        return time.monotonic() - self._moved

    @property
    def patches_done(self) -> int:
        """Patches of the shard that are embedded."""
        return self._done

    def beat(self) -> None:
        """Renew the lease now."""
        if self._ledger.shards.heartbeat(self._lease, self._done, self._note()).cancel_requested:
            self._cancellation.cancel(JobCancelled("The job was cancelled."))

    def _note(self) -> str:
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return f"{self._stage}, {self._done} of {self._lease.stop - self._lease.start} patches, peak {peak_mb} MB"

    def _run(self) -> None:
        wait_s = min(_FIRST_BEAT_S, self._every_s)
        while not self._over.wait(wait_s):
            wait_s = self._every_s
            if self.still_s > self._stall_s:
                self._hang()
                return
            try:
                self.beat()
            except LeaseLost as exc:
                self._cancellation.cancel(exc)
                return
            except LedgerUnavailable:
                _log.warning("the ledger does not answer")
                wait_s = min(_FIRST_BEAT_S, self._every_s)  # at hand when it does: before anybody reaps

    def _hang(self) -> None:
        detail = f"{self._note()}; threads at {'; '.join(_places())}"
        _log.error("hung: this process ends", where=detail)
        error = WorkerLost(
            f"Nothing has moved for {self._stall_s:g} s, so this process ends; "
            "the job goes on from its last checkpoint with the next worker, or when it is asked for again."
        )
        try:
            self._ledger.shards.fail(self._lease, error, detail)
        except LedgerError:
            _log.warning("the lease runs out by itself")
        self._on_hang(error)


def _places() -> list[str]:
    """Return where each thread is: file, line and function, innermost first; never a value."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    places = []
    for ident, innermost in sys._current_frames().items():  # noqa: SLF001 - documented, for debuggers
        frame: FrameType | None = innermost
        stack: list[str] = []
        while frame is not None and len(stack) < 3:
            code = frame.f_code
            stack.append(f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {code.co_name}")
            frame = frame.f_back
        places.append(f"{names.get(ident, 'unknown')}: {' < '.join(stack)}")
    return places
