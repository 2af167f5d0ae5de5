"""Any function from images to embeddings as an encoder, as EZ-WSI's LocalEndpoint takes one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from traceback import extract_tb
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import EmbeddingInvalid, SlidewireError
from models.domain.patch import Rows
from models.encoders.arrays import prepare
from models.encoders.protocol import Encoder, EncoderSpec, Licence
from models.encoders.weightless import Weightless

Function = Callable[[NDArray[np.float32]], NDArray[Any]]
"""From float32 (B, input_px, input_px, 3), in 0..1 unless the spec says otherwise, to floating-point numbers (B, D)."""


class FunctionModel(Weightless):
    """A `Model` of a function of yours: register it, or name it in a package's entry point.

    Parameters
    ----------
    spec : EncoderSpec
        What the images are brought to before the function sees them, and how many numbers it gives. Its `revision`
        is all that tells two functions of one name apart: raise it whenever the numbers change.
    function : callable
        Called with a batch at a time, by one thread.

    Attributes
    ----------
    spec : EncoderSpec
    """

    def __init__(self, spec: EncoderSpec, function: Function) -> None:
        self.spec = spec
        self._function = function

    @classmethod
    def of(
        cls,
        name: str,
        function: Function,
        dimension: int,
        *,
        patch_px: int = 224,
        spacing_um: float | None = None,
        licence: str = "not stated",
    ) -> Self:
        """Return the model of a function that takes RGB in 0..1.

        Parameters
        ----------
        name : str
        function : callable
        dimension : int
            Components of an embedding.
        patch_px : int
            Side of its input; other patches are resized.
        spacing_um : float or None
            Micrometres per pixel that it is meant for; None: any.
        licence : str
        """
        spec = EncoderSpec(
            name=name,
            family="a function",
            dimension=dimension,
            input_px=patch_px,
            spacings_um=() if spacing_um is None else (spacing_um,),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            interpolation="bilinear",
            extra="",
            licence=Licence(licence),
            source="a function of the program",
            revision="1",
            weights_sha256="",
            preprocessing_version=1,
            patches_px=(patch_px,),
        )
        return cls(spec, function)

    def load(self, weights: Path | None, options: Mapping[str, str], device: str = "auto") -> Encoder:
        """Return the encoder."""
        del weights, device
        self.settle(options)
        return _FunctionEncoder(self.spec, self._function)


class _FunctionEncoder:
    def __init__(self, spec: EncoderSpec, function: Function) -> None:
        self._spec = spec
        self._function = function

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Embed uint8 RGB patches (B, H, W, 3); return float32 (B, D).

        Raises
        ------
        EmbeddingInvalid
            The function failed, or gave another shape than (B, D), or no floating-point numbers.
        """
        name = self._spec.name
        try:
            found = np.asarray(self._function(prepare(pixels, self._spec)))
        except SlidewireError:
            raise
        except Exception as exc:  # whatever it is; its text may hold anything, where it is may be told
            frame = extract_tb(exc.__traceback__)[-1]
            where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
            raise EmbeddingInvalid(f"The function of {name} failed ({type(exc).__name__} at {where}).") from exc
        expected = (len(pixels), self._spec.dimension)
        if found.shape != expected or not np.issubdtype(found.dtype, np.floating):
            raise EmbeddingInvalid(
                f"The function of {name} gave {found.dtype} {found.shape} instead of floating-point numbers {expected}."
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinity, and refused as such
            return Rows(np.array(found, np.float32))
