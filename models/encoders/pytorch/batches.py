"""Batches cut into what a device takes at a time: less when memory is short, always as much when bytes matter."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import DeviceMemory
from models.domain.patch import Rows
from models.encoders.pytorch.faults import device_faults, is_memory
from models.encoders.pytorch.lanes import Lane

Forward = Callable[[Any], tuple[Any, Any]]
"""uint8 tensor (b, H, W, 3) to float tensor (b, D) and bool tensor (b,) or None."""


class MicroBatches:
    """Runs a network over batches of any size.

    Parameters
    ----------
    lane : Lane
    forward : callable
    size : int
        Patches at a time; halved, for good, each time that the device has too little memory.
    padded : bool
        The last part is filled up: the network sees one shape only.
    fixed : bool
        Too little memory is an error: another size might change the last bit.
    """

    def __init__(self, lane: Lane, forward: Forward, size: int, *, padded: bool = False, fixed: bool = False) -> None:
        self._lane, self._forward = lane, forward
        self._padded, self._fixed = padded, fixed
        self._size = size

    @property
    def size(self) -> int:
        """Patches at a time, now."""
        return self._size

    def run(self, pixels: NDArray[np.uint8]) -> Rows:
        """Embed uint8 (B, H, W, 3).

        All parts are handed to the device before the first result is asked for, so that it never waits for us.

        Raises
        ------
        DeviceMemory
            Not even one patch fits, or the size is fixed.
        DeviceLost
            The device has failed.
        """
        done: list[tuple[int, Any]] = []
        start = 0
        with device_faults():
            while start < len(pixels):
                part = pixels[start : start + self._size]
                result = self._attempt(self._filled(part) if self._padded else part)
                if result is None:  # outside of any handler, whose traceback would keep the memory
                    self._halve()
                    continue
                done.append((len(part), result))
                start += len(part)
            return Rows.join([_fetched(result, count) for count, result in done])

    def _attempt(self, part: NDArray[np.uint8]) -> Any:
        try:
            return self._forward(self._lane.bring(part))
        except (RuntimeError, MemoryError) as exc:
            if is_memory(exc):
                return None
            raise

    def _filled(self, part: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if len(part) == self._size:
            return part
        full = np.zeros((self._size, *part.shape[1:]), np.uint8)
        full[: len(part)] = part
        return full

    def _halve(self) -> None:
        self._lane.release()
        if self._fixed:
            raise DeviceMemory(
                f"{self._size} patches at a time, as deterministic mode has it, do not fit into the device's memory: "
                "use a larger device, or leave --encoder-option deterministic out."
            )
        if self._size == 1:
            raise DeviceMemory("Not one patch fits into the device's memory: use a larger device, or smaller patches.")
        self._size //= 2


def _fetched(result: tuple[Any, Any], count: int) -> Rows:
    """Bring the first rows to the host; waits until they are computed."""
    features, marks = result
    matrix = np.ascontiguousarray(features[:count].float().cpu().numpy())
    return Rows(matrix, None if marks is None else marks[:count].cpu().numpy())
