"""transform: encoded frames become batches of RGB patches, decoded on all cores, each frame once."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from models.domain.patch import EncodedFrame, FrameGroup, PatchBatch
from models.domain.slide import Level
from models.imaging.decode import decode_frame
from models.imaging.resample import cut_patch


class _BatchBuffer:
    """Collects patches into batches of one size; the last is padded with black that nobody sees."""

    def __init__(self, size: int, patch_px: int) -> None:
        self._shape = (size, patch_px, patch_px, 3)
        self._pixels = np.zeros(self._shape, np.uint8)
        self._index = self._count = 0

    def next_patch(self) -> NDArray[np.uint8]:
        """Return the place of the next patch."""
        self._count += 1
        place: NDArray[np.uint8] = self._pixels[self._count - 1]
        return place

    def take(self, *, last: bool = False) -> Iterator[PatchBatch]:
        """Yield the batch if it is full, or if it is the last and holds anything."""
        if self._count == self._shape[0] or (last and self._count):
            yield PatchBatch(self._index, self._pixels, self._count)
            self._pixels = np.zeros(self._shape, np.uint8) if not last else self._pixels
            self._index, self._count = self._index + 1, 0


def cut_batches(
    groups: Iterable[FrameGroup], level: Level, patch_px: int, batch_size: int, decoders: int
) -> Iterator[PatchBatch]:
    """Decode frames, cut patches, yield batches in reading order.

    Parameters
    ----------
    groups : iterable of FrameGroup
    level : Level
    patch_px : int
    batch_size : int
    decoders : int
        Threads; the decoders let go of the interpreter lock.

    Raises
    ------
    FrameUndecodable, PixelsUnsupported
    """
    buffer = _BatchBuffer(batch_size, patch_px)
    decoded: dict[int, NDArray[np.uint8]] = {}

    def decode(frame: EncodedFrame) -> tuple[int, NDArray[np.uint8]]:
        return frame.index, decode_frame(frame, level)

    with ThreadPoolExecutor(decoders, thread_name_prefix="decode") as pool:
        for group in groups:
            decoded.update(pool.map(decode, group.frames))
            for box in group.patches.boxes:
                cut_patch(decoded, level, box, buffer.next_patch())
                yield from buffer.take()
            for index in group.last_use:
                decoded.pop(index, None)
    yield from buffer.take(last=True)
