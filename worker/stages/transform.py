"""transform: encoded frames become batches of RGB patches, decoded on all cores, each frame once."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import FrameMissing, FrameUndecodable
from models.domain.patch import EncodedFrame, FrameGroup, PatchBatch
from models.domain.slide import Level
from models.imaging.decode import decode_frame
from models.imaging.resample import FrameUse, absent_tiles, cut_patch, run_end

Pixels = NDArray[np.uint8]
PATCHES_A_STEP, FRAMES_A_STEP = 32, 64  # at most; of frames, those of one patch at least
STEPS_AHEAD = 2


def _unchanged(pixels: Pixels) -> Pixels:
    return pixels


@dataclass(frozen=True, slots=True)
class Cutting:
    """How patches are cut.

    Parameters
    ----------
    patch_px : int
    batch_size : int
    decoders : int
        Threads; the decoders let go of the interpreter lock.
    buffers : int
        Batches that are filled in turn; 0: each has memory of its own. A batch's pixels are valid until the
        `buffers`-th batch after it is asked for.
    holes : bool
        A patch whose frames are missing or damaged becomes a hole; otherwise that is an error.
    color : callable
        Applied to each decoded frame: uint8 (H, W, 3) to the same.
    fetch_again : callable or None
        Gives a frame anew, by its index: one that does not decode may have been damaged on its way.
    """

    patch_px: int
    batch_size: int
    decoders: int
    buffers: int = 0
    holes: bool = False
    color: Callable[[Pixels], Pixels] = _unchanged
    fetch_again: Callable[[int], EncodedFrame] | None = None


class _BatchBuffer:
    """Collects patches into batches of one size; the last is padded with what nobody sees."""

    def __init__(self, how: Cutting) -> None:
        self._shape = (how.batch_size, how.patch_px, how.patch_px, 3)
        self._ring = deque(np.zeros(self._shape, np.uint8) for _ in range(how.buffers))
        self._pixels = self._fresh()
        self._index = self._count = 0
        self._holes: list[int] = []

    def _fresh(self) -> Pixels:
        if not self._ring:
            return np.zeros(self._shape, np.uint8)
        self._ring.rotate(-1)
        return self._ring[-1]

    def next_patch(self) -> Pixels:
        """Return the place of the next patch."""
        self._count += 1
        place: Pixels = self._pixels[self._count - 1]
        return place

    def next_hole(self) -> None:
        """Leave the place of the next patch as a hole."""
        self._holes.append(self._count)
        self.next_patch()[:] = 0

    def take(self, *, last: bool = False) -> Iterator[PatchBatch]:
        """Yield the batch if it is full, or if it is the last and holds anything."""
        if self._count == self._shape[0] or (last and self._count):
            self._pixels[self._count :] = 0
            yield PatchBatch(self._index, self._pixels, self._count, tuple(self._holes))
            self._pixels = self._pixels if last else self._fresh()
            self._index, self._count, self._holes = self._index + 1, 0, []


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """A few patches, the frames that they are the first to need, and those they are the last to need."""

    boxes: NDArray[np.int32]
    use: list[NDArray[np.int64]]
    frames: list[EncodedFrame]
    done: list[int]


def _steps(group: FrameGroup, level: Level) -> Iterator[_Step]:
    boxes = group.patches.boxes
    use = FrameUse.of(level, boxes)
    encoded = {frame.index: frame for frame in group.frames}
    frames, first, last = use.ends()
    opened, stop = np.sort(first), 0
    while (start := stop) < len(boxes):
        stop = min(start + PATCHES_A_STEP, run_end(opened, start, len(boxes), FRAMES_A_STEP))
        fresh = [encoded.pop(frame) for frame in use.between(start, stop).tolist() if frame in encoded]
        done = frames[(last >= start) & (last < stop)].tolist()
        mine = [use.frames[use.starts[one] : use.starts[one + 1]] for one in range(start, stop)]
        yield _Step(boxes[start:stop], mine, fresh, [frame for frame in done if frame in group.last_use])


class _Cutter:
    """Decoded frames, and the patches that are cut from them."""

    def __init__(self, level: Level, how: Cutting, pool: ThreadPoolExecutor) -> None:
        self._level, self._how, self._pool = level, how, pool
        self._decoded: dict[int, Pixels] = {}
        self._absent = absent_tiles(level)
        shape = (level.frame_height_px, level.frame_width_px, 3)
        glass = level.background if level.absent else None
        self._glass = None if glass is None else np.broadcast_to(np.asarray(glass, np.uint8), shape)
        self._buffer = _BatchBuffer(how)

    def decode(self, step: _Step) -> list[Future[dict[int, Pixels]]]:
        """Begin to decode a step's frames."""
        shares = (step.frames[part :: self._how.decoders] for part in range(self._how.decoders))
        return [self._pool.submit(self._decode, share) for share in shares if share]

    def _decode(self, frames: list[EncodedFrame]) -> dict[int, Pixels]:
        found = {}
        for frame in frames:
            try:
                found[frame.index] = self._how.color(self._decode_one(frame))
            except (FrameUndecodable, FrameMissing):
                if not self._how.holes:
                    raise
        return found

    def _decode_one(self, frame: EncodedFrame) -> Pixels:
        try:
            return decode_frame(frame, self._level)
        except FrameUndecodable:
            if self._how.fetch_again is None:
                raise
            again = self._how.fetch_again(frame.index)
            if again.data == frame.data:
                raise
        return decode_frame(again, self._level)

    def cut(self, step: _Step, decoding: list[Future[dict[int, Pixels]]]) -> Iterator[PatchBatch]:
        """Cut a step's patches, and forget the frames that nobody needs again."""
        for future in decoding:
            self._decoded.update(future.result())
        for box, frames in zip(step.boxes, step.use, strict=True):
            self._lay_glass(frames)
            if self._how.holes and not all(frame in self._decoded for frame in frames.tolist()):
                self._buffer.next_hole()
            else:
                cut_patch(self._decoded, self._level, box, self._buffer.next_patch())
            yield from self._buffer.take()
        for frame in step.done:
            self._decoded.pop(frame, None)

    def _lay_glass(self, frames: NDArray[np.int64]) -> None:
        """Let tiles that are absent on purpose stand for glass."""
        if self._glass is not None:
            self._decoded.update(dict.fromkeys(frames[self._absent[frames]].tolist(), self._glass))

    def rest(self) -> Iterator[PatchBatch]:
        """Yield the last batch."""
        return self._buffer.take(last=True)


def cut_batches(groups: Iterable[FrameGroup], level: Level, how: Cutting) -> Iterator[PatchBatch]:
    """Decode frames, cut patches, yield batches in reading order; the next frames are decoded meanwhile.

    Parameters
    ----------
    groups : iterable of FrameGroup
    level : Level
    how : Cutting

    Raises
    ------
    FrameUndecodable, PixelsUnsupported
    """
    with ThreadPoolExecutor(how.decoders, thread_name_prefix="decode") as pool:
        cutter = _Cutter(level, how, pool)
        under_way: deque[tuple[_Step, list[Future[dict[int, Pixels]]]]] = deque()
        for group in groups:
            for step in _steps(group, level):
                under_way.append((step, cutter.decode(step)))
                if len(under_way) > STEPS_AHEAD:
                    yield from cutter.cut(*under_way.popleft())
        while under_way:
            yield from cutter.cut(*under_way.popleft())
        yield from cutter.rest()
