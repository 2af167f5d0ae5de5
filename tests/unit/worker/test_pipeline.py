"""The pipeline: side by side and in order, and whoever stops, stops all of it."""

import hashlib
import itertools
import queue
import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ImageCms

from models.domain.errors import (
    EndpointFailed,
    FrameMissing,
    FrameUndecodable,
    Interrupted,
    LeaseLost,
    SourceError,
)
from models.domain.patch import EncodedFrame, PatchBatch, Rows
from models.domain.plan import Plan
from models.domain.request import Missing, PatchSpec
from models.domain.slide import Level
from models.imaging.color import color_transform
from tests.services.memory_slide import MemorySource, make_level, make_slide, random_pixels, with_glass, without_tiles
from tests.services.ports import wait_until
from worker import pipeline
from worker.pipeline import Cancellation, Limits, Part, ahead, embed_part
from worker.stages.plan import plan_patches
from worker.stages.transform import cut_batches


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

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return (B, 3)."""
        return Rows(pixels.astype(np.float32).mean(axis=(1, 2)))


_IMAGE = random_pixels(200, 160)


_LEVEL = make_level(200, 160)


def _source(level: Level = _LEVEL, *, missing: Collection[int] = (), damaged: Collection[int] = ()) -> MemorySource:
    return MemorySource(make_slide(level), _IMAGE, missing=missing, damaged=damaged)


def _plan(batch_size: int = 4, level: Level = _LEVEL, missing: Missing = "error") -> Plan:
    spec = PatchSpec(patch_px=20, spacing_um=0.5, tissue_fraction=None, missing=missing)
    return plan_patches(make_slide(level), spec, None, batch_size)


def _means(image: NDArray[np.uint8], plan: Plan, part: Part) -> NDArray[np.float32]:
    """Return the mean colour of each patch of a part, cut from the whole image."""
    boxes = plan.grid.boxes[part.start : part.stop].tolist()
    return np.asarray([image[y : y + 20, x : x + 20].mean(axis=(0, 1)) for x, y, _, _ in boxes], np.float32)


def _embed(source: MemorySource, plan: Plan, limits: Limits | None = None) -> NDArray[np.float32]:
    part = Part(0, len(plan.grid))
    batches = embed_part(source, plan, part, (_Means(), 3), limits or Limits(), Cancellation())
    return np.concatenate([batch.rows.matrix for batch in batches])


@pytest.mark.parametrize("limits", [Limits(1, 1, 1, 1), Limits(3, 2, 2, 2), Limits(), Limits(request_bytes=1)])
@pytest.mark.parametrize("part", [Part(0, 80), Part(0, 40), Part(40, 80, 10), Part(76, 79, 2)])
def test_a_part_is_embedded(limits: Limits, part: Part) -> None:
    """With any limits, each patch of the part has the embedding of its pixels, in batches numbered from the part's."""
    plan = _plan()
    found = list(embed_part(_source(), plan, part, (_Means(), 3), limits, Cancellation()))
    assert [batch.index for batch in found] == [part.first_batch + number for number in range(len(found))]
    matrix = np.concatenate([batch.rows.matrix for batch in found])
    assert matrix == pytest.approx(_means(_IMAGE, plan, part), rel=1e-5)


@pytest.mark.parametrize("fault", ["missing", "damaged", "absent"])
@pytest.mark.parametrize("limits", [Limits(1, 1, 1, 1), Limits(7, 2, 2, 2), Limits()])
def test_holes_are_rows_of_nan(fault: str, limits: Limits) -> None:
    """Where it is allowed, patches that touch a frame that cannot be had are NaN, all others as they should be."""
    lost = {0, 8, 9, 34}
    level = without_tiles(_LEVEL, lost) if fault == "absent" else _LEVEL
    source = _source(level, **({} if fault == "absent" else {fault: lost}))
    plan = _plan(level=level, missing="mask")
    found = _embed(source, plan, limits)
    expected = _means(_IMAGE, plan, Part(0, len(plan.grid)))
    for row, (x, y, _, _) in enumerate(plan.grid.boxes.tolist()):
        tiles = {(y + down) // 32 * 7 + (x + right) // 32 for down in range(20) for right in range(20)}
        if tiles & lost:
            assert np.isnan(found[row]).all()
        else:
            assert found[row] == pytest.approx(expected[row], rel=1e-5)
    assert 0 < np.isnan(found).any(axis=1).sum() < len(found)


@pytest.mark.parametrize(
    ("source", "error"), [(_source(missing={9}), FrameMissing), (_source(damaged={9}), FrameUndecodable)]
)
def test_no_hole_where_none_is_allowed(source: MemorySource, error: type[Exception]) -> None:
    """Without the permission the same faults end the part."""
    with pytest.raises(error):
        _embed(source, _plan())


def test_a_frame_damaged_on_its_way_is_fetched_once_more() -> None:
    """A frame that comes damaged and then whole costs one request, and nothing else."""

    class Once(MemorySource):
        def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
            """Cut frame 9 off the first time."""
            seen = 9 in self.asked
            for frame in super().frames(level, indices):
                yield replace(frame, data=frame.data[:-5]) if frame.index == 9 and not seen else frame

    source, plan = Once(make_slide(_LEVEL), _IMAGE), _plan()
    assert _embed(source, plan) == pytest.approx(_means(_IMAGE, plan, Part(0, 80)), rel=1e-5)
    assert source.asked.count(9) == 2
    assert len(source.asked) == 36


def test_glass_is_embedded_as_glass() -> None:
    """A sparse slide's empty tiles are its background, without a hole."""
    level = without_tiles(_LEVEL, {0, 1, 2, 7, 8, 9, 20}, (250, 240, 230))
    plan = _plan(level=level)
    assert len(plan.grid) < 80  # some lie on nothing but glass
    found = _embed(_source(level), plan)
    assert found == pytest.approx(_means(with_glass(_IMAGE, level), plan, Part(0, len(plan.grid))), rel=1e-5)


def _srgb() -> bytes:
    """Return a profile of sRGB, as littleCMS makes it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _coloured(profile: bytes) -> Plan:
    return replace(_plan(), color_profile="rommrgb", icc_sha256=hashlib.sha256(profile).hexdigest())


def test_colours_are_brought_to_the_plans_space() -> None:
    """With a colour space in the plan, what is embedded is the slide's pixels through its profile, else as they are."""
    profile = _srgb()
    source = MemorySource(make_slide(_LEVEL), _IMAGE, profile=profile)
    plan = _coloured(profile)
    whole = color_transform(profile, "rommrgb").apply(_IMAGE)
    part = Part(0, 80)
    assert np.abs(_means(whole, plan, part) - _means(_IMAGE, plan, part)).max() > 5
    assert _embed(source, plan) == pytest.approx(_means(whole, plan, part), rel=1e-5)
    assert _embed(source, _plan()) == pytest.approx(_means(_IMAGE, plan, part), rel=1e-5)


@pytest.mark.parametrize("now", [None, b"another"])
def test_a_profile_that_has_changed_ends_the_part(now: bytes | None) -> None:
    """A plan that was made with a profile is read neither without it nor with another, and no pixel is read."""
    source = MemorySource(make_slide(_LEVEL), _IMAGE, profile=now)
    with pytest.raises(SourceError, match="profile has changed"):
        _embed(source, _coloured(_srgb()))
    assert source.requests == []


@pytest.mark.parametrize("depth", [1, 3])
def test_an_encoder_may_hold_on_to_the_batch_before(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch is encoded, all that are made ahead leave it and the one before it as they were."""
    made = 0

    def counting(*given: object) -> Iterator[PatchBatch]:
        nonlocal made
        for batch in cut_batches(*given):  # type: ignore[arg-type]
            made += 1
            yield batch

    monkeypatch.setattr(pipeline, "cut_batches", counting)
    held: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    class Holding(_Means):
        def encode(self, pixels: NDArray[np.uint8]) -> Rows:
            """Wait until nothing more is made ahead, and look."""
            held.append((pixels, pixels.copy()))
            # Taken so far, those that wait, and the one in hand.
            wait_until(lambda: made == min(20, len(held) + depth + 1), "batches to be made ahead", 10.0)
            assert all(np.array_equal(now, then) for now, then in held[-2:])
            return super().encode(pixels)

    limits = Limits(batches_ahead=depth)
    assert len(list(embed_part(_source(), _plan(), Part(0, 80), (Holding(), 3), limits, Cancellation()))) == 20
    memory = {pixels.__array_interface__["data"][0] for pixels, _ in held}
    assert len(memory) == depth + 3  # and those are used again


def test_a_part_resumed_gives_the_same_bytes() -> None:
    """Two halves, cut at a batch, are the whole to the bit."""
    plan = _plan()
    whole, *halves = (
        b"".join(
            batch.rows.matrix.tobytes()
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
