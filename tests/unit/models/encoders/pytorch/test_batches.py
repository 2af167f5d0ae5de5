"""Batches in parts, on a device that is told what to do: short of memory, failing, or well."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.domain.errors import DeviceLost, DeviceMemory
from models.encoders.pytorch.batches import MicroBatches


@dataclass
class _Device:
    """A lane and a network in one, which takes so many patches at a time and fails when it is told to.

    Its features of a patch are two sums over its pixels; it marks patches whose first value is odd.
    """

    room: int = 10**6
    fails: Callable[[int], Exception | None] = lambda _: None
    seen: list[int] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    marks: bool = False

    def bring(self, pixels: NDArray[np.uint8]) -> Any:
        return torch.from_numpy(pixels.copy())

    def release(self) -> None:
        self.released.append(len(self.seen))

    def forward(self, pixels: Any) -> tuple[Any, Any]:
        self.seen.append(len(pixels))
        error = self.fails(len(self.seen))
        if error:
            raise error
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        flat = pixels.flatten(1).double()
        features = torch.stack([flat.sum(1), flat[:, ::2].sum(1)], dim=1)
        return features, (pixels[:, 0, 0, 0] % 2 == 1 if self.marks else None)

    def batches(self, size: int, **how: bool) -> MicroBatches:
        return MicroBatches(self, self.forward, size, **how)


def _patches(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 4, 4, 3), np.uint8)


def _expected(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    return np.stack([flat.sum(1), flat[:, ::2].sum(1)], axis=1).astype(np.float32)


def test_a_device_without_room_for_one_patch_is_an_error() -> None:
    """It was tried with less and less, down to one, each time with the memory given back before."""
    device = _Device(room=0)
    with pytest.raises(DeviceMemory, match="Not one patch"):
        device.batches(8).run(_patches(8))
    assert device.seen == [8, 4, 2, 1]
    assert device.released == [1, 2, 3, 4]


def test_in_deterministic_mode_less_is_an_error() -> None:
    """Another number at a time could give another last bit: nothing is halved."""
    device = _Device(room=4)
    with pytest.raises(DeviceMemory, match="deterministic"):
        device.batches(8, padded=True, fixed=True).run(_patches(8))
    assert device.seen == [8]


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), DeviceLost),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceLost),
        (RuntimeError("a bug"), RuntimeError),
        (KeyError("a bug"), KeyError),
    ],
)
def test_other_failures_are_not_tried_again(error: Exception, ours: type[Exception]) -> None:
    """A lost device is said to be lost; a bug stays a bug."""
    device = _Device(fails=lambda call: error if call == 2 else None)
    with pytest.raises(ours):
        device.batches(2).run(_patches(6))
    assert device.seen == [2, 2]
    assert device.released == []


class _Late:
    """Features that a GPU turns out not to have computed, once they are asked for."""

    def __getitem__(self, part: slice) -> "_Late":
        return self

    def float(self) -> "_Late":
        return self

    def cpu(self) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")


def test_a_device_that_fails_later_is_lost_too() -> None:
    """CUDA reports what went wrong when results are fetched."""
    with pytest.raises(DeviceLost, match="unspecified launch failure"):
        MicroBatches(_Device(), lambda _: (_Late(), None), 2).run(_patches(2))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 16, 21])
@pytest.mark.parametrize("room", [1, 2, 3, 8])
@pytest.mark.parametrize("padded", [False, True])
def test_rows_are_in_order_whatever_fits(count: int, room: int, *, padded: bool) -> None:
    """Each patch gets its own row and mark, however often the parts were halved, filled up or not."""
    device, pixels = _Device(room=room, marks=True), _patches(count)
    given = pixels.copy()
    rows = device.batches(8, padded=padded).run(pixels)
    assert np.array_equal(rows.matrix, _expected(pixels))
    assert rows.matrix.dtype == np.float32
    assert rows.fallbacks is not None
    assert np.array_equal(rows.fallbacks, pixels[:, 0, 0, 0] % 2 == 1)
    assert np.array_equal(pixels, given)


def test_halving_is_for_good() -> None:
    """What did not fit once is not tried with the next batch; what was computed before is not computed again."""
    device = _Device(fails=lambda call: torch.OutOfMemoryError("CUDA out of memory.") if call == 2 else None)
    batches = device.batches(8)
    batches.run(_patches(24))
    assert device.seen == [8, 8, 4, 4, 4, 4]
    assert batches.size == 4
    batches.run(_patches(8))
    assert device.seen[6:] == [4, 4]


def test_memory_of_the_machine_counts_too() -> None:
    """The CPU's allocator and Python itself say it in their own words."""
    errors = {1: MemoryError(), 2: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")}
    device = _Device(fails=errors.get)
    assert len(device.batches(8).run(_patches(8))) == 8
    assert device.seen == [8, 4, 2, 2, 2, 2]


def test_padding_keeps_the_shape() -> None:
    """The network sees parts of one size only; without padding the last one is what is left."""
    filled, bare = _Device(), _Device()
    filled.batches(8, padded=True).run(_patches(11))
    bare.batches(8).run(_patches(11))
    assert (filled.seen, bare.seen) == ([8, 8], [8, 3])


def test_without_a_step_before_there_are_no_marks() -> None:
    """None is not the same as: none fell back."""
    assert _Device().batches(2).run(_patches(3)).fallbacks is None
