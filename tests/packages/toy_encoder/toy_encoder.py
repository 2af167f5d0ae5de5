"""A package of its own with an encoder: how dark a patch is in each colour, and how much that varies."""

import numpy as np
from numpy.typing import NDArray

from models.encoders.function import FunctionModel


def darkness(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mean and standard deviation of the optical density: (B, H, W, 3) in 0..1 to (B, 6)."""
    density = -np.log((images * 255 + 1) / 256)
    return np.concatenate([density.mean(axis=(1, 2)), density.std(axis=(1, 2))], axis=1)


MODEL = FunctionModel.of("toy", darkness, 6, spacing_um=0.5, licence="Apache-2.0")
