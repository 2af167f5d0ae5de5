"""encode: batches of patches become batches of embeddings."""

from collections.abc import Iterable, Iterator

import numpy as np

from models.domain.errors import EmbeddingInvalid
from models.domain.patch import BatchEmbedding, PatchBatch
from models.encoders.protocol import Encoder


def encode_batches(batches: Iterable[PatchBatch], encoder: Encoder, dimension: int) -> Iterator[BatchEmbedding]:
    """Encode each batch whole (padding and all, so that its shape never changes) and keep the real rows.

    Parameters
    ----------
    batches : iterable of PatchBatch
    encoder : Encoder
    dimension : int
        What the encoder's spec declares.

    Raises
    ------
    EmbeddingInvalid
        The encoder gave another shape, another type, NaN or infinity.
    """
    for batch in batches:
        matrix = encoder.encode(batch.pixels)
        expected = (len(batch.pixels), dimension)
        if matrix.shape != expected or matrix.dtype != np.float32:
            raise EmbeddingInvalid(f"The encoder gave {matrix.dtype} {matrix.shape} instead of float32 {expected}.")
        real = np.ascontiguousarray(matrix[: batch.count])
        if not np.isfinite(real).all():
            raise EmbeddingInvalid(f"The encoder gave NaN or infinity in batch {batch.index + 1}.")
        yield BatchEmbedding(batch.index, real)
