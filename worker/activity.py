"""What a process is doing, for who asks whether it lives: when the work in hand moved last, and when its loops turned.

Safe to use from several threads. It says what it was told: a thread that hangs tells nothing, and that is the answer.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Activity:
    """The signs of life of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loops: dict[str, tuple[float, float]] = {}
        self._work: tuple[Callable[[], float], float] | None = None

    def expect(self, loop: str, within_s: float) -> None:
        """From now on a loop is to turn at least every so often."""
        with self._lock:
            self._loops[loop] = (time.monotonic(), within_s)

    def turned(self, loop: str) -> None:
        """Note that a loop has turned; one that nobody expects is not looked at."""
        with self._lock:
            if loop in self._loops:
                self._loops[loop] = (time.monotonic(), self._loops[loop][1])

    def forget(self, loop: str) -> None:
        """Expect nothing more of a loop, as while it waits for somebody else."""
        with self._lock:
            self._loops.pop(loop, None)

    @contextmanager
    def working(self, still_s: Callable[[], float], within_s: float) -> Iterator[None]:
        """Note for the length of a block that there is work in hand, meanwhile no loop is expected to turn.

        Parameters
        ----------
        still_s : callable
            Returns for how many seconds nothing in it has moved.
        within_s : float
            How long that may be.
        """
        with self._lock:
            self._work = (still_s, within_s)
        try:
            yield
        finally:
            with self._lock:
                self._work, now = None, time.monotonic()
                self._loops = {name: (now, bound_s) for name, (_, bound_s) in self._loops.items()}

    @property
    def busy(self) -> bool:
        """Whether there is work in hand."""
        return self._work is not None

    @property
    def still_s(self) -> float:
        """Seconds since the work in hand moved; 0 without any."""
        work = self._work
        return 0.0 if work is None else work[0]()

    def complaints(self) -> tuple[str, ...]:
        """Return why the process cannot be taken for alive; empty while it can."""
        with self._lock:
            work, loops = self._work, dict(self._loops)
        if work is not None:
            still_s, within_s = work[0](), work[1]
            late = still_s > within_s
            return (f"the work in hand has not moved for {still_s:.0f} s, and {within_s:g} s are allowed",) * late
        now = time.monotonic()
        return tuple(
            f"the loop {name!r} has not turned for {now - at:.0f} s, and {within_s:g} s are allowed"
            for name, (at, within_s) in sorted(loops.items())
            if now - at > within_s
        )
