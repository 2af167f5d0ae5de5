"""The pipeline: fetch, transform and encode side by side, bounded queues between them, one way to stop."""

import hashlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from connectors.protocols import Source
from models.domain.errors import Interrupted, SourceError
from models.domain.patch import BatchEmbedding
from models.domain.plan import Plan
from models.encoders.protocol import Encoder
from models.imaging.color import color_transform
from models.imaging.resample import STRIPE_TILES
from worker.pace import Pace, PaceLimits
from worker.stages.encode import encode_batches
from worker.stages.fetch import Fetching, fetch_frame, fetch_groups
from worker.stages.transform import FRAMES_A_STEP, STEPS_AHEAD, Cutting, cut_batches

T = TypeVar("T")
_POLL_S = 0.1
_SPARE_BATCHES = 3  # one being filled, one being encoded, one that an encoder may still hold on to


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of what is done at a time.

    Parameters
    ----------
    frames_a_request : int
        At most; how many it really are, `Pace` learns.
    connections : int
        Requests under way at a time.
    decoders : int
        Threads.
    batches_ahead : int
        Batches waiting for the encoder.
    request_bytes : int
        Of encoded frames.
    pace : Pace or None
        What was learnt of the level so far, and goes on being learnt; None: each part begins anew.
    """

    frames_a_request: int = 900
    connections: int = 2
    decoders: int = 2
    batches_ahead: int = 2
    request_bytes: int = 32 << 20
    pace: Pace | None = None

    def paced(self) -> "Limits":
        """Return the same limits with a pace for the parts of one level to share."""
        return replace(self, pace=Pace(PaceLimits(self.frames_a_request, self.request_bytes)))


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


def ahead(items: Iterable[T], depth: int, cancellation: Cancellation) -> Generator[T]:
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
    holes, level = plan.missing == "mask", plan.grid.level
    pace = limits.pace or Pace(PaceLimits(limits.frames_a_request, limits.request_bytes))
    cutting = Cutting(
        plan.grid.patch_px,
        plan.batch_size,
        limits.decoders,
        buffers=limits.batches_ahead + _SPARE_BATCHES,
        holes=holes,
        color=color_of(source, plan),
        fetch_again=partial(fetch_frame, source, level),
    )
    groups = fetch_groups(source, level, grid, Fetching(pace, limits.connections, holes))
    batches = cut_batches(groups, plan.level, cutting)
    model, dimension = encoder
    # Closed here, so that an encoder that fails stops what is under way at once.
    with closing(ahead(batches, limits.batches_ahead, cancellation)) as waiting:
        for batch in encode_batches(waiting, model, dimension):
            yield BatchEmbedding(batch.index + part.first_batch, batch.rows)


def memory_bound(plan: Plan, limits: Limits) -> int:
    """Return the bytes that the frames and batches of one shard take at most, whatever the size of the slide.

    Decoded tiles: the rows of tiles that a row of patches touches and one more, as wide as a stripe of the plan, and
    what the steps that are decoded ahead bring in. Encoded frames: the groups under way, the one being decoded, and
    the body of an answer while it is put together. Batches: the ring.
    """
    level, boxes = plan.level, plan.grid.boxes
    if not len(boxes):
        return 0
    across = -(-int(boxes[:, 2].max()) // level.frame_width_px) + 1
    down = -(-int(boxes[:, 3].max()) // level.frame_height_px) + 1
    tiles = (down + 1) * (STRIPE_TILES + across) + (STEPS_AHEAD + 1) * max(FRAMES_A_STEP, across * down)
    decoded = tiles * level.frame_width_px * level.frame_height_px * 3
    encoded = (limits.connections + 2) * limits.request_bytes
    batches = (limits.batches_ahead + _SPARE_BATCHES) * plan.batch_size * plan.grid.patch_px**2 * 3
    return decoded + encoded + batches


def color_of(source: Source, plan: Plan) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Return what brings decoded pixels, uint8 (H, W, 3), to the colour space of a plan.

    Raises
    ------
    SourceError
        The slide's profile is not the one that was there when it was planned.
    """
    if plan.color_profile == "none":
        return _unchanged
    profile = source.icc_profile(plan.grid.level) or b""
    if hashlib.sha256(profile).hexdigest() != plan.icc_sha256:
        raise SourceError("The slide's colour profile has changed since it was submitted: submit it again.")
    return color_transform(profile, plan.color_profile).apply


def _unchanged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels
