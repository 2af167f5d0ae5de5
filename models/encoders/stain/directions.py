"""The directions of the two stains in patches, by Macenko's method, with PyTorch; importing it imports PyTorch."""

from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoders.stain.ranks import kth_smallest, nth_smallest
from models.imaging.stain import ALPHA, BETA, optical_densities, rank

_LUT: Final = optical_densities()
_LIGHTEST_TISSUE: Final = int(np.count_nonzero(np.float32(BETA) <= _LUT)) - 1
_SAME: Final = 3 * torch.finfo(torch.float32).eps  # LAPACK's least squares take columns this near for one


def directions_of_one(density: NDArray[np.float32], covariance: Tensor) -> NDArray[np.float64]:
    """Return the directions of haematoxylin and eosin in one patch, unit vectors, (1, 3, 2).

    In NumPy but for the matrix products: PyTorch lets go of the interpreter in its smallest operation, for which
    threads then queue up.

    Parameters
    ----------
    density : float32 array, shape (3, N)
        Optical densities of the tissue.
    covariance : float32 tensor, shape (1, 3, 3)
    """
    plane = _plane(covariance)
    x, y = torch.mm(plane[0].T, torch.from_numpy(density)).numpy()
    sides = np.abs(y)
    sides += np.abs(x)
    angles = np.copysign(np.subtract(1, np.divide(x, sides, out=sides), out=sides), y, out=sides)
    ends = [nth_smallest(angles, rank(percent, len(angles))) for percent in (ALPHA, 100 - ALPHA)]
    found: NDArray[np.float64] = _between(plane.numpy().astype(np.float64), np.array([ends]))
    return found


def directions_of_many(density: Tensor, tissue: Tensor, covariance: Tensor) -> Tensor:
    """Return the directions of haematoxylin and eosin in many patches at once, unit vectors, float64 (B, 3, 2).

    Parameters
    ----------
    density : float32 tensor, shape (B, 3, N)
        Optical densities.
    tissue : bool tensor, shape (B, N)
    covariance : float32 tensor, shape (B, 3, 3)
        Of the tissue, finite.
    """
    plane = _plane(covariance)
    x, y = mix(plane.mT, density).unbind(1)
    angles = torch.copysign(1 - x / (x.abs() + y.abs()), y)
    angles = torch.where(tissue, angles, torch.inf)
    last = (tissue.sum(1) - 1).clamp_(min=0).double()
    ends = [kth_smallest(angles, torch.round(0.01 * float(percent) * last).long()) for percent in (ALPHA, 100 - ALPHA)]
    return _between(plane.double(), torch.stack(ends, 1).double())


def _plane(covariance: Tensor) -> Tensor:
    """Return the plane that most of the tissue's densities lie in, (B, 3, 2)."""
    # Always by the CPU's LAPACK: the sign that it gives an eigenvector decides where the angles begin.
    return torch.linalg.eigh(covariance.cpu())[1][:, :, 1:].to(covariance.device)


def _between(plane: Any, ends: Any) -> Any:
    """Return what lies in planes (B, 3, 2) at two ends (B, 2), which grow with the angle from -2 to 2."""
    xp = _namespace(plane)
    lean = 1 - abs(ends)
    stains = plane @ xp.stack([lean, xp.copysign(1 - abs(lean), ends)], 1)
    stains = stains / (stains * stains).sum(1, keepdims=True) ** 0.5
    ordered = stains[:, :1, :1] > stains[:, :1, 1:]  # haematoxylin takes more of the red
    return xp.where(ordered, stains, xp.flip(stains, (2,)))


def _namespace(array: Any) -> Any:
    """Return the library that an array is of; what is written for both keeps to what they call the same."""
    return np if isinstance(array, np.ndarray) else torch


def is_tissue(lightest: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which pixels are tissue, by the lightest of their channels."""
    return lightest <= _LIGHTEST_TISSUE


def covariance_of_one(pixels: NDArray[np.uint8], density: NDArray[np.float32]) -> Tensor:
    """Return the covariance of a patch's tissue as the published code computes it, float32 (1, 3, 3).

    The rounding error of its sums, which are in single precision and in this order, is most of what two
    implementations differ by: up to 5e-4 of the result.

    Parameters
    ----------
    pixels : uint8 array, shape (N, 3)
        Tissue, at least two.
    density : float32 array, shape (3, N)
        Theirs.
    """
    mean = torch.from_numpy(density).mean(dim=1).numpy()
    centred = torch.from_numpy(cv2.LUT(pixels[:, None], (_LUT[:, None] - mean)[None])).view(-1, 3).T
    return torch.mm(centred, centred.T)[None] / (len(pixels) - 1)


def covariances(density: Tensor, tissue: Tensor) -> Tensor:
    """Return the covariance of the tissue in many patches at once, float32 (B, 3, 3); any if there is none.

    Parameters
    ----------
    density : float32 tensor, shape (B, 3, N)
    tissue : bool tensor, shape (B, N)
    """
    inside, count = tissue[:, None], tissue.sum(1)[:, None]
    mean = torch.where(inside, density, 0).sum(2, dtype=torch.float64) / count
    centred = torch.where(inside, density - mean.float()[:, :, None], 0)
    sums = [(centred * centred[:, row : row + 1]).sum(2, dtype=torch.float64) for row in range(3)]
    found = torch.stack(sums, 1) / (count - 1)[:, :, None]
    return torch.where(count[:, :, None] > 1, found, torch.eye(3, device=density.device)).float()


def unmixing(stains: Any) -> Any:
    """Return the pseudo-inverse (B, 2, 3) of unit vectors (B, 3, 2), float64, of NumPy or PyTorch.

    It is made of their sum and their difference, which are at right angles. Where the two are one within rounding
    each gets half, as from LAPACK's least squares.
    """
    xp = _namespace(stains)
    first, second = stains[..., 0], stains[..., 1]
    parts = (first + second, first - second)
    sizes = [(part * part).sum(1, keepdims=True) for part in parts]
    both, apart = (
        xp.where(size > _SAME**2 * other, part / xp.where(size > 0, size, 1), 0)
        for part, size, other in zip(parts, sizes, sizes[::-1], strict=True)
    )
    return xp.stack([both + apart, both - apart], 1)


def mix(matrix: Tensor, planes: Tensor) -> Tensor:
    """Return matrix (B, K, 3) times planes (B, 3, N) without a matrix unit's shorter numbers (TF32)."""
    first, second, third = (matrix[:, :, i : i + 1] for i in range(3))
    return torch.addcmul(torch.addcmul(first * planes[:, :1], second, planes[:, 1:2]), third, planes[:, 2:])
