"""Macenko's stain normalisation of many patches at once, on a CPU or an accelerator; importing it imports PyTorch."""

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor

from models.encoders.stain.directions import (
    covariance_of_one,
    covariances,
    directions_of_many,
    directions_of_one,
    is_tissue,
    mix,
    unmixing,
)
from models.encoders.stain.ranks import kth_smallest, nth_smallest
from models.imaging.stain import AMOUNT, BETA, LIGHT, StainReference, optical_densities, rank

_LIGHT: Final = math.log(LIGHT / 255)


class Macenko:
    """Brings patches to the stains of a reference.

    On a CPU each thread takes one patch after the other, which stays in its cache; an accelerator takes all at once.
    Either way no patch depends on another.

    Parameters
    ----------
    reference : StainReference
    """

    def __init__(self, reference: StainReference) -> None:
        self._stains, self._most = np.asarray(reference.stains, np.float32), np.asarray(reference.most, np.float32)
        self._lut = optical_densities()
        self._threads = _single_threads(torch.get_num_threads())

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise patches.

        Parameters
        ----------
        pixels : uint8 tensor, shape (B, H, W, 3)
            RGB.

        Returns
        -------
        float32 tensor, shape (B, 3, H, W)
            In 0..1, not rounded.
        bool tensor, shape (B,)
            The patch could not be normalised (too little tissue, or nothing but NaN) and is given as it was.
        """
        count, height, width, _ = pixels.shape
        if pixels.is_cuda:
            images, stayed = self._together(pixels.reshape(count, -1, 3).mT)
        else:
            images = torch.empty((count, 3, height * width))
            stayed = torch.tensor(list(self._threads.map(self._alone, pixels, images)), dtype=torch.bool)
        return images.unflatten(-1, (height, width)), stayed

    @torch.inference_mode()  # type: ignore[untyped-decorator]  # torch is untyped here
    def _alone(self, pixels: Tensor, image: Tensor) -> bool:
        """Normalise one patch (H, W, 3) into `image` (3, N); return whether it stayed as it was."""
        planes = np.stack(cv2.split(pixels.numpy())).reshape(3, -1)
        inside = np.flatnonzero(is_tissue(planes.max(0)))
        if len(inside) > 1:
            tissue = pixels.view(-1, 3).numpy().take(inside, 0)
            density, seen = torch.from_numpy(cv2.LUT(planes, self._lut)), cv2.LUT(tissue, self._lut).T
            inverse = unmixing(directions_of_one(seen, covariance_of_one(tissue, seen)))
            amounts = torch.mm(torch.from_numpy(inverse[0].astype(np.float32)), density).numpy()
            own = [nth_smallest(row, rank(AMOUNT, len(row))) for row in amounts]
            with np.errstate(divide="ignore", invalid="ignore"):  # such a patch stays as it is
                mixed = (self._stains * (self._most / np.asarray(own, np.float32))).astype(np.float64) @ inverse[0]
            if np.isfinite(mixed).all():
                mixed = torch.from_numpy(mixed.astype(np.float32))
                torch.addmm(torch.tensor(_LIGHT), mixed, density, alpha=-1, out=image)
                with np.errstate(over="ignore"):  # brighter than white: cut off below
                    np.exp(image.numpy(), out=image.numpy())  # half of PyTorch's time
                image.clamp_(max=1)
                return False
        torch.div(torch.from_numpy(planes), 255, out=image)
        return True

    def _together(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise many patches (B, 3, N) on an accelerator; return them, and which stayed as they were."""
        stains, most, lut = (torch.tensor(one, device=planes.device) for one in (self._stains, self._most, self._lut))
        density = lut[planes.int()]
        tissue = density.amin(1) >= BETA
        inverse = unmixing(directions_of_many(density, tissue, covariances(density, tissue)))
        amounts = mix(inverse.float(), density)
        place = torch.full((2 * len(amounts),), rank(AMOUNT, amounts.shape[-1]), device=amounts.device)
        own = kth_smallest(amounts.flatten(0, 1), place).unflatten(0, (-1, 2))
        mixed = ((stains * (most / own)[:, None]).double() @ inverse).float()
        good = (tissue.sum(1) > 1) & torch.isfinite(mixed).all(2).all(1)
        images = mix(-mixed, density).add_(_LIGHT).exp_().clamp_(max=1)
        return torch.where(good[:, None, None], images, planes / 255), ~good


def _single_threads(count: int) -> ThreadPoolExecutor:
    """Start threads in each of which PyTorch computes on that one alone; all others keep what they have."""
    threads, all_there = ThreadPoolExecutor(count, "macenko"), Barrier(count)

    def begin(_: int) -> None:
        torch.set_num_threads(1)
        all_there.wait()

    list(threads.map(begin, range(count)))
    torch.set_num_threads(count)  # what threads that come later begin with is whatever was set last, by any
    return threads
