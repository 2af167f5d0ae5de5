"""Macenko's stain normalisation of one patch, step by step as EXAONEPath applies it: the measure of the product's.

Written from Macenko et al., ISBI 2009, the definitions of covariance and percentile in torchstain 1.4.1 and what
EXAONEPath's own code does around them; compared once with torchstain itself. Nothing of the product is imported.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

LIGHT = 240
"""Intensity that shines through glass (Io)."""
PERCENTILE = 1
TRANSPARENT = 0.15
"""Optical density under which a pixel is glass (beta), in any channel."""


@dataclass(frozen=True)
class Target:
    """What images are brought to: the colours of the two stains (3, 2), and how much there is of them (2,)."""

    stains: torch.Tensor
    most: torch.Tensor


DEFAULT = Target(
    torch.tensor([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]]),
    torch.tensor([1.9705, 1.0308]),
)
"""torchstain's."""


def fit(image: NDArray[np.uint8]) -> Target:
    """Return the stains of an image (H, W, 3)."""
    stains, _, most = _stains(_to_tensor(image) * 255)
    return Target(stains, most)


def normalise(patch: NDArray[np.uint8], target: Target = DEFAULT) -> tuple[torch.Tensor, bool]:
    """Normalise a patch (H, W, 3).

    Returns
    -------
    float32 tensor, shape (3, H, W)
        In 0..1, not rounded.
    bool
        It could not be normalised, and is given as it was.
    """
    plain = _to_tensor(patch)
    try:
        _, amounts, most = _stains(plain * 255)
        amounts *= (target.most / most).unsqueeze(-1)
        image = LIGHT * torch.exp(-torch.matmul(target.stains, amounts))
        image[image > 255] = 255
        image = image.reshape(plain.shape) / 255.0
    except (RuntimeError, IndexError):  # the published code goes on after any exception; these are PyTorch's
        return plain, True
    if torch.any(torch.isnan(image)):
        return plain, True
    return image, False


def _to_tensor(patch: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(patch.copy()).permute(2, 0, 1).contiguous().float() / 255


def _stains(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the stains' colours (3, 2), the amounts of both in every pixel (2, N), and the 99th percentiles (2,)."""
    density = -torch.log((image.permute(1, 2, 0).reshape(-1, 3) + 1) / LIGHT)
    tissue = density[~torch.any(density < TRANSPARENT, dim=1)]

    centred = tissue.T - tissue.T.mean(dim=1)[:, None]
    covariance = torch.mm(centred, centred.T) / (centred.size(1) - 1)
    plane = torch.linalg.eigh(covariance)[1][:, [1, 2]]

    seen = torch.matmul(tissue, plane)
    angles = torch.atan2(seen[:, 1], seen[:, 0])
    first = _direction(plane, _percentile(angles, PERCENTILE))
    last = _direction(plane, _percentile(angles, 100 - PERCENTILE))
    # Haematoxylin takes more of the red than eosin does.
    stains = torch.stack((first, last) if first[0] > last[0] else (last, first), dim=1)

    amounts = torch.linalg.lstsq(stains, density.T)[0]
    return stains, amounts, torch.stack([_percentile(amounts[0], 99), _percentile(amounts[1], 99)])


def _direction(plane: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    return torch.matmul(plane, torch.stack((torch.cos(angle), torch.sin(angle))))


def _percentile(values: torch.Tensor, percent: float) -> torch.Tensor:
    """Return the value at that rank, the nearest one: nothing is interpolated."""
    return values.kthvalue(1 + round(0.01 * float(percent) * (values.numel() - 1))).values
