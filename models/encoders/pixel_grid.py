"""pixel-grid: an 8 x 8 grid of mean colours. No weights: for tests, dry runs and measuring the feed."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.domain.errors import WeightsInvalid
from models.encoders.protocol import Encoder, EncoderSpec
from models.encoders.registry import no_options

_GRID = 8


class _PixelGrid:
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, 192): the mean colour in 0..1 of each cell, row by row, R G B."""
        small = [cv2.resize(patch.astype(np.float32), (_GRID, _GRID), interpolation=cv2.INTER_AREA) for patch in pixels]
        return np.asarray(np.stack(small).reshape(len(pixels), -1) / np.float32(255), np.float32)


class _Model:
    spec = EncoderSpec(
        name="pixel-grid",
        family="mean colours, no weights",
        dimension=_GRID * _GRID * 3,
        input_px=224,
        spacings_um=(),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        interpolation="area",
        extra="",
        licence="Apache-2.0",
        source="part of Slidewire",
        revision="1",
        weights_sha256="",
        preprocessing_version=1,
    )

    def weights(self, given: Path | None) -> Path | None:
        """Return None: there are none."""
        if given is not None:
            raise WeightsInvalid(f"The encoder {self.spec.name} has no weights: leave --weights out.")
        return given

    def load(self, weights: Path | None, options: Mapping[str, str]) -> Encoder:
        """Return the encoder."""
        del weights
        no_options(self.spec.name, options)
        return _PixelGrid()


MODEL = _Model()
