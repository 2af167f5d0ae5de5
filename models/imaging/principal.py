"""The principal components of a slide's embeddings: what a map or a picture shows of some hundred numbers a patch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_ROWS = 20_000  # enough to find a few axes
_ROWS_AT_A_TIME = 2_000  # all of them in float64 would be twice the matrix
_ROUNDING = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class Components:
    """The first principal components of N embeddings.

    Parameters
    ----------
    values : float64 array, shape (N, K)
        Zero on average; of fewer than K that can be told apart, the last are exactly 0.
    explained : float64 array, shape (K,)
        Share of the variance that each accounts for, 0 to 1, in the rows that the axes were found in.
    """

    values: NDArray[np.float64]
    explained: NDArray[np.float64]


def principal_components(matrix: NDArray[np.float32], count: int = 3) -> Components:
    """Return the first principal components of each embedding; the same for the same matrix, signs and all.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
        Finite. Of more than 20,000 rows every k-th is looked at to find the axes; all are projected.
    count : int

    Returns
    -------
    Components
        Of an axis the entry that is largest without its sign is positive.
    """
    if len(matrix) < 2 or not matrix.shape[1]:
        return Components(np.zeros((len(matrix), count)), np.zeros(count))
    mean = matrix.mean(axis=0, dtype=np.float64)
    axes, variances, total = _axes(matrix[:: -(-len(matrix) // _MOST_ROWS)], mean)
    kept = axes[:count]
    values = np.zeros((len(matrix), count))
    for start, block in _centred(matrix, mean):
        values[start : start + len(block), : len(kept)] = block @ kept.T
    explained = np.zeros(count)
    explained[: len(kept)] = variances[:count] / max(total, np.finfo(np.float64).tiny)
    return Components(values, np.minimum(explained, 1))


def _centred(matrix: NDArray[np.float32], mean: NDArray[np.float64]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the rows without their mean, some at a time, with the index of the first."""
    for start in range(0, len(matrix), _ROWS_AT_A_TIME):
        yield start, matrix[start : start + _ROWS_AT_A_TIME] - mean


def _axes(
    matrix: NDArray[np.float32], mean: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the axes (K, D) of rows (N, D) that rounding alone has not made, their variances (K,), and that of all.

    By the smaller of the two matrices of products: 20 times as fast as a decomposition of the rows.
    """
    rows, columns = matrix.shape
    wide = rows < columns
    seen = matrix - mean if wide else np.empty((0, columns))
    products = seen @ seen.T if wide else _summed(matrix, mean)
    variances, vectors = np.linalg.eigh(products)  # ascending
    variances, vectors = variances[::-1], vectors[:, ::-1]
    # Of N rows at most N - 1 axes are real; the others differ from 0 by what eigh and the mean are rounded: the numbers
    # are rounded by their size before they are centred.
    rounded = 8 * _ROUNDING * float(np.abs(mean).max(initial=0))
    noise = max(rows, columns) * _ROUNDING * max(variances[0], 0.0) + matrix.size * rounded**2
    kept = np.flatnonzero(variances > noise)[: rows - 1]
    variances, axes = variances[kept], vectors[:, kept].T
    if wide:
        axes = (axes @ seen) / np.sqrt(variances)[:, None]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    return axes * np.where(largest < 0, -1.0, 1.0), variances, float(np.trace(products))


def _summed(matrix: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the products of the columns of centred rows, shape (D, D)."""
    total = np.zeros((matrix.shape[1], matrix.shape[1]))
    for _, block in _centred(matrix, mean):
        total += block.T @ block
    return total
