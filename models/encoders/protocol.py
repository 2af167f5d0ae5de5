"""What an encoder declares about itself, and what it can do."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import EmbeddingInvalid
from models.domain.patch import Rows
from models.domain.request import DEFAULT_PATCH_PX, DEFAULT_SPACING_UM

Precision = Literal["fp32", "bf16", "fp16"]
Stain = Literal["", "macenko"]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Licence:
    """The terms that a model's weights come with.

    Parameters
    ----------
    name : str
        SPDX, or the licence's own name with its version: what is accepted.
    url : str
        Where it can be read.
    ask : bool
        It restricts the use (research only, no commerce) or has to be agreed to on the hub: whoever runs the encoder
        must have said that they accept it (the setting ``accepted_licences``).
    """

    name: str
    url: str = ""
    ask: bool = False


@dataclass(frozen=True, slots=True)
class Hub:
    """Where published weights lie on the Hugging Face hub.

    Parameters
    ----------
    repository : str
        ``owner/name``.
    files : tuple of str
        Paths or patterns of what is needed; if it is one path, that file is the weights, else the folder is.
    """

    repository: str
    files: tuple[str, ...]


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
        Side of the square input.
    spacings_um : tuple of float
        Spacings it was trained at (um/px), the usual one first; empty if it has no opinion.
    mean, std : (float, float, float)
        Applied to RGB in `value_range`.
    interpolation : str
        How patches are brought to `resize_px`: ``bilinear``, ``bicubic`` or ``area``; with antialiasing.
    extra : str
        The extra of the distribution that its runtime comes with; "" for none.
    licence : Licence
    source : str
        Where model and weights are published.
    revision : str
        Of the published weights; "main" if their publisher names none.
    weights_sha256 : str
        Digest that the published weights must have; "" if there are none, or if it is not public.
    preprocessing_version : int
        Raised whenever the numbers change.
    resize_px : int or None
        Side that a patch is resized to before the middle `input_px` are cut out; None: `input_px`, nothing is cut.
    patches_px : tuple of int
        Sizes of patch it is meant for, the usual one first; empty: any.
    value_range : (float, float)
        What 0 and 255 become.
    stain : str
        Stain normalisation before all else; "" for none.
    precisions : tuple of Precision
        What the network may compute in; the first is the default.
    strict_spacing : bool
        Patches of other spacings are refused unless asked for; otherwise they are only noted.
    hub : Hub or None
        Where its weights can be fetched.
    remote : bool
        It runs on a server, which takes patches of `input_px` and does the rest of the pre-processing.
    """

    name: str
    family: str
    dimension: int
    input_px: int
    spacings_um: tuple[float, ...]
    mean: Triple
    std: Triple
    interpolation: str
    extra: str
    licence: Licence
    source: str
    revision: str
    weights_sha256: str
    preprocessing_version: int
    resize_px: int | None = None
    patches_px: tuple[int, ...] = ()
    value_range: tuple[float, float] = (0.0, 1.0)
    stain: Stain = ""
    precisions: tuple[Precision, ...] = ("fp32",)
    strict_spacing: bool = True
    hub: Hub | None = None
    remote: bool = False

    @property
    def patch_px(self) -> int:
        """The size of patch to give it if nobody says another."""
        return self.patches_px[0] if self.patches_px else DEFAULT_PATCH_PX

    @property
    def spacing_um(self) -> float:
        """The spacing (um/px) of patches to give it if nobody says another."""
        return self.spacings_um[0] if self.spacings_um else DEFAULT_SPACING_UM

    @property
    def preprocessing(self) -> str:
        """The pre-processing in words and numbers, for the provenance and the result's identity."""
        if self.remote:
            return f"v{self.preprocessing_version}: RGB, {self.interpolation} to {self.input_px} px, then the server's"
        low, high = self.value_range
        steps = [
            f"v{self.preprocessing_version}: RGB",
            *([f"{self.stain} stain normalisation"] if self.stain else []),
            f"to {low:g}..{high:g}",
            f"{self.interpolation} to {self.resize_px or self.input_px} px",
            *([f"middle {self.input_px} px"] if self.resize_px else []),
            f"mean {list(self.mean)}, std {list(self.std)}",
        ]
        return ", ".join(steps)


class Encoder(Protocol):
    """A model in memory, ready to embed."""

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Embed a batch.

        Parameters
        ----------
        pixels : uint8 array, shape (B, H, W, 3)
            RGB, square.

        Returns
        -------
        Rows
            float32, (B, D); with marks if the spec has a stain step.
        """


class Model(Protocol):
    """One registered encoder: its spec, and how it is loaded."""

    @property
    def spec(self) -> EncoderSpec:
        """What is known without the weights and without the runtime."""

    def settle(self, options: Mapping[str, str]) -> Mapping[str, str]:
        """Check options; turn those that name a file of this machine into what it says, as numbers.

        Called when a job is submitted, without the runtime; what it returns identifies the result and is what `load`
        gets. Settled options come out as they went in.

        Raises
        ------
        RequestError
            An option it does not know, or a value it cannot use.
        """

    def weights(self, given: Path | None, store: Path | None = None) -> Path | None:
        """Return the weights to use, a file or a folder: the given ones, fetched ones, or the model's own.

        None for a model without weights.

        Parameters
        ----------
        given : Path or None
        store : Path or None
            Folder that ``slidewire encoders fetch`` puts weights into.

        Raises
        ------
        WeightsInvalid
            There are none, with how to get them.
        """

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Load the model; imports its runtime.

        Parameters
        ----------
        weights : Path or None
        options : mapping of str to str
            Settled.
        device : str
            ``auto`` (an accelerator if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

        Raises
        ------
        ExtraMissing
            The runtime is not installed.
        WeightsInvalid
            The file is not this model's.
        RequestError
            An option it does not know.
        """


def check_rows(rows: Rows, count: int, dimension: int) -> None:
    """Refuse what an encoder gave if it is not what its spec says: float32 (count, dimension), a mark a row.

    Raises
    ------
    EmbeddingInvalid
    """
    expected = (count, dimension)
    if rows.matrix.shape != expected or rows.matrix.dtype != np.float32:
        raise EmbeddingInvalid(
            f"The encoder gave {rows.matrix.dtype} {rows.matrix.shape} instead of float32 {expected}."
        )
    if rows.fallbacks is not None and (rows.fallbacks.shape != (count,) or rows.fallbacks.dtype != np.bool_):
        raise EmbeddingInvalid(
            f"The encoder gave marks {rows.fallbacks.dtype} {rows.fallbacks.shape}, not one a patch."
        )
