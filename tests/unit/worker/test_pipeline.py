"""The pipeline: side by side and in order, and whoever stops, stops all of it."""

import itertools
import queue
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.errors import EndpointFailed, FrameUndecodable, Interrupted, LeaseLost
from models.domain.patch import EncodedFrame
from models.domain.plan import Plan
from models.domain.request import PatchSpec
from tests.services.memory_slide import MemorySource, make_level, make_slide, random_pixels
from tests.services.ports import wait_until
from worker.pipeline import Cancellation, Limits, Part, ahead, embed_part
from worker.stages.plan import plan_patches


def _threads() -> int:
    return sum(thread.name == "transform" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Whatever a test does, the pipeline's thread has ended when it is over."""
    yield
    wait_until(lambda: _threads() == 0, "the pipeline's thread to end", 10.0)


class _Endless:
    """Counts for ever, and knows when it was closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.made = 0

    def __iter__(self) -> Iterator[int]:
        try:
            for number in itertools.count():
                self.made = number + 1
                yield number
        finally:
            self.closed.set()


@pytest.mark.parametrize("error", [FrameUndecodable("Frame 3."), ValueError("bug"), KeyboardInterrupt()])
def test_errors_of_the_thread_are_raised_by_the_taker(error: BaseException) -> None:
    """What comes before an error is given first, then the very error."""

    def broken() -> Iterator[int]:
        yield from (1, 2)
        raise error

    found = []
    with pytest.raises(type(error)) as caught:
        found.extend(ahead(broken(), 2, Cancellation()))
    assert caught.value is error
    assert found == [1, 2]


def test_a_taker_that_stops_early_ends_the_thread() -> None:
    """Closing the generator closes the iterable in its thread, before it returns."""
    numbers = _Endless()
    items = ahead(numbers, 2, Cancellation())
    assert next(items) == 0
    items.close()
    assert numbers.closed.is_set()
    assert _threads() == 0


def test_a_taker_that_fails_ends_the_thread() -> None:
    """An error in the loop over the items is such a stop too."""
    numbers = _Endless()
    with pytest.raises(ZeroDivisionError):
        _fail_on_the_first(ahead(numbers, 2, Cancellation()))
    wait_until(numbers.closed.is_set, "the iterable to be closed")


def _fail_on_the_first(items: Iterator[int]) -> None:
    for number in items:
        _ = 1 // number


@pytest.mark.parametrize("reason", [None, LeaseLost("Another worker has it.")])
def test_cancellation_stops_taker_and_thread(reason: Exception | None) -> None:
    """The reason is raised in the taker's loop, an interruption if there is none, and the thread ends."""
    numbers, cancellation = _Endless(), Cancellation()
    items = ahead(numbers, 2, cancellation)
    assert next(items) == 0
    cancellation.cancel(reason)
    with pytest.raises(type(reason) if reason else Interrupted):
        list(items)
    wait_until(numbers.closed.is_set, "the iterable to be closed")


def test_cancellation_reaches_a_taker_that_waits() -> None:
    """A taker with nothing to take notices, though its source never comes back with anything."""
    cancellation, held = Cancellation(), threading.Event()

    def stuck() -> Iterator[int]:
        cancellation.cancel()
        held.wait(10)
        yield 1

    items = ahead(stuck(), 1, cancellation)
    taken: queue.Queue[BaseException | None] = queue.Queue()

    def take() -> None:
        try:
            next(items)
        except BaseException as exc:  # noqa: BLE001 - handed to the test
            taken.put(exc)

    taker = threading.Thread(target=take)
    taker.start()
    held.set()
    assert isinstance(taken.get(timeout=10), Interrupted)
    taker.join()


@given(st.lists(st.integers()), st.integers(1, 4))
def test_items_come_in_order(items: list[int], depth: int) -> None:
    """Everything comes, once, in order."""
    assert list(ahead(items, depth, Cancellation())) == items


def test_it_runs_ahead_and_not_further() -> None:
    """While nobody takes, the thread fills the queue and waits with one more in its hand."""
    numbers = _Endless()
    items = ahead(numbers, 3, Cancellation())
    assert next(items) == 0
    wait_until(lambda: numbers.made == 5, "the thread to run ahead", 10.0)
    assert [next(items) for _ in range(4)] == [1, 2, 3, 4]
    items.close()


def test_the_first_reason_counts() -> None:
    """A second cancellation does not change why the first was asked for."""
    cancellation = Cancellation()
    cancellation.check()
    cancellation.cancel(LeaseLost("first"))
    cancellation.cancel(ValueError("second"))
    with pytest.raises(LeaseLost):
        cancellation.check()


def test_a_wider_cancellation_reaches_the_narrower() -> None:
    """The worker's stop stops its shard; a shard's end does not stop the worker."""
    worker = Cancellation()
    shard, other = Cancellation(after=worker), Cancellation(after=worker)
    shard.cancel()
    assert (shard.cancelled, other.cancelled, worker.cancelled) == (True, False, False)
    worker.cancel()
    assert other.cancelled
    with pytest.raises(Interrupted):
        other.check()


class _Means:
    """Encodes a patch as its mean colour."""

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, 3)."""
        return pixels.astype(np.float32).mean(axis=(1, 2))


_IMAGE = random_pixels(200, 160)


def _source() -> MemorySource:
    return MemorySource(make_slide(make_level(200, 160)), _IMAGE)


def _plan(batch_size: int = 4) -> Plan:
    spec = PatchSpec(patch_px=20, spacing_um=0.5, tissue_fraction=None)
    return plan_patches(_source().slide, spec, None, batch_size)


@pytest.mark.parametrize("limits", [Limits(1, 1, 1, 1), Limits(3, 2, 2, 2), Limits(), Limits(group_bytes=1)])
@pytest.mark.parametrize("part", [Part(0, 80), Part(0, 40), Part(40, 80, 10), Part(76, 79, 2)])
def test_a_part_is_embedded(limits: Limits, part: Part) -> None:
    """With any limits, each patch of the part has the embedding of its pixels, in batches numbered from the part's."""
    plan = _plan()
    found = list(embed_part(_source(), plan, part, (_Means(), 3), limits, Cancellation()))
    assert [batch.index for batch in found] == [part.first_batch + number for number in range(len(found))]
    boxes = plan.grid.boxes[part.start : part.stop].tolist()
    expected = [_IMAGE[y : y + 20, x : x + 20].astype(np.float32).mean(axis=(0, 1)) for x, y, _, _ in boxes]
    assert np.concatenate([batch.matrix for batch in found]) == pytest.approx(np.asarray(expected), rel=1e-5)


def test_a_part_resumed_gives_the_same_bytes() -> None:
    """Two halves, cut at a batch, are the whole to the bit."""
    plan = _plan()
    whole, *halves = (
        b"".join(
            batch.matrix.tobytes()
            for batch in embed_part(_source(), plan, part, (_Means(), 3), Limits(), Cancellation())
        )
        for part in (Part(0, 80), Part(0, 36), Part(36, 80, 9))
    )
    assert whole == b"".join(halves)


def test_a_failing_source_ends_the_part() -> None:
    """A server that fails in the middle fails the part with its own error, and no thread is left behind."""

    class Failing(MemorySource):
        def frames(self, level: int, indices: object) -> Iterator[EncodedFrame]:
            """Fail from the second request on."""
            if self.requests:
                raise EndpointFailed("The server failed.")
            yield from super().frames(level, indices)  # type: ignore[arg-type]

    source = Failing(make_slide(make_level(200, 160)), _IMAGE)
    with pytest.raises(EndpointFailed):
        list(embed_part(source, _plan(), Part(0, 80), (_Means(), 3), Limits(4, 1), Cancellation()))
