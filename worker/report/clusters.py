"""Clusters: which patches a model finds alike, by k-means on a slide's first principal components."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.imaging.principal import principal_components

MOST = 6  # as many as there are colours that all eyes tell apart
_ROWS_A_CLUSTER = 20
_COMPONENTS = 8
_MOST_ROWS = 20_000
_SEED = 1
_TRIES = 4
_STEPS = 60
_CLOSE = 1e-4  # of the largest component


@dataclass(frozen=True, eq=False)
class Clusters:
    """The clusters of N embeddings, the largest first.

    Parameters
    ----------
    of : int64 array, shape (N,)
        0-based number of each one's cluster.
    points : float64 array, shape (N, 3)
        First three principal components of each.
    explained : (float, float)
        Share of the variance that the first two account for.
    distances : float64 array, shape (N,)
        From each to the centre of its cluster.
    """

    of: NDArray[np.int64]
    points: NDArray[np.float64]
    explained: tuple[float, float]
    distances: NDArray[np.float64]

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.of.max()) + 1 if len(self.of) else 0

    def size(self, number: int) -> int:
        """Return how many embeddings a cluster has."""
        return int((self.of == number).sum())

    def nearest(self, number: int, count: int) -> NDArray[np.int64]:
        """Return which of a cluster's embeddings are nearest its centre, the nearest first."""
        mine = np.flatnonzero(self.of == number)
        return mine[np.argsort(self.distances[mine], kind="stable")[:count]]


def find_clusters(matrix: NDArray[np.float32]) -> Clusters:
    """Divide embeddings into at most six clusters of, on average, at least 20; the same for the same matrix.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
        Finite, one row at least. Of more than 20,000 every k-th is looked at to find the centres.
    """
    parts = principal_components(matrix, _COMPONENTS)
    first, second = (float(share) for share in parts.explained[:2])
    values = parts.values
    seen = values[:: max(1, len(values) // _MOST_ROWS)]
    reach = float(np.abs(seen).max())
    centres = _centres(seen / reach) * reach if reach > 0 else np.zeros((1, _COMPONENTS))
    squares = np.stack([((values - centre) ** 2).sum(axis=1) for centre in centres], axis=1)
    chosen = squares.argmin(axis=1)
    sizes = np.bincount(chosen, minlength=len(centres))
    order = [number for number in np.argsort(-sizes, kind="stable").tolist() if sizes[number]]
    rank = np.zeros(len(centres), np.int64)
    rank[order] = np.arange(len(order))
    return Clusters(rank[chosen], values[:, :3], (first, second), np.sqrt(squares.min(axis=1)))


def _centres(points: NDArray[np.float64]) -> NDArray[np.float64]:
    count = min(MOST, 1 + len(points) // _ROWS_A_CLUSTER)
    if count == 1:
        return np.asarray(points.mean(axis=0, keepdims=True))
    cv2.setRNGSeed(_SEED)
    when = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, _STEPS, _CLOSE)
    _, _, centres = cv2.kmeans(points.astype(np.float32), count, None, when, _TRIES, cv2.KMEANS_PP_CENTERS)
    return np.asarray(centres, np.float64)
