"""A PyTorch module that lets OpenVINO do its work; importing it imports PyTorch."""

import torch
from torch import Tensor, nn

from models.encoders.options import NetworkPrecision
from models.encoders.pytorch.openvino_network import OpenvinoNetwork


class OpenvinoModule(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """What stands in for a network that OpenVINO runs; it has no weights of its own.

    Parameters
    ----------
    network : torch.nn.Module
        On the CPU, float32, with its weights; not needed afterwards.
    side_px : int
    precision : NetworkPrecision
    """

    def __init__(self, network: nn.Module, side_px: int, precision: NetworkPrecision) -> None:
        super().__init__()
        self._network = OpenvinoNetwork(network.eval(), side_px, precision)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, D), float32, of images (B, 3, side_px, side_px) on the CPU."""
        return torch.from_numpy(self._network(images.float().contiguous().numpy()))
