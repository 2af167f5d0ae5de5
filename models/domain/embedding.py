"""Embeddings, how they came about, and the key that names a result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self
from uuid import UUID, uuid5

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import EmbeddingInvalid

_NAMESPACE = UUID("8f1e7f0e-43e5-5a54-9f5a-0f6c7a1d2b3c")  # Slidewire's own; never changes


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a slide, one row a patch, in the order in which the patches were asked for.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
        The row of a hole, a patch whose pixels could not be had, is all NaN.
    boxes : int32 array, shape (N, 4)
        What was read: x, y, width, height in pixels of the level (its total pixel matrix).
    positions_px : float64 array, shape (N, 2)
        Upper left corner (x, y) in pixels of level 0.
    positions_um : float64 array, shape (N, 2), or None
        The same in micrometres; None if the spacing is unknown.
    fallbacks : bool array, shape (N,), or None
        Patches that were embedded without a step of the encoder's pre-processing; None: it has no step that may fail.
    """

    matrix: NDArray[np.float32]
    boxes: NDArray[np.int32]
    positions_px: NDArray[np.float64]
    positions_um: NDArray[np.float64] | None
    fallbacks: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        if self.matrix.ndim != 2 or self.matrix.dtype != np.float32 or len(self.matrix) != count:
            raise EmbeddingInvalid(
                f"The embeddings are {self.matrix.dtype} {self.matrix.shape}, not float32 ({count}, D)."
            )
        broken = int((~np.isfinite(self.matrix).all(axis=1) & ~self.holes).sum())
        if broken:
            raise EmbeddingInvalid(
                f"{broken} of {count} embeddings hold NaN or infinity: the encoder cannot be trusted with them."
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def dimension(self) -> int:
        """Components of an embedding."""
        return int(self.matrix.shape[1])

    @cached_property
    def holes(self) -> NDArray[np.bool_]:
        """Which patches have no embedding because their pixels could not be had: bool, shape (N,)."""
        if not self.matrix.shape[1]:
            return np.zeros(len(self.matrix), np.bool_)
        return np.asarray(np.isnan(self.matrix).all(axis=1))

    def whole(self) -> "Embeddings":
        """Return the embeddings without the holes; these themselves if there are none."""
        return self._at(~self.holes) if self.holes.any() else self

    def rows(self, start: int, stop: int) -> "Embeddings":
        """Return the patches from `start` to before `stop`; views."""
        return self._at(slice(start, stop))

    def _at(self, kept: NDArray[np.bool_] | slice) -> "Embeddings":
        um = None if self.positions_um is None else self.positions_um[kept]
        marks = None if self.fallbacks is None else self.fallbacks[kept]
        return Embeddings(self.matrix[kept], self.boxes[kept], self.positions_px[kept], um, marks)

    @cached_property
    def digest(self) -> str:
        """sha256 of boxes (int32) and matrix (float32), little-endian, row by row; without the holes."""
        if self.holes.any():
            return self.whole().digest
        state = hashlib.sha256(np.ascontiguousarray(self.boxes, dtype="<i4").data)
        state.update(np.ascontiguousarray(self.matrix, dtype="<f4").data)
        return state.hexdigest()


@dataclass(frozen=True, slots=True)
class ResultKey:
    """The identity of a result: what was embedded, how, with which weights; never the values.

    Parameters
    ----------
    sha256 : str
        Of the canonical JSON of what identifies the result.
    """

    sha256: str

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> Self:
        """Return the key of JSON-ready `identity`."""
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return cls(hashlib.sha256(text.encode()).hexdigest())

    def uid(self, part: str) -> str:
        """Return the DICOM UID of one `part` of the result: "2.25." + UUIDv5 (PS3.5 B.2)."""
        return f"2.25.{uuid5(_NAMESPACE, f'{self.sha256}/{part}').int}"


@dataclass(frozen=True, slots=True)
class Provenance:
    """All that is needed to say how a result came about; JSON-ready, the same for the same key.

    Parameters
    ----------
    result_key : str
        `ResultKey.sha256`.
    slidewire : str
        Version of Slidewire.
    encoder, encoder_revision, encoder_licence, encoder_source : str
        The model, as its `EncoderSpec` declares it.
    weights_sha256 : str
        Digest of the weights' file; "" for a model without weights.
    encoder_options : tuple of (str, str)
        What the encoder was told beyond that, sorted by name.
    preprocessing : str
        The encoder's pre-processing, in words and numbers.
    dimension, patch_px, stride_px, patches : int
    spacing_um : (float, float) or None
        True spacing (x, y) of the patches.
    requested_spacing_um : float or None
        None: native.
    level : int
        Index of the level that was read, 0 the finest.
    level_scale : (float, float)
        Pixels of level 0 for one pixel of that level (x, y).
    level_0_spacing_um : (float, float) or None
        Micrometres per pixel of level 0 (x, y).
    tissue_fraction : float or None
        Threshold that was asked for; None if the tissue was not looked at.
    grid_patches : int
        Patches before the selection by tissue.
    notes : tuple of str
        Everything that was assumed, corrected or done instead.
    slide_px : (int, int) or None
        Width and height of level 0; None if unknown.
    recipe : str
        sha256 of all that was asked for and is the same for every slide; "" if unknown.
    """

    result_key: str
    slidewire: str
    encoder: str
    encoder_revision: str
    encoder_licence: str
    encoder_source: str
    weights_sha256: str
    preprocessing: str
    dimension: int
    patch_px: int
    stride_px: int
    patches: int
    spacing_um: tuple[float, float] | None
    requested_spacing_um: float | None
    level: int
    level_scale: tuple[float, float]
    level_0_spacing_um: tuple[float, float] | None
    tissue_fraction: float | None
    grid_patches: int
    notes: tuple[str, ...] = ()
    encoder_options: tuple[tuple[str, str], ...] = ()
    slide_px: tuple[int, int] | None = None
    recipe: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild from `to_json`'s data."""
        fields = dict(data)
        for pair in ("spacing_um", "level_scale", "level_0_spacing_um", "slide_px"):
            fields[pair] = tuple(fields[pair]) if fields.get(pair) else None
        fields["notes"] = tuple(fields["notes"])
        fields["encoder_options"] = tuple((name, value) for name, value in fields.get("encoder_options", ()))
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Output:
    """One thing a job left behind.

    Parameters
    ----------
    kind : str
        ``parquet`` or another table of the registry, ``annotations``, ``map``, ``report`` or ``picture``.
    uri : str
        Path, bucket URI, or DICOMweb instance URL; of a table that is a folder, the folder's.
    sha256 : str
        Of the file's bytes; of a stored DICOM object, as it was sent; of a folder, see `connectors.tables.protocol`.
    series_uid, instance_uid : str
        DICOM objects only.
    note : str
        What is to be known of it: that it lacks what an archive refused.
    """

    kind: str
    uri: str
    sha256: str
    series_uid: str = ""
    instance_uid: str = ""
    note: str = ""

    def to_json(self) -> dict[str, str]:
        """Return plain data without what does not apply."""
        return {name: value for name, value in asdict(self).items() if value}
