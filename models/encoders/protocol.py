"""What an encoder declares about itself, and what it can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder as it is known before its weights are there.

    Parameters
    ----------
    name : str
        Under which it is registered.
    family : str
        Architecture, in words.
    dimension : int
        Components of an embedding.
    input_px : int
        Side of the square input; patches of another size are resized by `interpolation`.
    spacings_um : tuple of float
        Spacings it was trained at (um/px); empty if it has no opinion.
    mean, std : (float, float, float)
        Applied to RGB in 0..1.
    interpolation : str
        How patches of another size are brought to `input_px`.
    extra : str
        The extra of the distribution that its runtime comes with; "" for none.
    licence : str
        SPDX or the licence's own name.
    source : str
        Where model and weights are published.
    revision : str
        Of the published weights.
    weights_sha256 : str
        Digest that the published weights must have; "" if there are none.
    preprocessing_version : int
        Raised whenever the numbers change.
    """

    name: str
    family: str
    dimension: int
    input_px: int
    spacings_um: tuple[float, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    extra: str
    licence: str
    source: str
    revision: str
    weights_sha256: str
    preprocessing_version: int

    @property
    def preprocessing(self) -> str:
        """The pre-processing in words and numbers, for the provenance."""
        return (
            f"v{self.preprocessing_version}: RGB/255, {self.interpolation} to {self.input_px} px, "
            f"mean {list(self.mean)}, std {list(self.std)}"
        )


class Encoder(Protocol):
    """A model in memory, ready to embed."""

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed a batch.

        Parameters
        ----------
        pixels : uint8 array, shape (B, H, W, 3)
            RGB, square.

        Returns
        -------
        float32 array, shape (B, D)
        """


class Model(Protocol):
    """One registered encoder: its spec, and how it is loaded."""

    @property
    def spec(self) -> EncoderSpec:
        """What is known without the weights and without the runtime."""

    def weights(self, given: Path | None) -> Path | None:
        """Return the weights' file to use: the given one or the model's own; None for a model without.

        Raises
        ------
        WeightsInvalid
            There is none, with how to get it.
        """

    def load(self, weights: Path | None, options: Mapping[str, str]) -> Encoder:
        """Load the model; imports its runtime.

        Raises
        ------
        ExtraMissing
            The runtime is not installed.
        WeightsInvalid
            The file is not this model's.
        RequestError
            An option it does not know.
        """
