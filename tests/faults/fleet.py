"""Workers that are killed and started again: forked from processes with the imports done, so that kills hit work."""

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.passing import waits_are_over
from tests.services.command import Slidewire
from tests.services.ports import wait_until
from tests.services.warm import WarmProcess

_QUARANTINED = "SELECT count(*) FROM job WHERE state = 'quarantined'"
_OPEN = "SELECT count(*) FROM job WHERE state IN ('queued', 'running')"


class Fleet:
    """Some workers of one ledger; a context manager that ends them in order, or kills them if the test fails.

    Parameters
    ----------
    slidewire : Slidewire
    processes : sequence of WarmProcess
        One for each worker.
    armed : sequence of str
        What shall go wrong in each: see `tests.services.armed`.
    """

    def __init__(self, slidewire: Slidewire, processes: Sequence[WarmProcess], armed: Sequence[str] = ()) -> None:
        self._slidewire, self._processes, self._armed = slidewire, processes, armed
        self._started, self._logs = 0, [Path()] * len(processes)
        self.pids = [self._start(number) for number in range(len(processes))]

    def log(self, number: int = 0) -> str:
        """Return what a worker has written to standard error so far."""
        return Path(f"{self._logs[number]}.err").read_text(errors="replace")

    def pause(self, number: int = 0) -> None:
        """Stop a worker where it is (SIGSTOP)."""
        os.kill(self.pids[number], signal.SIGSTOP)
        self.has_stopped(number)

    def has_stopped(self, number: int = 0) -> None:
        """Wait until a worker is stopped, by somebody else or by itself."""
        status = Path(f"/proc/{self.pids[number]}/stat")
        wait_until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", "the worker to stop", 60.0)

    def go_on(self, number: int = 0) -> None:
        """Let a stopped worker go on (SIGCONT)."""
        os.kill(self.pids[number], signal.SIGCONT)

    def kill(self, number: int) -> None:
        """End a worker by SIGKILL, and start another one in its place."""
        os.kill(self.pids[number], signal.SIGKILL)
        assert self._processes[number].end() == -signal.SIGKILL
        self.pids[number] = self._start(number)

    def stop(self) -> list[int]:
        """Send SIGTERM to all; return their exit statuses."""
        return self._end(signal.SIGTERM)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._end(signal.SIGKILL)
        else:  # one that has only just been started does not yet know what to do with a signal
            assert set(self.stop()) <= {0, -signal.SIGTERM}

    def _end(self, number: signal.Signals) -> list[int]:
        pids, self.pids = self.pids, []
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return [process.end() for process in self._processes[: len(pids)]]

    def _start(self, number: int) -> int:
        self._started += 1
        self._logs[number] = log = self._slidewire.folder / f"worker-{self._started}"
        variables, folder = self._slidewire.variables(), self._slidewire.folder
        return self._processes[number].begin(["worker"], variables, folder, log, self._armed)


@contextmanager
def forked(count: int) -> Iterator[list[WarmProcess]]:
    """Keep processes from which workers are forked."""
    processes = [WarmProcess() for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            process.stop()


def kill_at_random(fleet: Fleet, chance: random.Random, kills: int, pause_s: tuple[float, float]) -> Iterator[int]:
    """Kill one worker after the other at random moments; yield the number of kills after each."""
    moment = threading.Event()
    for number in range(kills):
        moment.wait(chance.uniform(*pause_s))
        fleet.kill(chance.randrange(len(fleet.pids)))
        yield number + 1


def open_jobs(slidewire: Slidewire) -> int:
    """Return how many jobs have not ended."""
    [(count,)] = slidewire.rows(_OPEN)
    return int(count)


def reopen_quarantined(slidewire: Slidewire) -> int:
    """Try jobs again that were quarantined, by design: a shard whose worker was killed three times."""
    [(count,)] = slidewire.rows(_QUARANTINED)
    if count:
        assert slidewire.rows("SELECT job_id FROM shard GROUP BY job_id HAVING max(crashes) = 3"), (
            "quarantined without three crashes"
        )
        slidewire.done("jobs", "retry", "--state", "quarantined")
    return int(count)


def settled(slidewire: Slidewire) -> Callable[[], bool]:
    """Return a question for `wait_until`: has every job ended otherwise than in quarantine?"""

    def over() -> bool:
        waits_are_over(slidewire)
        return not open_jobs(slidewire) and not reopen_quarantined(slidewire)

    return over
