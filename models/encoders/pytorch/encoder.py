"""PyTorch, brought up on first use: an `Encoder` around a network."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ExtraMissing, RequestError
from models.domain.patch import Rows
from models.encoders.options import Computing
from models.encoders.protocol import EncoderSpec
from models.encoders.pytorch.batches import MicroBatches
from models.encoders.pytorch.device import choose_device, choose_dtype, exact_numbers
from models.encoders.pytorch.faults import device_faults
from models.encoders.pytorch.images import Images
from models.encoders.pytorch.lanes import CudaLane, HostLane

# Measured on two cores: activations of more patches do not stay in what the allocator keeps, and are paged in anew.
_CPU_PATCHES: Final = 8
_CUDA_PATCHES: Final = 256  # the most that is tried
_CUDA_FIXED: Final = 32
# Of one patch at a time, neither order nor neighbours can change anything.
_CPU_FIXED: Final = 1

Before = Callable[[Any], tuple[Any, Any]]


def require_torch(encoder: str) -> ModuleType:
    """Import PyTorch, or say how to install it."""
    try:
        import torch
    except ImportError as exc:
        raise ExtraMissing(f"The encoder {encoder} needs the extra 'torch': pip install 'slidewire[torch]'.") from exc
    module: ModuleType = torch
    return module


def _openvino_module(network: Any, spec: EncoderSpec, computing: Computing, device: str) -> Any:
    """Return what lets OpenVINO run the network, which is on the CPU."""
    from models.encoders.pytorch.openvino_module import OpenvinoModule

    if device.startswith("cuda"):
        raise RequestError(f"device = {device!r}, but OpenVINO runs on the processor: leave out runtime=openvino.")
    return OpenvinoModule(network, spec.input_px, computing.precision)


class TorchEncoder:
    """An `Encoder` around a PyTorch network.

    The weights have the precision asked for; all before the network is float32. On CUDA, the number of patches at a
    time is found by trial when it is made.

    Parameters
    ----------
    spec : EncoderSpec
    network : torch.nn.Module
        float (B, 3, input_px, input_px) to (B, D); is moved to the device and switched to inference.
    computing : Computing
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    before : callable or None
        On the device: uint8 tensor (B, H, W, 3) to float32 tensor (B, 3, H, W) in 0..1, and bool tensor (B,) of the
        patches that it had to leave as they were.

    Raises
    ------
    SettingsInvalid, RequestError
        There is no such device, or it cannot compute so.
    DeviceMemory, DeviceLost
    """

    def __init__(
        self, spec: EncoderSpec, network: Any, computing: Computing, device: str, before: Before | None = None
    ) -> None:
        torch = require_torch(spec.name)
        if computing.runtime == "openvino":
            network, device = _openvino_module(network, spec, computing, device), "cpu"
            computing = replace(computing, precision="fp32")  # of what is done around the network
        self._torch, self._spec, self._computing = torch, spec, computing
        self._device = choose_device(device)
        dtype = choose_dtype(computing.precision, self._device)
        with device_faults(), exact_numbers(computing, self._device):
            network = network.eval().requires_grad_(requires_grad=False)
            network = network.to(self._device, dtype, memory_format=torch.channels_last)
            self._images = Images(spec, self._device, dtype)
            on_cuda = self._device.type == "cuda"
            lane = CudaLane(self._device) if on_cuda else HostLane()
        self._network = torch.compile(network, dynamic=False) if computing.compiled else network
        self._before = before or self._unchanged
        fixed, size = (_CUDA_FIXED, _CUDA_PATCHES) if on_cuda else (_CPU_FIXED, _CPU_PATCHES)
        self._batches = MicroBatches(
            lane,
            self._forward,
            fixed if computing.deterministic else size,
            padded=computing.deterministic or computing.compiled,
            fixed=computing.deterministic,
        )
        if on_cuda or computing.compiled:
            self._try()

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Embed uint8 RGB patches (B, H, W, 3); return float32 (B, D), with marks if there is a step before."""
        with self._torch.inference_mode(), exact_numbers(self._computing, self._device):
            return self._batches.run(pixels)

    def _forward(self, pixels: Any) -> tuple[Any, Any]:
        images, marks = self._before(pixels)
        return self._network(self._images.prepared(images)), marks

    def _unchanged(self, pixels: Any) -> tuple[Any, None]:
        return self._images.unit(pixels), None

    def _try(self) -> None:
        """Run on noise, as many patches as may come at a time: compiles the network, and finds out what fits."""
        side = self._spec.patches_px[0] if self._spec.patches_px else self._spec.input_px
        noise = np.random.default_rng(0).integers(0, 256, (self._batches.size, side, side, 3), np.uint8)
        if not self._computing.compiled:
            self.encode(noise)
            return
        from torch._dynamo.exc import TorchDynamoException

        try:
            self.encode(noise)
        except TorchDynamoException as exc:
            raise RequestError(
                f"PyTorch cannot compile {self._spec.name} here ({type(exc).__name__}): install what it compiles with "
                "(a C++ compiler, on a GPU Triton), or leave --encoder-option compile=yes out."
            ) from exc
