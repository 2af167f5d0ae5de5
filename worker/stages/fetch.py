"""fetch: the frames that patches need come in groups, a few requests ahead, each frame once."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from connectors.protocols import Source
from models.domain.errors import FrameMissing
from models.domain.patch import EncodedFrame, FrameGroup, PatchGrid
from models.domain.slide import Level
from models.imaging.resample import frames_of, group_ends


@dataclass(frozen=True, slots=True)
class _Wanted:
    indices: tuple[int, ...]
    patches: PatchGrid
    last_use: frozenset[int]


def _wanted(level: Level, grid: PatchGrid, max_frames: int) -> list[_Wanted]:
    needed = frames_of(level, grid.boxes)
    ends = group_ends(grid, needed, max_frames)
    starts = [0, *ends][:-1]
    groups = [_unique(needed[start:end]) for start, end in zip(starts, ends, strict=True)]
    last_group = {int(frame): number for number, frames in enumerate(groups) for frame in frames}
    seen: set[int] = set()
    wanted = []
    for number, frames in enumerate(groups):
        fresh = tuple(int(frame) for frame in frames if int(frame) not in seen)
        seen.update(fresh)
        over = frozenset(int(frame) for frame in frames if last_group[int(frame)] == number)
        wanted.append(_Wanted(fresh, grid[starts[number] : ends[number]], over))
    return wanted


def _unique(frames: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.unique(np.concatenate(frames))


def fetch_groups(
    source: Source, level: int, grid: PatchGrid, frames_a_group: int, connections: int
) -> Iterator[FrameGroup]:
    """Yield the groups of a grid in order, fetching up to `connections` of them at the same time.

    Parameters
    ----------
    source : Source
    level : int
    grid : PatchGrid
        In reading order.
    frames_a_group : int
    connections : int

    Raises
    ------
    FrameMissing
        The source gave other frames than it was asked for.
    """
    waiting = deque(_wanted(source.slide.levels[level], grid, frames_a_group))
    under_way: deque[tuple[_Wanted, Future[tuple[EncodedFrame, ...]]]] = deque()
    pool = ThreadPoolExecutor(connections, thread_name_prefix="fetch")

    def top_up() -> None:
        while waiting and len(under_way) < connections:
            wanted = waiting.popleft()
            under_way.append((wanted, pool.submit(_fetch, source, level, wanted.indices)))

    try:
        top_up()
        while under_way:
            wanted, future = under_way.popleft()
            frames = future.result()
            top_up()  # before these are decoded, so that the wire is never idle
            yield FrameGroup(frames, wanted.patches, wanted.last_use)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _fetch(source: Source, level: int, indices: tuple[int, ...]) -> tuple[EncodedFrame, ...]:
    frames = tuple(source.frames(level, indices)) if indices else ()
    if tuple(frame.index for frame in frames) != indices:
        raise FrameMissing(f"The source gave {len(frames)} frames where {len(indices)} were asked for, or others.")
    return frames
