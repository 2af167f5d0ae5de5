"""Principal components: those that an independent decomposition finds, zeros for those that do not exist."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.imaging import principal
from models.imaging.principal import principal_components


def spread(count: int, dimension: int, seed: int = 3) -> NDArray[np.float32]:
    """Return embeddings that vary less and less along some axes, far from zero."""
    random = np.random.default_rng(seed)
    axes = np.linalg.qr(random.normal(size=(dimension, dimension)))[0]
    scores = random.normal(size=(count, dimension)) * 0.6 ** np.arange(dimension)
    return np.asarray(scores @ axes + 5, np.float32)


@pytest.mark.parametrize(("count", "dimension"), [(300, 12), (12, 300), (30, 30), (2, 7), (4_500, 6)])
def test_as_a_singular_value_decomposition_finds_them(count: int, dimension: int) -> None:
    """Scores and shares of variance are those of an SVD of the centred matrix, but for signs."""
    matrix = spread(count, dimension)
    centred = matrix - matrix.mean(axis=0, dtype=np.float64)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    there = min(3, count - 1)
    found = principal_components(matrix)
    expected = (left * lengths)[:, :there]
    assert np.allclose(np.abs(found.values[:, :there]), np.abs(expected), atol=1e-6)
    assert np.allclose(found.explained[:there], (lengths**2 / (lengths**2).sum())[:there])
    assert np.allclose(found.values.mean(axis=0), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("matrix", "rank"),
    [
        (np.empty((0, 4)), 0),
        (np.ones((1, 4)), 0),
        (np.full((40, 6), 0.1), 0),  # no float32 is 0.1, and no mean of many of them is exact
        (np.full((25_000, 6), 123456.7), 0),
        (np.zeros((5, 3)), 0),
        (np.empty((4, 0)), 0),
        (spread(2, 9), 1),
        (spread(3, 400), 2),
        (spread(50, 1), 1),
        (spread(50, 2), 2),
        (np.outer(np.arange(40), np.linspace(-1, 1, 9)), 1),
        (spread(4, 3) + 1e5, 3),
    ],
)
def test_what_does_not_exist_is_exactly_zero(matrix: NDArray[np.float64], rank: int) -> None:
    """Of fewer rows, columns or directions than components the last ones are 0, and no others."""
    found = principal_components(np.asarray(matrix, np.float32))
    assert found.values.shape == (len(matrix), 3)
    assert found.values.any(axis=0).tolist() == [index < rank for index in range(3)]
    assert (found.explained > 0).tolist() == [index < rank for index in range(3)]
    assert found.explained.sum() <= 1 + 1e-9


@pytest.mark.parametrize(("count", "dimension"), [(60, 8), (8, 60)])
def test_signs_are_settled(count: int, dimension: int) -> None:
    """Rows in another order have the same components; of the mirrored matrix they are mirrored back."""
    matrix = spread(count, dimension)
    found = principal_components(matrix).values
    assert np.allclose(principal_components(matrix[::-1].copy()).values[::-1], found, atol=1e-6)
    assert np.allclose(principal_components(-matrix).values, -found, atol=1e-6)
    assert np.array_equal(principal_components(matrix.copy()).values, found)


def test_many_rows_are_all_projected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more rows than are looked at, each is projected onto the axes of the others."""
    matrix = spread(1000, 6)
    whole = principal_components(matrix).values
    monkeypatch.setattr(principal, "_MOST_ROWS", 300)
    few = principal_components(matrix).values
    assert np.abs(np.corrcoef(whole[:, 0], few[:, 0])[0, 1]) > 0.99
    assert np.allclose(few.mean(axis=0), 0, atol=1e-9)
