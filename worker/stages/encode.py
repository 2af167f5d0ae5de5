"""encode: batches of patches become batches of embeddings."""

from collections.abc import Iterable, Iterator

import numpy as np

from models.domain.errors import EmbeddingInvalid
from models.domain.patch import BatchEmbedding, PatchBatch, Rows
from models.encoders.protocol import Encoder, check_rows


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
            yield BatchEmbedding(batch.index, Rows(np.full((batch.count, dimension), np.nan, np.float32)))
            continue
        rows = encoder.encode(batch.pixels)
        check_rows(rows, len(batch.pixels), dimension)
        real, holes = np.array(rows.matrix[: batch.count]), list(batch.holes)
        real[holes] = 0  # whatever the encoder made of nothing
        if not np.isfinite(real).all():
            raise EmbeddingInvalid(f"The encoder gave NaN or infinity in batch {batch.index + 1}.")
        real[holes] = np.nan
        marks = None if rows.fallbacks is None else np.array(rows.fallbacks[: batch.count])
        if marks is not None:
            marks[holes] = False
        yield BatchEmbedding(batch.index, Rows(real, marks))
