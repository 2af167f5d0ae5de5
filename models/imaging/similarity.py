"""How alike embeddings are: to one of them (cosine), and to the mean of all (Euclidean distance)."""

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_A_TIME = 2_000  # the whole in float64 would be twice the matrix


def cosine_similarity(matrix: NDArray[np.float32], row: int) -> NDArray[np.float32]:
    """Return the cosine of the angle between each embedding and one of them.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
        A hole's row is NaN.
    row : int
        0-based index of the one; negative ones count from the end.

    Returns
    -------
    float32 array, shape (N,)
        -1 to 1, worked out in float64; exactly 1 at `row`. NaN where there is no angle: for holes, for embeddings of
        length zero, and throughout if the one is such.
    """
    one = matrix[row].astype(np.float64)
    length = np.linalg.norm(one)
    result = np.full(len(matrix), np.nan, np.float32)
    if not length > 0:  # zero, or NaN
        return result
    for start in range(0, len(matrix), _ROWS_AT_A_TIME):
        block = matrix[start : start + _ROWS_AT_A_TIME].astype(np.float64)
        lengths = np.linalg.norm(block, axis=1)
        there = lengths > 0
        cosines = block[there] @ (one / length) / lengths[there]
        result[start : start + len(block)][there] = np.clip(cosines, -1, 1)
    result[row] = 1
    return result


def distances_to_mean(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the Euclidean distance of each embedding to the mean of all.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
        Finite.

    Returns
    -------
    float32 array, shape (N,)
        Worked out in float64.
    """
    result = np.zeros(len(matrix), np.float32)
    mean = matrix.mean(axis=0, dtype=np.float64) if len(matrix) else 0.0
    for start in range(0, len(matrix), _ROWS_AT_A_TIME):
        block = matrix[start : start + _ROWS_AT_A_TIME]
        result[start : start + len(block)] = np.linalg.norm(block - mean, axis=1)
    return result
