"""encode: batches of patches become batches of embeddings."""

from collections.abc import Iterable, Iterator

import numpy as np

from models.domain.errors import EmbeddingInvalid
from models.domain.patch import BatchEmbedding, PatchBatch
from models.encoders.protocol import Encoder


def encode_batches(batches: Iterable[PatchBatch], encoder: Encoder, dimension: int) -> Iterator[BatchEmbedding]:
    """Encode each batch whole (padding and all, so that its shape never changes) and keep the real rows.

    The row of a hole is NaN.

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
        if len(batch.holes) == batch.count:
            yield BatchEmbedding(batch.index, np.full((batch.count, dimension), np.nan, np.float32))
            continue
        matrix = encoder.encode(batch.pixels)
        expected = (len(batch.pixels), dimension)
        if matrix.shape != expected or matrix.dtype != np.float32:
            raise EmbeddingInvalid(f"The encoder gave {matrix.dtype} {matrix.shape} instead of float32 {expected}.")
        real = np.array(matrix[: batch.count])
        real[list(batch.holes)] = 0  # whatever the encoder made of nothing
        if not np.isfinite(real).all():
            raise EmbeddingInvalid(f"The encoder gave NaN or infinity in batch {batch.index + 1}.")
        real[list(batch.holes)] = np.nan
        yield BatchEmbedding(batch.index, real)
