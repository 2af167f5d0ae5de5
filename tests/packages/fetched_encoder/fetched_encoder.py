"""An encoder whose weights are published on a hub, under terms: a matrix that mean colours are multiplied with."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import WeightsInvalid
from models.domain.patch import Rows
from models.encoders import pixel_grid
from models.encoders.options import settle_options
from models.encoders.protocol import Encoder, Hub, Licence
from models.encoders.weights.published import find_weights


class _Colours:
    def __init__(self, matrix: NDArray[np.float32]) -> None:
        self._matrix = matrix

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return (B, D): the mean colours, mixed."""
        return Rows(np.asarray(pixels.mean(axis=(1, 2)) @ self._matrix, np.float32))


class _Model:
    spec = replace(
        pixel_grid.MODEL.spec,
        name="fetched",
        family="mixed colours",
        dimension=50_000,
        revision="main",
        source="https://hub.test/owner/net",
        licence=Licence("Terms of the test", "https://hub.test/terms", ask=True),
        hub=Hub("owner/net", ("model.npy",)),
    )

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Return the options that every encoder has."""
        return settle_options(self.spec, options, {})

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return the given file, or the fetched one."""
        return find_weights(self.spec, given, store)

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Load the matrix."""
        del options, device
        if weights is None:
            raise WeightsInvalid("fetched needs weights.")
        return _Colours(np.load(weights))


MODEL = _Model()
