"""The heartbeat of a shard: renews its lease while work moves on, and brings back word of a cancellation."""

import threading
import time
from types import TracebackType
from typing import Self

import structlog

from models.domain.errors import JobCancelled, LeaseLost, LedgerUnavailable
from worker.ledger import Lease, Ledger
from worker.pipeline import Cancellation

_log = structlog.get_logger(__name__)


class Pulse:
    """Renews one lease from a thread of its own, for as long as there is progress.

    A hung server or device stops the progress, then the renewals, and the shard goes to another worker.

    Parameters
    ----------
    ledger : Ledger
    lease : Lease
    cancellation : Cancellation
        Cancelled when the lease is lost or the job cancelled.
    every_s, stall_s : float
        Between renewals, and without progress until they end.
    """

    def __init__(
        self, ledger: Ledger, lease: Lease, cancellation: Cancellation, *, every_s: float, stall_s: float
    ) -> None:
        self._ledger, self._lease, self._cancellation = ledger, lease, cancellation
        self._every_s, self._stall_s = every_s, stall_s
        self._done = 0
        self._moved = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def advance(self, patches: int) -> None:
        """Note progress: `patches` more are embedded."""
        self._done += patches
        self._moved = time.monotonic()

    @property
    def patches_done(self) -> int:
        """Patches of the shard that are embedded."""
        return self._done

    def beat(self) -> None:
        """Renew the lease now."""
        if self._ledger.shards.heartbeat(self._lease, self._done).cancel_requested:
            self._cancellation.cancel(JobCancelled("The job was cancelled."))

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            if time.monotonic() - self._moved > self._stall_s:
                _log.warning("stalled", job=self._lease.job_id, shard=self._lease.index)
                continue
            try:
                self.beat()
            except LeaseLost as exc:
                self._cancellation.cancel(exc)
                return
            except LedgerUnavailable:
                _log.warning("ledger does not answer", job=self._lease.job_id)
