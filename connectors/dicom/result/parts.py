"""How a result is divided into annotation objects, by a rule that depends on its size alone.

The values of all objects but the last fill, patch by patch in the order of the table, as much of `PART_BYTES` as
whole patches do: 87,381 patches of 768 components, 43,690 of 1536. Concatenations (PS3.3 C.7.6.16.2.2.4) are for
multi-frame images only, so the objects are ordinary instances 1, 2, ... of one series, and the record in each of them
(`connectors.dicom.result.record`) says which of how many it is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from models.domain.embedding import Embeddings

PART_BYTES = 2**28  # of values in one object; never changes, or the same UID would mean other patches


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive patches of a result, none of them a hole: those of one object.

    Parameters
    ----------
    number, count : int
        Which part this is, 1-based, of how many.
    first : int
        Index of its first patch in `whole`, 0-based.
    embeddings : Embeddings
        Its patches; a view.
    whole : Embeddings
        Those of all parts.
    """

    number: int
    count: int
    first: int
    embeddings: Embeddings
    whole: Embeddings


def divide(whole: Embeddings) -> Iterator[Part]:
    """Yield the parts of a result without holes; none if it has no patches."""
    size = max(1, PART_BYTES // max(1, 4 * whole.dimension))
    count = -(-len(whole) // size)
    for number in range(1, count + 1):
        first = (number - 1) * size
        kept = whole if count == 1 else whole.rows(first, first + size)
        yield Part(number, count, first, kept, whole)
