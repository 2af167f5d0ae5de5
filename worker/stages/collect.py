"""collect: batches of embeddings become checkpoints on the way, and one matrix at the end."""

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from models.domain.embedding import Embeddings
from models.domain.errors import EmbeddingInvalid, ResultCorrupt
from models.domain.patch import BatchEmbedding, Rows
from models.domain.plan import Plan

Save = Callable[[int, int, Rows], None]
"""Keep ``(first batch, number of batches, rows)`` safe."""


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
            save(held[0].index, len(held), Rows.join([batch.rows for batch in held]))
            held.clear()

    try:
        for batch in embeddings:
            held.append(batch)
            patches += len(batch.rows)
            if time.monotonic() - since >= every_s:
                flush()
                since = time.monotonic()
    finally:
        flush()
    return patches


def assemble(plan: Plan, parts: Sequence[Rows], dimension: int) -> Embeddings:
    """Join the parts of all shards, in reading order, into the embeddings of the slide.

    Raises
    ------
    ResultCorrupt
        The parts are not the plan's patches.
    EmbeddingInvalid
        A number is NaN or infinite, or a patch is a hole where the plan allows none.
    """
    held = sum(len(part) for part in parts)
    if held != len(plan.grid) or any(part.matrix.shape[1] != dimension for part in parts):
        raise ResultCorrupt(
            f"The checkpoints hold {held} rows, the plan needs {len(plan.grid)} of {dimension} numbers."
        )
    rows = Rows.join(parts) if parts else Rows(np.empty((0, dimension), np.float32))
    embeddings = plan.assemble(rows)
    if plan.missing == "error" and embeddings.holes.any():
        raise EmbeddingInvalid(f"{int(embeddings.holes.sum())} patches have no embedding, and the job allows no holes.")
    return embeddings
