"""The principal components of a slide's embeddings: what a map or a picture shows of some hundred numbers a patch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_ROWS = 20_000  # enough to find a few axes


@dataclass(frozen=True, slots=True)
class Components:
    """The first principal components of N embeddings.

    Parameters
    ----------
    values : float64 array, shape (N, K)
        Zero on average; of fewer than K that can be told apart, the last are 0.
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
    """
    if len(matrix) < 2:
        return Components(np.zeros((len(matrix), count)), np.zeros(count))
    mean = matrix.mean(axis=0, dtype=np.float64)
    seen = matrix[:: max(1, len(matrix) // _MOST_ROWS)] - mean
    variances, vectors = np.linalg.eigh(seen.T @ seen)  # ascending; 20 times as fast as a decomposition of `seen`
    variances = np.maximum(variances[::-1], 0)
    axes = vectors[:, ::-1][:, :count].T
    axes = axes * np.where(axes.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    # By blocks: the whole in float64 would be twice the matrix.
    blocks = np.array_split(matrix, -(-len(matrix) // _MOST_ROWS))
    values = np.concatenate([(block - mean) @ axes.T for block in blocks])
    missing = count - len(axes)
    total = float(variances.sum())
    explained = variances[:count] / total if total else np.zeros(len(axes))
    return Components(np.pad(values, ((0, 0), (0, missing))), np.pad(explained, (0, missing)))
