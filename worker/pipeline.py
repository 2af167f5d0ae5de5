"""The pipeline: fetch, transform and encode side by side, bounded queues between them, one way to stop."""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from connectors.protocols import Source
from models.domain.errors import Interrupted
from models.domain.patch import BatchEmbedding
from models.domain.plan import Plan
from models.encoders.protocol import Encoder
from worker.stages.encode import encode_batches
from worker.stages.fetch import fetch_groups
from worker.stages.transform import cut_batches

T = TypeVar("T")
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of what is done at a time.

    Parameters
    ----------
    frames_a_group : int
        Frames that are fetched, decoded and dropped together.
    connections : int
        Groups under way at a time.
    decoders : int
        Threads.
    batches_ahead : int
        Batches waiting for the encoder.
    group_bytes : int
        Of a group's frames once decoded; large tiles come in smaller groups.
    """

    frames_a_group: int = 400
    connections: int = 2
    decoders: int = 2
    batches_ahead: int = 2
    group_bytes: int = 128 << 20


class Cancellation:
    """The one token that stops a pipeline; set from a signal handler or a heartbeat.

    Parameters
    ----------
    after : Cancellation or None
        A wider one (the worker's) that cancels this one (the shard's) too.
    """

    def __init__(self, after: "Cancellation | None" = None) -> None:
        self._event = threading.Event()
        self._after = after
        self.reason: Exception | None = None

    def cancel(self, reason: Exception | None = None) -> None:
        """Ask everything to stop; the first reason counts."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked."""
        return self._event.is_set() or (self._after is not None and self._after.cancelled)

    def check(self) -> None:
        """Raise the reason if somebody asked."""
        if self.cancelled:
            raise self.reason or Interrupted("The worker was asked to stop; the job goes on from its last checkpoint.")


def ahead(items: Iterable[T], depth: int, cancellation: Cancellation) -> Iterator[T]:
    """Run an iterable in a thread of its own, at most `depth` items ahead of who takes them.

    What the thread raises is raised here. When the taker stops early, the thread ends and its iterable
    is closed.
    """
    waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    gone = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> bool:
        while not (gone.is_set() or cancellation.cancelled):
            try:
                waiting.put(entry, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        iterator = iter(items)
        try:
            for item in iterator:
                if not put((item, None)):
                    return
            put((None, None))
        except BaseException as exc:  # noqa: BLE001 - it is raised again by the taker
            put((None, exc))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=run, name="transform", daemon=True)
    thread.start()
    try:
        yield from _taken(waiting, cancellation)
    finally:
        gone.set()
        thread.join()


def _taken(waiting: "queue.Queue[tuple[T | None, BaseException | None]]", cancellation: Cancellation) -> Iterator[T]:
    while True:
        cancellation.check()
        try:
            item, error = waiting.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        if error is not None:
            raise error
        if item is None:
            return
        yield item


@dataclass(frozen=True, slots=True)
class Part:
    """A run of patches in a plan, in reading order, and the number of its first batch within the shard."""

    start: int
    stop: int
    first_batch: int = 0


def embed_part(
    source: Source, plan: Plan, part: Part, encoder: tuple[Encoder, int], limits: Limits, cancellation: Cancellation
) -> Iterator[BatchEmbedding]:
    """Embed a run of patches.

    Parameters
    ----------
    source : Source
    plan : Plan
    part : Part
        Starts at the first patch of a batch.
    encoder : (Encoder, int)
        And the dimension its spec declares.
    limits : Limits
    cancellation : Cancellation

    Yields
    ------
    BatchEmbedding
        In order; indices count from the shard's first batch.
    """
    grid = plan.grid[part.start : part.stop]
    frame_bytes = plan.level.frame_width_px * plan.level.frame_height_px * 3
    frames_a_group = max(1, min(limits.frames_a_group, limits.group_bytes // frame_bytes))
    groups = fetch_groups(source, plan.grid.level, grid, frames_a_group, limits.connections)
    batches = cut_batches(groups, plan.level, plan.grid.patch_px, plan.batch_size, limits.decoders)
    model, dimension = encoder
    for batch in encode_batches(ahead(batches, limits.batches_ahead, cancellation), model, dimension):
        yield BatchEmbedding(batch.index + part.first_batch, batch.matrix)
