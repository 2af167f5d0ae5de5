"""Fetch: every frame once, in groups, in order, and never another frame than was asked for."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import EndpointFailed, FrameMissing
from models.domain.patch import EncodedFrame, PatchGrid
from models.imaging.resample import frames_of
from tests.services.memory_slide import MemorySource, make_grid, make_level, make_slide, random_pixels
from worker.stages.fetch import fetch_groups

_LEVEL = make_level(200, 160)  # 7 x 5 frames
_SOURCE = MemorySource(make_slide(_LEVEL), random_pixels(200, 160))
_BOXES = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 110), st.just(50), st.just(50)), max_size=15)


def _grid() -> PatchGrid:
    return make_grid([(x, y, 40, 40) for y in range(0, 120, 40) for x in range(0, 160, 40)], 40)


class _Changed(MemorySource):
    """Gives other frames than it is asked for."""

    def __init__(self, change: Callable[[list[EncodedFrame]], list[EncodedFrame]]) -> None:
        super().__init__(make_slide(_LEVEL), random_pixels(200, 160))
        self._change = change

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield the changed frames."""
        yield from self._change(list(super().frames(level, indices)))


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: frames[:-1],
        lambda frames: frames[1:],
        lambda frames: frames[:0],
        lambda frames: [*frames, frames[-1]],
        lambda frames: frames[::-1],
        lambda frames: [EncodedFrame(frame.index + 1, frame.data, frame.transfer_syntax) for frame in frames],
    ],
)
def test_other_frames_than_asked_for_are_an_error(
    change: Callable[[list[EncodedFrame]], list[EncodedFrame]],
) -> None:
    """A frame too few, too many, out of order or under another number never gets any further."""
    with pytest.raises(FrameMissing):
        list(fetch_groups(_Changed(change), 0, _grid(), 8, 2))


def test_a_failing_source_fails_the_stage() -> None:
    """What a source raises in its thread is raised here, with its own type."""

    def fail(_: list[EncodedFrame]) -> list[EncodedFrame]:
        raise EndpointFailed("The server failed.", 3.0)

    with pytest.raises(EndpointFailed) as caught:
        list(fetch_groups(_Changed(fail), 0, _grid(), 8, 2))
    assert caught.value.retry_after_s == 3.0


@given(_BOXES, st.integers(1, 40), st.integers(1, 4))
def test_each_frame_is_fetched_once(
    boxes: list[tuple[int, int, int, int]], frames_a_group: int, connections: int
) -> None:
    """All patches come in order, every frame they need is asked for once, and is there when its patch is."""
    source = MemorySource(_SOURCE.slide, random_pixels(200, 160))
    grid = make_grid(boxes, 50)
    here: set[int] = set()
    patches: list[list[int]] = []
    for group in fetch_groups(source, 0, grid, frames_a_group, connections):
        assert here.isdisjoint(frame.index for frame in group.frames)
        here |= {frame.index for frame in group.frames}
        assert all(here.issuperset(needed.tolist()) for needed in frames_of(_LEVEL, group.patches.boxes))
        patches += group.patches.boxes.tolist()
        here -= group.last_use
    assert here == set()  # everything was let go of
    assert patches == grid.boxes.tolist()
    needed = {int(frame) for frames in frames_of(_LEVEL, grid.boxes) for frame in frames}
    assert sorted(source.asked) == sorted(needed)
    assert all(list(request) == sorted(request) for request in source.requests)


def test_memory_is_bounded() -> None:
    """Reading a grid row by row keeps no more frames than a row of patches touches."""
    here: set[int] = set()
    most = 0
    for group in fetch_groups(_SOURCE, 0, _grid(), 4, 1):
        here |= {frame.index for frame in group.frames}
        most = max(most, len(here))
        here -= group.last_use
    two_rows_of_frames = 2 * _LEVEL.columns
    assert most <= two_rows_of_frames + 4


def test_no_patches_no_requests() -> None:
    """An empty grid asks for nothing."""
    source = MemorySource(_SOURCE.slide, random_pixels(200, 160))
    assert list(fetch_groups(source, 0, make_grid([], 40), 8, 2)) == []
    assert source.requests == []


@pytest.mark.parametrize("connections", [1, 3])
def test_groups_under_way_are_bounded(connections: int) -> None:
    """No more groups are asked for at a time than there are connections, and all of those are used."""
    meeting = threading.Barrier(connections + 1)
    running = threading.Semaphore(connections)

    def meet(frames: list[EncodedFrame]) -> list[EncodedFrame]:
        assert running.acquire(blocking=False), "more requests than connections"
        try:
            with suppress(threading.BrokenBarrierError):  # later ones need not meet
                meeting.wait(10)
        finally:
            running.release()
        return frames

    groups = fetch_groups(_Changed(meet), 0, _grid(), 4, connections)
    found: list[int] = []
    taker = threading.Thread(target=lambda: found.extend(len(group.patches) for group in groups))
    taker.start()
    meeting.wait(10)  # so many requests were under way at once
    meeting.abort()
    taker.join(10)
    assert not taker.is_alive()
    assert sum(found) == len(_grid())


def test_who_stops_early_is_not_kept_waiting() -> None:
    """Closing the generator leaves what was not begun unasked."""
    source = MemorySource(_SOURCE.slide, random_pixels(200, 160))
    groups = fetch_groups(source, 0, _grid(), 1, 2)
    next(groups)
    groups.close()
    assert len(source.requests) <= 3
    assert len(source.asked) < _LEVEL.columns * _LEVEL.rows


def test_frames_are_the_sources() -> None:
    """The bytes are passed on untouched."""
    [group] = fetch_groups(_SOURCE, 0, make_grid([(0, 0, 10, 10)], 10), 8, 1)
    [frame] = group.frames
    assert np.frombuffer(frame.data, np.uint8).tobytes() == random_pixels(200, 160)[:32, :32].tobytes()
