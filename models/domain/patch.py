"""Patches: where they lie on a level, the frames they need, and batches of their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """The patches of a plan, in the order in which they are read.

    Parameters
    ----------
    level : int
        Index into the slide's levels.
    patch_px : int
        Side of a patch as the encoder sees it.
    spacing_um : (float, float) or None
        True spacing (x, y) of the patches, after resampling if there is any.
    boxes : int32 array, shape (N, 4)
        What is read for each patch, in pixels of the level: x, y, width, height. Other than `patch_px` wide
        only if the patch is resampled.
    rows : int64 array, shape (N,)
        Row of the result that each patch fills (the order in which it was asked for).
    """

    level: int
    patch_px: int
    spacing_um: tuple[float, float] | None
    boxes: NDArray[np.int32]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, part: slice) -> "PatchGrid":
        """Return the patches of a slice, in the same order."""
        return PatchGrid(self.level, self.patch_px, self.spacing_um, self.boxes[part], self.rows[part])


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One tile as the source gave it.

    Parameters
    ----------
    index : int
        0-based within the level.
    data : bytes-like
        Compressed or native bytes.
    transfer_syntax : str
        What the source says the bytes are; "" if it does not say.
    photometric : str
        Photometric Interpretation of this frame, which the parts of a concatenation may differ in; "": the level's.
    planar : bool
        Uncompressed samples come plane by plane (Planar Configuration 1, PS3.3 C.7.6.3.1.3).
    """

    index: int
    data: bytes | memoryview
    transfer_syntax: str
    photometric: str = ""
    planar: bool = False


@dataclass(frozen=True, slots=True)
class FrameGroup:
    """Frames, and the patches that can be cut once they are there.

    Parameters
    ----------
    frames : tuple of EncodedFrame
        Not seen before.
    patches : PatchGrid
    last_use : frozenset of int
        Frames that no later group needs.
    missing : frozenset of int
        Frames of this group that the source does not give, where the request allows holes.
    """

    frames: tuple[EncodedFrame, ...]
    patches: PatchGrid
    last_use: frozenset[int]
    missing: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class PatchBatch:
    """Pixels for one call of the encoder.

    Parameters
    ----------
    index : int
        Number of the batch within its shard, 0-based.
    pixels : uint8 array, shape (B, patch_px, patch_px, 3)
        RGB. `B` is the same for every batch; patches from `count` on are padding.
    count : int
        Patches that are real.
    holes : tuple of int
        Places in the batch of patches whose pixels could not be had; what lies there is not to be used.
    """

    index: int
    pixels: NDArray[np.uint8]
    count: int
    holes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Embeddings, one row a patch.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
    fallbacks : bool array, shape (N,), or None
        Patches that a step of the encoder's pre-processing could not be applied to, and that were embedded without
        it, as the published pre-processing does; None: the encoder has no such step.
    """

    matrix: NDArray[np.float32]
    fallbacks: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> "Rows":
        """Return some of the rows."""
        return Rows(self.matrix[part], None if self.fallbacks is None else self.fallbacks[part])

    @classmethod
    def join(cls, parts: Sequence["Rows"]) -> "Rows":
        """Return the rows of all parts, in order; of at least one part. One that marks nothing had nothing to mark."""
        matrix = np.concatenate([part.matrix for part in parts])
        if all(part.fallbacks is None for part in parts):
            return cls(matrix)
        marks = [np.zeros(len(part), np.bool_) if part.fallbacks is None else part.fallbacks for part in parts]
        return cls(matrix, np.concatenate(marks))


@dataclass(frozen=True, slots=True)
class BatchEmbedding:
    """What the encoder made of one batch, by batch index; a hole's row is all NaN."""

    index: int
    rows: Rows
