"""How patches look, in three numbers each: how much haematoxylin and eosin is in them, and how sharp they are."""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from models.imaging.stain import BETA, PUBLISHED, optical_densities

_LEAST_TISSUE = 0.05  # of a patch's pixels; of fewer, an average says nothing


@dataclass(frozen=True, eq=False)
class Appearance:
    """How N patches look.

    Parameters
    ----------
    stains : float64 array, shape (N, 2)
        Average amount of haematoxylin and of eosin in the pixels that hold tissue (an optical density of 0.15 or more
        in all channels), by Macenko's published stains; NaN for a patch that is glass but for 5 %.
    sharpness : float64 array, shape (N,)
        Variance of the Laplacian of the grey values (Pech-Pacheco et al., "Diatom autofocusing in brightfield
        microscopy", ICPR 2000): low where nothing is in focus, and where nothing is.
    """

    stains: NDArray[np.float64]
    sharpness: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.sharpness)

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> Self:
        """Look at patches: uint8, RGB, shape (N, H, W, 3)."""
        stains = np.asarray([_amounts(patch) for patch in pixels], np.float64).reshape(-1, 2)
        return cls(stains, np.asarray([_sharpness(patch) for patch in pixels], np.float64))

    @classmethod
    def join(cls, parts: "list[Appearance]") -> Self:
        """Return all parts' patches, in order."""
        none = np.empty((0, 2))
        return cls(
            np.concatenate([none, *(part.stains for part in parts)]),
            np.concatenate([none[:, 0], *(part.sharpness for part in parts)]),
        )


def _amounts(patch: NDArray[np.uint8]) -> tuple[float, float]:
    density = optical_densities()[patch.reshape(-1, 3)]
    tissue = density[(density >= BETA).all(axis=1)]
    if len(tissue) < _LEAST_TISSUE * len(density):
        return np.nan, np.nan
    haematoxylin, eosin = np.linalg.pinv(np.asarray(PUBLISHED.stains)) @ tissue.mean(axis=0)
    return float(haematoxylin), float(eosin)


def _sharpness(patch: NDArray[np.uint8]) -> float:
    grey = cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())
