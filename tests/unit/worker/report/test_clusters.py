"""Clusters: groups that are there are found, the same each time, and what has none is one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from worker.report.clusters import MOST, find_clusters


def grouped(sizes: tuple[int, ...], seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return embeddings in groups far apart, in no order, and each one's group."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(sizes), 32)) * 20
    of = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return (centres[of] + random.normal(size=(len(of), 32)) * 0.5).astype(np.float32), of


def test_groups_are_found() -> None:
    """Six groups far apart are the six clusters, numbered from the largest."""
    matrix, of = grouped((90, 80, 70, 60, 50, 40))
    found = find_clusters(matrix)
    assert np.array_equal(found.of, of)
    assert [found.size(number) for number in range(found.count)] == [90, 80, 70, 60, 50, 40]


def test_the_same_each_time() -> None:
    """The same matrix gives the same clusters, whatever was drawn before."""
    matrix = np.random.default_rng(3).normal(size=(300, 16)).astype(np.float32)
    first = find_clusters(matrix)
    find_clusters(matrix[:77])
    again = find_clusters(matrix.copy())
    assert np.array_equal(first.of, again.of)
    assert np.array_equal(first.distances, again.distances)


@pytest.mark.parametrize("count", [1, 2, 19])
def test_few_are_one_cluster(count: int) -> None:
    """Of fewer than 20 patches there is one cluster."""
    matrix = np.random.default_rng(4).normal(size=(count, 8)).astype(np.float32)
    found = find_clusters(matrix)
    assert (found.count, found.size(0)) == (1, count)


@pytest.mark.parametrize("rows", [1, 5, 500])
def test_equal_embeddings_are_one_cluster(rows: int) -> None:
    """A model that gives the same for all has one cluster, without a warning."""
    found = find_clusters(np.full((rows, 7), 3.5, np.float32))
    assert (found.count, found.explained) == (1, (0.0, 0.0))
    assert (found.points == 0).all()


def test_fewer_distinct_than_clusters() -> None:
    """Embeddings of two kinds make two clusters, however many there are."""
    matrix = np.repeat(np.eye(2, 5, dtype=np.float32), (150, 100), axis=0)
    assert [find_clusters(matrix).size(number) for number in range(find_clusters(matrix).count)] == [150, 100]


def test_of_many_some_are_looked_at() -> None:
    """Beyond 20,000 rows the centres come from a part of them, and all are assigned."""
    matrix, of = grouped((30_000, 20_000))
    found = find_clusters(matrix)
    assert found.count <= MOST
    assert len(found.of) == 50_000
    # No cluster reaches over both groups.
    assert all(len(np.unique(of[found.of == number])) == 1 for number in range(found.count))


def test_nearest_are_nearest() -> None:
    """The examples of a cluster are its own, the nearest to its centre first."""
    matrix, _ = grouped((60, 40))
    found = find_clusters(matrix)
    for number in range(found.count):
        near = found.nearest(number, 6)
        assert (found.of[near] == number).all()
        rest = np.setdiff1d(np.flatnonzero(found.of == number), near)
        assert np.diff(found.distances[near]).min() >= 0
        assert found.distances[near].max() <= found.distances[rest].min()
