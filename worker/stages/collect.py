"""collect: batches of embeddings become checkpoints on the way, and one matrix at the end."""

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.domain.embedding import Embeddings
from models.domain.errors import EmbeddingInvalid, ResultCorrupt
from models.domain.patch import BatchEmbedding
from models.domain.plan import Plan

Save = Callable[[int, int, NDArray[np.float32]], None]
"""Keep ``(first batch, number of batches, matrix)`` safe."""


def collect_batches(embeddings: Iterable[BatchEmbedding], save: Save, every_s: float) -> int:
    """Gather batches and save them every `every_s` seconds and at the end, also when the work breaks off.

    Parameters
    ----------
    embeddings : iterable of BatchEmbedding
        In order, without a gap.
    save : callable
    every_s : float

    Returns
    -------
    int
        Patches collected.
    """
    held: list[BatchEmbedding] = []
    patches, since = 0, time.monotonic()

    def flush() -> None:
        if held:
            save(held[0].index, len(held), np.concatenate([batch.matrix for batch in held]))
            held.clear()

    try:
        for batch in embeddings:
            held.append(batch)
            patches += len(batch.matrix)
            if time.monotonic() - since >= every_s:
                flush()
                since = time.monotonic()
    finally:
        flush()
    return patches


def assemble(plan: Plan, parts: Sequence[NDArray[np.float32]], dimension: int) -> Embeddings:
    """Join the parts of all shards, in reading order, into the embeddings of the slide.

    Raises
    ------
    ResultCorrupt
        The parts are not the plan's patches.
    EmbeddingInvalid
        A number is NaN or infinite, or a patch is a hole where the plan allows none.
    """
    matrix = np.concatenate(parts) if parts else np.empty((0, dimension), np.float32)
    if matrix.shape != (len(plan.grid), dimension):
        raise ResultCorrupt(
            f"The checkpoints hold {matrix.shape} numbers, the plan needs {(len(plan.grid), dimension)}."
        )
    embeddings = plan.assemble(matrix)
    if plan.missing == "error" and embeddings.holes.any():
        raise EmbeddingInvalid(f"{int(embeddings.holes.sum())} patches have no embedding, and the job allows no holes.")
    return embeddings
