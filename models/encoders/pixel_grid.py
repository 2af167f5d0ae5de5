"""pixel-grid: an 8 x 8 grid of mean colours. No weights: for tests, dry runs and measuring the feed."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.domain.patch import Rows
from models.encoders.protocol import Encoder, EncoderSpec, Licence
from models.encoders.weightless import Weightless

_GRID = 8


class _PixelGrid:
    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return (B, 192): the mean colour in 0..1 of each cell, row by row, R G B."""
        small = [cv2.resize(patch.astype(np.float32), (_GRID, _GRID), interpolation=cv2.INTER_AREA) for patch in pixels]
        return Rows(np.asarray(np.stack(small).reshape(len(pixels), -1) / np.float32(255), np.float32))


class _Model(Weightless):
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
        licence=Licence("Apache-2.0"),
        source="part of Slidewire",
        revision="1",
        weights_sha256="",
        preprocessing_version=1,
    )

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Return the encoder."""
        del weights, device
        self.settle(options)
        return _PixelGrid()


MODEL = _Model()
