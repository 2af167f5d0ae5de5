"""fetch: the frames that patches need come in groups, a few requests ahead, each frame once."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Protocol

import numpy as np

from connectors.protocols import Source
from models.domain.errors import FrameMissing
from models.domain.patch import EncodedFrame, FrameGroup, PatchGrid
from models.domain.slide import Level
from models.imaging.resample import FrameUse, absent_tiles, run_end, stripes_of

Fetched = tuple[tuple[EncodedFrame, ...], frozenset[int]]
"""Frames, and those that the source does not give."""


class Sizing(Protocol):
    """Says how many frames to ask for at a time."""

    @property
    def frames(self) -> int:
        """For the next group."""

    def measured(self, frames: int, bytes_read: int, seconds: float) -> None:
        """Be told how long a group took."""


@dataclass(frozen=True, slots=True)
class Fetching:
    """How frames are fetched.

    Parameters
    ----------
    sizing : Sizing
    connections : int
        Groups under way at a time.
    holes : bool
        A frame that the source does not give becomes `FrameGroup.missing`; otherwise it is an error.
    """

    sizing: Sizing
    connections: int
    holes: bool = False


@dataclass(frozen=True, slots=True)
class _Wanted:
    indices: tuple[int, ...]
    patches: PatchGrid
    last_use: frozenset[int]


def _wanted(level: Level, grid: PatchGrid, sizing: Sizing) -> Iterator[_Wanted]:
    """Yield groups of consecutive patches of a stripe that bring in about as many new frames as are to be asked for."""
    edges = np.flatnonzero(np.diff(stripes_of(level, grid.boxes))) + 1
    for start, stop in pairwise([0, *edges.tolist(), len(grid)]):
        yield from _wanted_of(level, grid[start:stop], sizing)


def _wanted_of(level: Level, grid: PatchGrid, sizing: Sizing) -> Iterator[_Wanted]:
    use = FrameUse.of(level, grid.boxes)
    frames, first, last = use.ends()
    absent = absent_tiles(level)
    held = np.flatnonzero(~absent[frames]) if len(absent) else np.arange(len(frames))
    by_first, by_last = held[np.argsort(first[held], kind="stable")], np.argsort(last, kind="stable")
    opened, closed = first[by_first], last[by_last]
    start = 0
    while start < len(grid):
        stop = run_end(opened, start, len(grid), sizing.frames)
        fresh = by_first[np.searchsorted(opened, start) : np.searchsorted(opened, stop)]
        done = by_last[np.searchsorted(closed, start) : np.searchsorted(closed, stop)]
        indices = np.sort(frames[fresh])
        yield _Wanted(tuple(indices.tolist()), grid[start:stop], frozenset(frames[done].tolist()))
        start = stop


def fetch_groups(source: Source, level: int, grid: PatchGrid, how: Fetching) -> Iterator[FrameGroup]:
    """Yield the groups of a grid in order, fetching a few of them at the same time.

    Parameters
    ----------
    source : Source
    level : int
    grid : PatchGrid
        In reading order.
    how : Fetching

    Raises
    ------
    FrameMissing
        The source lacks a frame, or gave other frames than it was asked for.
    """
    waiting = _wanted(source.slide.levels[level], grid, how.sizing)
    under_way: deque[tuple[_Wanted, Future[Fetched]]] = deque()
    pool = ThreadPoolExecutor(how.connections, thread_name_prefix="fetch")

    def top_up() -> None:
        while len(under_way) < how.connections and (wanted := next(waiting, None)) is not None:
            under_way.append((wanted, pool.submit(_measured, source, level, wanted.indices, how)))

    try:
        top_up()
        while under_way:
            wanted, future = under_way.popleft()
            frames, missing = future.result()
            top_up()  # before these are decoded, so that the wire is never idle
            yield FrameGroup(frames, wanted.patches, wanted.last_use, missing)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _measured(source: Source, level: int, indices: tuple[int, ...], how: Fetching) -> Fetched:
    started = time.perf_counter()
    frames, missing = fetch_frames(source, level, indices, holes=how.holes)
    if not missing:
        size = sum(len(frame.data) for frame in frames)
        how.sizing.measured(len(frames), size, time.perf_counter() - started)
    return frames, missing


def fetch_frame(source: Source, level: int, index: int) -> EncodedFrame:
    """Return one frame.

    Raises
    ------
    FrameMissing
    """
    ((frame,), _) = fetch_frames(source, level, (index,))
    return frame


def fetch_frames(source: Source, level: int, indices: tuple[int, ...], *, holes: bool = False) -> Fetched:
    """Return frames, and those that the source does not give: none, unless `holes` are allowed.

    Raises
    ------
    FrameMissing
    """
    return _fetch_around(source, level, indices) if holes else (tuple(_checked(source, level, indices)), frozenset())


def _checked(source: Source, level: int, indices: tuple[int, ...]) -> Iterator[EncodedFrame]:
    """Yield frames as they come, each the one that was asked for."""
    given = source.frames(level, indices) if indices else iter(())
    for frame, index in zip_longest(given, indices):
        if frame is None or frame.index != index:
            raise FrameMissing("The source gave fewer or more frames than were asked for, or others.")
        yield frame


def _fetch_around(source: Source, level: int, indices: tuple[int, ...]) -> Fetched:
    """Fetch what there is: what came before a missing frame is kept, and what comes after it is asked for in halves."""
    found: list[EncodedFrame] = []
    missing: set[int] = set()
    parts = [indices]  # a list, and no recursion: there may be thousands of missing frames
    while parts:
        part, before = parts.pop(), len(found)
        try:
            found.extend(_checked(source, level, part))
        except FrameMissing as exc:
            given = len(found) - before
            rest = part[given:]
            if not rest:
                raise exc from None
            if len(rest) == 1:
                missing.update(rest)
                continue
            half = 1 if given else len(rest) // 2  # the source names the first it lacks; if it gave nothing, it may not
            parts += [rest[half:], rest[:half]]
    return tuple(found), frozenset(missing)
