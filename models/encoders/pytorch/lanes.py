"""The way of pixels to the device that computes: none on a CPU, pinned buffers and a stream of its own on CUDA."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Lane(Protocol):
    """Brings pixels to a device."""

    def bring(self, pixels: NDArray[np.uint8]) -> Any:
        """Return pixels as a tensor on the device; what computes on it next sees them whole.

        The array may be overwritten once the call has returned, but on a CPU only once the result is no more used.
        """

    def release(self) -> None:
        """Give back what memory is held for later use."""


class HostLane:
    """A CPU computes where the pixels are."""

    def bring(self, pixels: NDArray[np.uint8]) -> Any:
        """Return the same memory as a tensor."""
        import torch

        return torch.from_numpy(np.require(pixels, requirements=["C", "W"]))

    def release(self) -> None:
        """Do nothing: what is freed is free."""


class CudaLane:
    """Copies pixels to a GPU while it computes what came before.

    Two page-locked buffers take turns: one is filled while the other's copy is under way, on a stream beside the one
    that computes (PyTorch's notes on CUDA semantics: "Use pinned memory buffers"). Nothing here waits for the GPU but a
    buffer that is still being copied from.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: Any) -> None:
        import torch

        self._torch, self._device = torch, device
        self._copies = torch.cuda.Stream(device)
        self._stages = tuple(_Stage(torch.empty(0, dtype=torch.uint8), torch.cuda.Event()) for _ in range(2))
        self._turn = 0

    def bring(self, pixels: NDArray[np.uint8]) -> Any:
        """Start the copy; what is launched next on the current stream waits for it."""
        stage = self._stages[self._turn]
        self._turn = 1 - self._turn
        stage.copied.synchronize()  # returns at once if it was never recorded
        with self._torch.cuda.device(self._device):  # page-locking opens the current GPU, which may be another
            held = stage.hold(pixels.size, self._torch).view(pixels.shape)
        np.copyto(held.numpy(), pixels)
        with self._torch.cuda.stream(self._copies):
            there = held.to(self._device, non_blocking=True)
            stage.copied.record(self._copies)
        computing = self._torch.cuda.current_stream(self._device)
        computing.wait_event(stage.copied)
        there.record_stream(computing)  # made on another stream: its memory is not reused before this one is done
        return there

    def release(self) -> None:
        """Give memory that PyTorch keeps for later back to the driver: it may be in the wrong pieces."""
        self._torch.cuda.empty_cache()


class _Stage:
    """A page-locked buffer, and the event of its last copy."""

    def __init__(self, buffer: Any, copied: Any) -> None:
        self._buffer, self.copied = buffer, copied

    def hold(self, size: int, torch: Any) -> Any:
        """Return `size` bytes of the buffer, which grows if need be."""
        if self._buffer.numel() < size:
            self._buffer = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return self._buffer[:size]
