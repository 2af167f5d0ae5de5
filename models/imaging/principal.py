"""The principal components of a slide's embeddings: what a map or a picture shows of some hundred numbers a patch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_ROWS = 20_000  # enough to find a few axes
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
    seen = matrix[:: -(-len(matrix) // _MOST_ROWS)] - mean
    axes, variances = _axes(seen, float(np.abs(mean).max(initial=0)))
    # By blocks: the whole in float64 would be twice the matrix.
    blocks = np.array_split(matrix, -(-len(matrix) // _MOST_ROWS))
    values = np.zeros((len(matrix), count))
    kept = axes[:count]
    np.concatenate([(block - mean) @ kept.T for block in blocks], out=values[:, : len(kept)])
    explained = np.zeros(count)
    explained[: len(kept)] = variances[:count] / max(float((seen * seen).sum()), np.finfo(np.float64).tiny)
    return Components(values, np.minimum(explained, 1))


def _axes(seen: NDArray[np.float64], magnitude: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes (K, D) of centred rows (N, D) that rounding alone has not made, and their variances (K,).

    By the smaller of the two matrices of products: 20 times as fast as a decomposition of `seen`.

    Parameters
    ----------
    seen : float64 array, shape (N, D)
    magnitude : float
        Of the numbers before they were centred, which decides how far they are rounded.
    """
    rows, columns = seen.shape
    wide = rows < columns
    variances, vectors = np.linalg.eigh(seen @ seen.T if wide else seen.T @ seen)  # ascending
    variances, vectors = variances[::-1], vectors[:, ::-1]
    # Of N rows at most N - 1 axes are real; the others differ from 0 by what eigh and the mean are rounded.
    noise = max(rows, columns) * _ROUNDING * max(variances[0], 0.0) + seen.size * (8 * _ROUNDING * magnitude) ** 2
    kept = np.flatnonzero(variances > noise)[: rows - 1]
    variances, axes = variances[kept], vectors[:, kept].T
    if wide:
        axes = (axes @ seen) / np.sqrt(variances)[:, None]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1, keepdims=True), axis=1)
    return axes * np.where(largest < 0, -1.0, 1.0), variances
