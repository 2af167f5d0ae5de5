"""How often processes get something done: each does it over and over for some seconds, all at once."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier

import numpy as np

Deed = Callable[[str], AbstractContextManager[Callable[[], object]]]
"""Opens the database of a URL, and gives what is to be done there over and over."""

PROCESSES = 4
_barrier: Barrier


@dataclass(frozen=True)
class Rate:
    """What was done in one round."""

    per_s: float
    p50_ms: float
    p99_ms: float


class Hands:
    """Processes that are started once and then used round by round."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def rate(self, deed: Deed, url: str, processes: int, seconds: float) -> Rate:
        """Let some of the processes do it for some seconds."""
        work = partial(_work, deed, url, seconds, together=processes == PROCESSES)
        latencies = [done.result() for done in [self._pool.submit(work) for _ in range(processes)]]
        return Rate(sum(len(each) / sum(each) for each in latencies), *percentiles(np.concatenate(latencies)))


def percentiles(latencies_s: "np.ndarray[tuple[int], np.dtype[np.float64]] | list[float]") -> tuple[float, float]:
    """Return the 50th and the 99th, in ms."""
    p50, p99 = np.percentile(latencies_s, [50, 99]) * 1000
    return round(float(p50), 2), round(float(p99), 2)


@contextmanager
def hands() -> Iterator[Hands]:
    """Keep the processes for the length of a block."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    with ProcessPoolExecutor(PROCESSES, context, _begin, (barrier,)) as pool:
        yield Hands(pool)


def _begin(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603 - the only way into a pool's processes
    _barrier = barrier


def _work(deed: Deed, url: str, seconds: float, *, together: bool) -> list[float]:
    latencies: list[float] = []
    with deed(url) as do:
        do()  # connects, compiles
        if together:
            _barrier.wait()
        started = before = time.perf_counter()
        while before - started < seconds:
            do()
            now = time.perf_counter()
            latencies.append(now - before)
            before = now
    return latencies
