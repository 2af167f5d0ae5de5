"""Fetch: every frame once, in groups, in order, never another frame than was asked for; holes only where allowed."""

import itertools
import math
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import EndpointFailed, EndpointUnreachable, FrameMissing
from models.domain.patch import EncodedFrame, FrameGroup, PatchGrid
from models.domain.slide import Level
from tests.services.memory_slide import (
    MemorySource,
    make_grid,
    make_level,
    make_slide,
    random_pixels,
    without_tiles,
)
from tests.services.ports import wait_until
from worker.stages import fetch
from worker.stages.fetch import Fetching, fetch_groups

_LEVEL = make_level(200, 160)  # 7 x 5 frames
_TILES = frozenset(range(35))
_IMAGE = random_pixels(200, 160)
_SOURCE = MemorySource(make_slide(_LEVEL), _IMAGE)
_BOXES = st.lists(
    st.tuples(st.integers(0, 110), st.integers(0, 70), st.integers(1, 90), st.integers(1, 90)), max_size=15
)
_SIZES = st.lists(st.integers(-1, 40), min_size=1, max_size=6)


class _Sizing:
    """Asks for so many frames, then for so many, over and over; remembers what it was told."""

    def __init__(self, *sizes: int) -> None:
        self._sizes = itertools.cycle(sizes)
        self.given: list[int] = []
        self.told: list[tuple[int, int, float]] = []

    @property
    def frames(self) -> int:
        """The next size."""
        self.given.append(next(self._sizes))
        return self.given[-1]

    def measured(self, frames: int, bytes_read: int, seconds: float) -> None:
        """Remember it."""
        self.told.append((frames, bytes_read, seconds))


def _how(*sizes: int, connections: int = 2, holes: bool = False) -> Fetching:
    return Fetching(_Sizing(*sizes), connections, holes)


def _source(absent: frozenset[int] = frozenset(), missing: frozenset[int] = frozenset()) -> MemorySource:
    return MemorySource(make_slide(without_tiles(_LEVEL, absent)), _IMAGE, missing=missing)


def _grid() -> PatchGrid:
    return make_grid([(x, y, 40, 40) for y in range(0, 120, 40) for x in range(0, 160, 40)], 40)


def _needs(level: Level, grid: PatchGrid) -> list[set[int]]:
    """Return the frames of each patch, one tile after the other held against it."""
    needs = []
    for x, y, width, height in grid.boxes.tolist():
        columns = [c for c in range(level.columns) if c * 32 < x + width and x < (c + 1) * 32]
        rows = [r for r in range(level.rows) if r * 32 < y + height and y < (r + 1) * 32]
        needs.append({r * level.columns + c for r in rows for c in columns})
    return needs


def _groups_by_hand(needs: list[set[int]], sizes: Iterator[int]) -> list[tuple[int, int]]:
    """Return groups of patches (start, stop) that bring in as many frames as allowed, or else one patch."""
    groups, seen, start = list[tuple[int, int]](), set[int](), 0
    while start < len(needs):
        most, new, stop = max(1, next(sizes)), needs[start] - seen, start + 1
        while stop < len(needs) and len(new | (needs[stop] - seen)) <= most:
            new |= needs[stop] - seen
            stop += 1
        groups.append((start, stop))
        seen |= new
        start = stop
    return groups


class _Changed(MemorySource):
    """Gives other frames than it is asked for."""

    def __init__(self, change: Callable[[list[EncodedFrame]], list[EncodedFrame]]) -> None:
        super().__init__(make_slide(_LEVEL), _IMAGE)
        self._change = change

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield the changed frames."""
        yield from self._change(list(super().frames(level, indices)))


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Whatever a test does, no connection is left waiting when it is over."""
    yield
    wait_until(lambda: not any(one.name.startswith("fetch") for one in threading.enumerate()), "fetch to end", 10.0)


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
        list(fetch_groups(_Changed(change), 0, _grid(), _how(8)))


def test_a_missing_frame_is_an_error() -> None:
    """Where no hole is allowed, one frame that is not there ends the stage, and is not asked for again."""
    source = _source(missing=frozenset({9}))
    with pytest.raises(FrameMissing, match="Frame 10"):
        list(fetch_groups(source, 0, _grid(), _how(8)))
    assert source.asked.count(9) == 1


@pytest.mark.parametrize("holes", [False, True])
def test_a_failing_server_makes_no_holes(holes: bool) -> None:  # noqa: FBT001 - parameter
    """What else a source raises in its thread is raised here, with its own type, holes allowed or not."""

    def fail(_: list[EncodedFrame]) -> list[EncodedFrame]:
        raise EndpointFailed("The server failed.", 3.0)

    with pytest.raises(EndpointFailed) as caught:
        list(fetch_groups(_Changed(fail), 0, _grid(), _how(8, holes=holes)))
    assert caught.value.retry_after_s == 3.0


def test_a_server_that_fails_while_holes_are_looked_for_makes_none() -> None:
    """The server goes away after it said that a frame is missing: the rest is not taken for missing too."""

    class Dying(MemorySource):
        def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
            """Fail from the second request on."""
            if self.requests:
                raise EndpointUnreachable("The server does not answer.")
            yield from super().frames(level, indices)

    source = Dying(make_slide(_LEVEL), _IMAGE, missing={0})
    with pytest.raises(EndpointUnreachable):
        list(fetch_groups(source, 0, _grid(), _how(35, connections=1, holes=True)))


@given(_BOXES, _SIZES, st.integers(1, 4), st.frozensets(st.sampled_from(sorted(_TILES)), max_size=20))
def test_each_frame_is_fetched_once(
    boxes: list[tuple[int, int, int, int]], sizes: list[int], connections: int, absent: frozenset[int]
) -> None:
    """All patches come in order; what they need and the slide holds is fetched once, and is there when they are."""
    source = _source(absent)
    grid = make_grid(boxes, 50)
    needs = _needs(_LEVEL, grid)
    here: set[int] = set()
    done = 0
    for group in fetch_groups(source, 0, grid, _how(*sizes, connections=connections)):
        assert group.missing == frozenset()
        assert here.isdisjoint(frame.index for frame in group.frames)
        here |= {frame.index for frame in group.frames}
        assert np.array_equal(group.patches.boxes, grid.boxes[done : done + len(group.patches)])
        mine, later = needs[done : done + len(group.patches)], needs[done + len(group.patches) :]
        assert here | absent >= set().union(*mine)
        assert group.last_use == set().union(*mine) - set().union(*later)
        here -= group.last_use
        done += len(group.patches)
    assert here == set()  # everything was let go of
    assert done == len(grid)
    assert sorted(source.asked) == sorted(set().union(*needs) - absent)
    assert all(list(request) == sorted(request) and request for request in source.requests)


@given(_BOXES, _SIZES)
def test_groups_are_as_large_as_they_may_be(boxes: list[tuple[int, int, int, int]], sizes: list[int]) -> None:
    """A group ends where the next patch would bring in a frame too many; a patch that needs too many is alone."""
    how = _how(*sizes)
    grid = make_grid(boxes, 50)
    found = [len(group.patches) for group in fetch_groups(_source(), 0, grid, how)]
    expected = _groups_by_hand(_needs(_LEVEL, grid), itertools.cycle(sizes))
    assert found == [stop - start for start, stop in expected]


def test_the_size_is_asked_for_anew_for_each_group() -> None:
    """What was learnt meanwhile counts for the next group."""
    how = _how(2, 8, 35)
    groups = list(fetch_groups(_source(), 0, _grid(), how))
    assert isinstance(how.sizing, _Sizing)
    assert len(how.sizing.given) == len(groups)


def test_a_group_without_frames_makes_no_request() -> None:
    """Patches of which the slide holds nothing, or which need nothing new, cost no request."""
    boxes = [(0, 0, 40, 40), (8, 8, 20, 20), (130, 130, 30, 30)]
    source = _source(frozenset({28, 29, 30, 31, 32, 33, 34}))
    groups = list(fetch_groups(source, 0, make_grid(boxes, 40), _how(1, connections=1)))
    assert [len(group.frames) for group in groups] == [4, 0]
    assert source.requests == [(0, 1, 7, 8)]
    assert groups[1].last_use == {0, 32}


@given(
    _BOXES,
    _SIZES,
    st.integers(1, 4),
    st.frozensets(st.sampled_from(sorted(_TILES)), max_size=6),
    st.frozensets(st.sampled_from(sorted(_TILES)), max_size=6),
)
def test_what_is_missing_is_found_and_the_rest_is_fetched(
    boxes: list[tuple[int, int, int, int]],
    sizes: list[int],
    connections: int,
    missing: frozenset[int],
    absent: frozenset[int],
) -> None:
    """With holes allowed, exactly the missing frames are missing, each in its group, in few requests."""
    source = _source(absent, missing)
    grid = make_grid(boxes, 50)
    fetched: list[int] = []
    lost: set[int] = set()
    bound = 0
    for group in fetch_groups(source, 0, grid, _how(*sizes, connections=connections, holes=True)):
        frames = [frame.index for frame in group.frames]
        assert frames == sorted(frames)
        fetched += frames
        lost |= group.missing
        asked = len(frames) + len(group.missing)
        # Each missing frame costs the requests that hold it, log2 of their number, and as many other halves.
        bound += bool(asked) + 2 * len(group.missing) * math.ceil(math.log2(max(1, asked)))
    needed = set().union(*_needs(_LEVEL, grid)) - absent
    assert lost == missing & needed
    assert sorted(fetched) == sorted(needed - missing)
    assert len(source.requests) <= bound


class _Abrupt(MemorySource):
    """Gives nothing of a request that holds a missing frame, as a server does that answers 404."""

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield all frames or none."""
        yield from list(super().frames(level, indices))


def _one_patch(kind: type[MemorySource], missing: Collection[int]) -> tuple[FrameGroup, MemorySource]:
    """Fetch 64 x 64 frames for one patch."""
    source = kind(make_slide(make_level(256, 256, frame_px=4)), random_pixels(256, 256), missing=missing)
    [group] = fetch_groups(source, 0, make_grid([(0, 0, 256, 256)], 256), _how(1, holes=True))
    return group, source


@pytest.mark.parametrize(("kind", "requests"), [(MemorySource, 3), (_Abrupt, 1 + 2 * 12)])
def test_looking_for_a_hole_is_cheap(kind: type[MemorySource], requests: int) -> None:
    """One frame missing of 4,096 is found by what came before it, or by halving; none missing costs none more."""
    group, source = _one_patch(kind, {2700})
    assert (group.missing, len(group.frames)) == ({2700}, 4095)
    assert len(source.requests) <= requests
    _, source = _one_patch(kind, ())
    assert len(source.requests) == 1


@pytest.mark.parametrize("kind", [MemorySource, _Abrupt])
def test_many_holes_are_found_in_one_group(kind: type[MemorySource]) -> None:
    """Every second frame of 4,096 is missing: all of them are found, and the others come once and in order."""
    group, source = _one_patch(kind, range(1, 4096, 2))
    assert group.missing == frozenset(range(1, 4096, 2))
    assert [frame.index for frame in group.frames] == list(range(0, 4096, 2))
    assert len(source.requests) <= 1 + 2 * 4096


@pytest.mark.parametrize("kind", [MemorySource, _Abrupt])
def test_what_was_given_is_not_asked_for_again(kind: type[MemorySource]) -> None:
    """Whatever has to be asked for again, no frame is kept twice."""
    for missing in itertools.combinations((0, 1, 2047, 4095), 2):
        group, _ = _one_patch(kind, missing)
        assert [frame.index for frame in group.frames] == sorted(set(range(4096)) - set(missing))


def test_everything_may_be_missing() -> None:
    """A level of which nothing can be had is holes throughout, and no error where holes are allowed."""
    groups = list(fetch_groups(_source(missing=_TILES), 0, _grid(), _how(8, holes=True)))
    assert [group.frames for group in groups] == [()] * len(groups)
    assert frozenset().union(*(group.missing for group in groups)) == set().union(*_needs(_LEVEL, _grid()))


def test_the_sizing_is_told_of_every_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames, their bytes and the time they took; a group with a hole says nothing of the server's pace."""
    ticks = itertools.count(100.0, 2.5)
    monkeypatch.setattr(fetch.time, "perf_counter", lambda: next(ticks))
    for missing in (frozenset[int](), frozenset({0})):
        how = _how(8, connections=1, holes=True)
        groups = list(fetch_groups(_source(missing=missing), 0, _grid(), how))
        assert isinstance(how.sizing, _Sizing)
        whole = [len(group.frames) for group in groups if not group.missing]
        assert how.sizing.told == [(count, count * 32 * 32 * 3, 2.5) for count in whole]
        assert len(whole) == len(groups) - len(missing)


def test_memory_is_bounded() -> None:
    """Reading a grid row by row keeps no more frames than a row of patches touches."""
    here: set[int] = set()
    most = 0
    for group in fetch_groups(_SOURCE, 0, _grid(), _how(4, connections=1)):
        here |= {frame.index for frame in group.frames}
        most = max(most, len(here))
        here -= group.last_use
    two_rows_of_frames = 2 * _LEVEL.columns
    assert most <= two_rows_of_frames + 4


def test_no_patches_no_requests() -> None:
    """An empty grid asks for nothing."""
    source = _source()
    assert list(fetch_groups(source, 0, make_grid([], 40), _how(8))) == []
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

    groups = fetch_groups(_Changed(meet), 0, _grid(), _how(4, connections=connections))
    found: list[int] = []
    taker = threading.Thread(target=lambda: found.extend(len(group.patches) for group in groups))
    taker.start()
    meeting.wait(10)  # so many requests were under way at once
    meeting.abort()
    taker.join(10)
    assert not taker.is_alive()
    assert sum(found) == len(_grid())


def test_the_wire_is_never_idle() -> None:
    """The next group is under way while the taker is busy with one, however long it is."""
    source = _source()
    groups = fetch_groups(source, 0, _grid(), _how(4, connections=2))
    for taken in range(1, 4):
        next(groups)
        wait_until(lambda taken=taken: len(source.requests) == taken + 2, "the next two groups to be asked for", 10.0)
    groups.close()


def test_who_stops_early_is_not_kept_waiting() -> None:
    """Closing the generator leaves what was not begun unasked."""
    source = _source()
    groups = fetch_groups(source, 0, _grid(), _how(1))
    next(groups)
    groups.close()
    assert len(source.requests) <= 3
    assert len(source.asked) < _LEVEL.columns * _LEVEL.rows


def test_frames_are_the_sources() -> None:
    """The bytes are passed on untouched."""
    [group] = fetch_groups(_SOURCE, 0, make_grid([(0, 0, 10, 10)], 10), _how(8, connections=1))
    [frame] = group.frames
    assert np.frombuffer(frame.data, np.uint8).tobytes() == _IMAGE[:32, :32].tobytes()
