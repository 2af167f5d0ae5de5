"""A fleet of workers as a discrete-event simulation: what takes how long, what is shared, and what that comes to.

Shared by all are the archive's bandwidth, the ledger (one transaction after the other) and the one process that
submits slides. A worker takes a shard, embeds it at the pace of its slowest stage, completes it; the last shard of a
slide is followed by its publication. Workers crash: the rest of the shard from the last checkpoint on waits for the
lease to run out, then is done by somebody.
"""

import heapq
import random
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field

SHARD_PATCHES = 4096
LEASE_S = 60.0
CHECKPOINT_S = 20.0
HEARTBEAT_S = 15.0
RESTART_S = 20.0
_AHEAD = 500  # slides that are submitted and not begun


@dataclass(frozen=True)
class Rates:
    """What was measured, or is assumed; `docs/benchmarks.md` says which.

    Rates are in patches a second: of a GPU's encoder, of what a worker's cores decode and cut, of one connection to the
    archive.
    """

    encoder: float = 1000.0
    cores: float = 2900.0
    connection: float = 1450.0
    connections: int = 2
    patch_bytes: float = 13_300.0
    archive_bytes_s: float = 1.25e9
    transaction_s: float = 0.002
    submit_s: float = 0.5
    open_s: float = 0.46
    publish_s: float = 0.7
    crashes_per_h: float = 0.01
    patches: float = 10_000.0
    spread: float = 0.5

    def own(self) -> float:
        """Return the rate of a worker that has the archive for itself."""
        return min(self.encoder, self.cores, self.connection * self.connections)


@dataclass
class Outcome:
    """What became of it: seconds in all, and of each resource the share of that time in which it was busy."""

    seconds: float
    patches: int
    crashes: int
    busy: dict[str, float]

    @property
    def bottleneck(self) -> str:
        """The busiest of the resources."""
        return max(self.busy, key=lambda name: self.busy[name])


@dataclass(order=True)
class _Shard:
    due: float
    patches: int = field(compare=False)
    slide: int = field(compare=False)


class Fleet:
    """One run: `workers` workers do `slides` slides.

    Parameters
    ----------
    workers, slides : int
    rates : Rates
    seed : int
        The same one gives the same run.
    """

    def __init__(self, workers: int, slides: int, rates: Rates, seed: int = 1) -> None:
        self._workers, self._slides, self._rates = workers, slides, rates
        self._random = random.Random(seed)
        self._waiting: deque[_Shard] = deque()
        self._later: list[_Shard] = []  # not due yet: left behind by workers that crashed, or being submitted
        self._open: dict[int, int] = {}  # shards that are not done, of slides that are submitted
        self._submitted, self._feeder_free, self._ledger_free = 0, 0.0, 0.0
        self._spent = dict.fromkeys(("gpu", "cores", "archive", "ledger", "feeder"), 0.0)
        self._patches = self._crashes = self._embedding = 0

    def run(self) -> Outcome:
        """Return the outcome."""
        workers = [self._worker() for _ in range(self._workers)]
        wakes = [(next(worker), number) for number, worker in enumerate(workers)]
        now = 0.0
        while wakes:
            now, number = heapq.heappop(wakes)
            with suppress(StopIteration):
                heapq.heappush(wakes, (workers[number].send(now), number))
        each = {"gpu": self._workers, "cores": self._workers}
        busy = {name: spent / now / each.get(name, 1) for name, spent in self._spent.items()}
        return Outcome(now, self._patches, self._crashes, busy)

    def _worker(self) -> Generator[float, float, None]:
        """Work until nothing is left: yields until when a step takes, and is sent that moment."""
        now, at_hand = (yield 0.0), None
        while (shard := self._next(now)) is not None:
            if shard.due > now:
                heapq.heappush(self._later, shard)
                now = yield shard.due
                continue
            now = yield self._ledger(now, 1)
            if shard.slide != at_hand:
                now, at_hand = (yield now + self._rates.open_s), shard.slide
            self._embedding += 1
            embed_s = shard.patches / min(self._rates.own(), self._share())
            crash_s = self._random.expovariate(self._rates.crashes_per_h / 3600)
            now = yield now + min(embed_s, crash_s)
            self._embedding -= 1
            if crash_s < embed_s:
                self._leave_behind(shard, now, crash_s / embed_s)
                now, at_hand = (yield now + RESTART_S), None
                continue
            self._embed(shard.patches)
            # The last checkpoint, a heartbeat, completion; and what came meanwhile.
            now = yield self._ledger(now, 3 + int(embed_s / HEARTBEAT_S) + int(embed_s / CHECKPOINT_S))
            self._open[shard.slide] -= 1
            if not self._open[shard.slide]:
                del self._open[shard.slide]
                now = yield now + self._rates.publish_s
                now = yield self._ledger(now, 4)  # claim, heartbeat, publication, checkpoints removed

    def _next(self, now: float) -> _Shard | None:
        while self._submitted < self._slides and len(self._open) < _AHEAD and self._feeder_free <= now:
            self._submit()
        if self._later and self._later[0].due <= now:
            return heapq.heappop(self._later)
        if not self._waiting and self._submitted < self._slides:
            self._submit()
        if self._waiting:
            return self._waiting.popleft()
        return heapq.heappop(self._later) if self._later else None

    def _submit(self) -> None:
        rates, slide = self._rates, self._submitted
        patches = max(1, round(rates.patches * self._random.lognormvariate(-(rates.spread**2) / 2, rates.spread)))
        self._feeder_free += rates.submit_s
        self._spent["feeder"] += rates.submit_s
        self._spent["ledger"] += rates.transaction_s
        sizes = [min(SHARD_PATCHES, patches - start) for start in range(0, patches, SHARD_PATCHES)]
        self._waiting.extend(_Shard(self._feeder_free, size, slide) for size in sizes)
        self._open[slide] = len(sizes)
        self._patches += patches
        self._submitted += 1

    def _share(self) -> float:
        """Return the patches a second that the archive gives one of those that read now."""
        return self._rates.archive_bytes_s / self._rates.patch_bytes / self._embedding

    def _leave_behind(self, shard: _Shard, now: float, share_done: float) -> None:
        """Keep what is in checkpoints; the rest waits until the lease is over."""
        self._crashes += 1
        done = int(shard.patches * share_done)
        kept = max(0, done - int(self._rates.own() * self._random.uniform(0.0, CHECKPOINT_S)))
        self._embed(done)
        heapq.heappush(self._later, _Shard(now + LEASE_S, shard.patches - kept, shard.slide))

    def _embed(self, patches: int) -> None:
        rates = self._rates
        self._spent["gpu"] += patches / rates.encoder
        self._spent["cores"] += patches / min(rates.cores, rates.connection * rates.connections)
        self._spent["archive"] += patches * rates.patch_bytes / rates.archive_bytes_s

    def _ledger(self, now: float, transactions: int) -> float:
        """Return when transactions that are asked for now are over; they come one after the other."""
        took = transactions * self._rates.transaction_s
        self._spent["ledger"] += took
        self._ledger_free = max(now, self._ledger_free) + took
        return self._ledger_free
