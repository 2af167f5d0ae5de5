"""What PyTorch raises for a device becomes one of three errors; what it raises for a network stays what it is."""

import pytest
import torch

from models.domain.errors import DeviceLost, DeviceMemory, RequestError, SettingsInvalid
from models.encoders.options import Computing
from models.encoders.pytorch.device import exact_numbers
from models.encoders.pytorch.faults import device_faults, is_memory

# The texts are PyTorch's own (c10/cuda/CUDAException, aten/src/ATen/cuda/Exceptions, c10/core/impl/alloc_cpu).
_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory"),
    MemoryError(),
]
_LOST = [
    torch.AcceleratorError("CUDA error: device-side assert triggered\nCUDA kernel errors might be"),
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA driver error: unknown error"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
]


@pytest.mark.parametrize("error", _MEMORY, ids=str)
def test_too_little_memory(error: Exception) -> None:
    """Whoever ran out of it, and however that is put."""
    assert is_memory(error)
    with pytest.raises(DeviceMemory), device_faults():
        raise error


@pytest.mark.parametrize("error", _LOST, ids=str)
def test_a_device_that_has_failed(error: Exception) -> None:
    """The first line of what the driver says is kept, the rest is not."""
    assert not is_memory(error)
    with pytest.raises(DeviceLost) as caught, device_faults():
        raise error
    assert str(error).partition("\n")[0] in caught.value.message
    assert "might be" not in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.__cause__ is error


def test_a_gpu_that_pytorch_was_not_built_for() -> None:
    """No new process helps: the setting has to be changed."""
    with pytest.raises(SettingsInvalid, match="not built for the GPU"), device_faults():
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")


def test_an_operation_that_is_not_reproducible() -> None:
    """Deterministic mode is refused where it cannot be kept, with the operation's name."""
    images, places = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.int64)
    with (
        pytest.raises(RequestError, match=r"deterministic=yes .*max_unpooling2d"),
        exact_numbers(Computing(deterministic=True), torch.device("cpu")),
        device_faults(),
    ):
        torch.nn.functional.max_unpool2d(images, places, 2)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA error")])
def test_other_errors_pass(error: Exception) -> None:
    """A network that is wrong is a bug, not a broken device."""
    assert not is_memory(error)
    with pytest.raises(type(error)) as caught, device_faults():
        raise error
    assert caught.value is error
