"""Stains by Macenko's method: what colours images are brought to, and how that is read off an image.

Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009, with the constants
and the definitions of covariance and percentile of torchstain 1.4, which EXAONEPath's published code imports.
"""

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import RequestError

LIGHT: Final = 240
"""Intensity that shines through glass (Io)."""
ALPHA: Final = 1
"""Percentile of the angles, from either end, that is taken for a pure stain."""
BETA: Final = 0.15
"""A pixel with less optical density in any channel is glass."""
AMOUNT: Final = 99
"""Percentile of a stain's amounts that stands for the most there is of it."""
_MARK: Final = "macenko1"


@dataclass(frozen=True, slots=True)
class StainReference:
    """What images are brought to.

    Parameters
    ----------
    stains : ((float, float), (float, float), (float, float))
        Optical density of haematoxylin and eosin in R, G and B (HERef).
    most : (float, float)
        99th percentile of the amount of each (maxC).
    """

    stains: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    most: tuple[float, float]

    def text(self) -> str:
        """Return it as one line without blanks, to the last bit, which `parse` reads."""
        return ":".join([_MARK, *(repr(number) for row in (*self.stains, self.most) for number in row)])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote.

        Raises
        ------
        RequestError
            It is something else.
        """
        mark, *words = text.split(":")
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = []
        if mark != _MARK or len(numbers) != 8 or not all(map(math.isfinite, numbers)):
            raise RequestError(f"{text!r} is no stain reference: it is {_MARK}: and eight numbers.")
        r, g, b, most = zip(numbers[::2], numbers[1::2], strict=True)
        return cls((r, g, b), most)

    @classmethod
    def is_text(cls, text: str) -> bool:
        """Return whether it looks like what `text` writes, and not like the path of an image."""
        return text.startswith(f"{_MARK}:")


PUBLISHED: Final = StainReference(((0.5626, 0.2159), (0.7201, 0.8012), (0.4062, 0.5581)), (1.9705, 1.0308))
"""Macenko's own, the default of torchstain and of its predecessors."""


def optical_densities() -> NDArray[np.float32]:
    """Return the optical density of each value of a byte, (256,), rounded as the published code rounds it."""
    bytes_ = np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(255)
    return np.asarray(-np.log((bytes_ + np.float32(1)) / np.float32(LIGHT)), np.float32)


def fit(image: NDArray[np.uint8]) -> StainReference:
    """Read the stains of an image off it, in double precision but for what decides a sign.

    The published code's single precision misses these numbers by up to 2e-3 on an image of 2048 x 2048 px.

    Parameters
    ----------
    image : uint8 array, shape (H, W, 3)
        RGB.

    Raises
    ------
    RequestError
        There is not enough tissue in it.
    """
    density = optical_densities()[image.reshape(-1, 3)]
    tissue = density[~(density < np.float32(BETA)).any(1)].astype(np.float64)
    if len(tissue) < 2:
        raise RequestError("There is no tissue in the image: take one that haematoxylin and eosin fill.")
    # In float32, like the published code: an eigenvector's sign is LAPACK's, and decides where the angles begin.
    plane = np.linalg.eigh(np.cov(tissue.T).astype(np.float32))[1][:, 1:].astype(np.float64)
    seen = tissue @ plane
    angles = np.arctan2(seen[:, 1], seen[:, 0])
    ends = [plane @ (math.cos(angle), math.sin(angle)) for angle in (_at(angles, ALPHA), _at(angles, 100 - ALPHA))]
    order = slice(None) if ends[0][0] > ends[1][0] else slice(None, None, -1)  # haematoxylin takes more of the red
    stains = np.stack(ends[order], 1)
    most = [_at(density @ row, AMOUNT) for row in np.linalg.pinv(stains)]
    if not (np.isfinite(stains).all() and min(most) > 0):
        raise RequestError("The stains of the image cannot be told: take one of haematoxylin and eosin.")
    (r, g, b), (first, second) = ((float(one), float(other)) for one, other in stains), most
    return StainReference((r, g, b), (first, second))


def rank(percent: float, count: int) -> int:
    """Return which of `count` values in order, from 0, is a percentile: the nearest, none is interpolated."""
    return round(0.01 * float(percent) * (count - 1))


def _at(values: NDArray[np.float64], percent: float) -> float:
    where = rank(percent, len(values))
    return float(np.partition(values, where)[where])
