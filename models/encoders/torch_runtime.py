"""PyTorch, brought up on first use: device, checkpoint, batches in and out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ExtraMissing, WeightsInvalid
from models.domain.patch import Rows
from models.encoders.protocol import EncoderSpec


def require_torch(encoder: str) -> ModuleType:
    """Import PyTorch, or say how to install it."""
    try:
        import torch
    except ImportError as exc:
        raise ExtraMissing(f"The encoder {encoder} needs the extra 'torch': pip install 'slidewire[torch]'.") from exc
    module: ModuleType = torch
    return module


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """Read a state dict without running any code it may hold (``weights_only``)."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch raises many kinds on a damaged file
        raise WeightsInvalid(f"The weights {path.name} are no PyTorch checkpoint, or are damaged.") from exc
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise WeightsInvalid(f"The weights {path.name} hold a {type(state).__name__}, not a state dict.")
    return state


def load_strictly(module: Any, state: Mapping[str, Any], name: str) -> None:
    """Load a state dict; a missing, unexpected or misshapen key is an error that names it."""
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as exc:
        first = str(exc).splitlines()[1].strip() if "\n" in str(exc) else str(exc)
        raise WeightsInvalid(f"The weights are not those of {name}: {first}") from exc


class TorchEncoder:
    """An `Encoder` around a PyTorch function from normalised images to features.

    Parameters
    ----------
    spec : EncoderSpec
    forward : callable
        float32 tensor (B, 3, input_px, input_px) to float tensor (B, D), both on the device.
    module : torch.nn.Module
        Moved to the device and switched to inference.
    """

    def __init__(self, spec: EncoderSpec, forward: Callable[[Any], Any], module: Any) -> None:
        import torch

        self._torch = torch
        self._spec = spec
        self._forward = forward
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        module.eval().requires_grad_(requires_grad=False).to(self._device)
        self._mean = torch.tensor(spec.mean, device=self._device).view(1, 3, 1, 1)
        self._std = torch.tensor(spec.std, device=self._device).view(1, 3, 1, 1)

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Embed uint8 RGB patches (B, H, W, 3); return float32 (B, D)."""
        torch, size = self._torch, self._spec.input_px
        with torch.inference_mode():
            images = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2).float().div_(255)
            if images.shape[-2:] != (size, size):
                images = torch.nn.functional.interpolate(
                    images, (size, size), mode=self._spec.interpolation, antialias=True, align_corners=False
                )
            features = self._forward((images - self._mean) / self._std)
            return Rows(np.ascontiguousarray(features.float().cpu().numpy()))
