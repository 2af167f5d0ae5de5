"""What PyTorch raises when a device fails: told apart from what is wrong with the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from models.domain.errors import DeviceLost, DeviceMemory, RequestError, SettingsInvalid

# cuBLAS and cuDNN have errors of their own for it; the CPU's allocator raises a plain RuntimeError.
_MEMORY: Final = ("out of memory", "_STATUS_ALLOC_FAILED", "can't allocate memory", "not enough memory")
_DEVICE: Final = ("CUDA error", "CUDA driver error", "cuDNN error")
_NO_KERNEL: Final = "no kernel image"
_NOT_DETERMINISTIC: Final = "torch.use_deterministic_algorithms"


def is_memory(error: Exception) -> bool:
    """Whether there was too little memory, on the device or the machine; a smaller part may fit."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _MEMORY)
    )


@contextmanager
def device_faults() -> Iterator[None]:
    """Within a block, turn what PyTorch raises for a device into errors of ours; all else passes.

    Raises
    ------
    DeviceMemory
    DeviceLost
        The process cannot use the device any more: after an error of CUDA all later calls fail, too.
    SettingsInvalid
        This PyTorch was not built for the device.
    RequestError
        Deterministic mode meets an operation that is not reproducible there.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as exc:
        if is_memory(exc):
            raise DeviceMemory("The device has too little memory for the network: use a smaller one.") from exc
        if _NOT_DETERMINISTIC in str(exc):
            raise RequestError(
                f"--encoder-option deterministic=yes cannot be kept on this device ({_first_line(exc)}): "
                "leave it out, or set device to 'cpu'."
            ) from exc
        if not str(exc).startswith(_DEVICE):
            raise
        if _NO_KERNEL in str(exc):
            raise SettingsInvalid(
                "This PyTorch was not built for the GPU: set device to 'cpu', or install another."
            ) from exc
        raise DeviceLost(f"The GPU failed ({_first_line(exc)}): this process cannot use it any more.") from exc


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(" .")[:120]
