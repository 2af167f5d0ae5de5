"""Cosine similarity and distance to the mean: as plainly worked out, and what has no direction has none."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.imaging import similarity
from models.imaging.similarity import cosine_similarity, distances_to_mean


@pytest.fixture
def matrix() -> NDArray[np.float32]:
    """Return 50 embeddings."""
    return np.random.default_rng(5).normal(size=(50, 7)).astype(np.float32)


def test_the_cosine_of_the_angle() -> None:
    """Equal direction is 1, right angle 0, opposite direction -1, whatever the lengths."""
    rows = np.asarray([[2, 0], [0.1, 0], [0, 5], [-7, 0], [3, 3]], np.float32)
    assert np.allclose(cosine_similarity(rows, 0), [1, 1, 0, -1, np.sqrt(0.5)])


@pytest.mark.parametrize("row", [0, 17, -1])
def test_the_one_is_like_itself(matrix: NDArray[np.float32], row: int) -> None:
    """At the chosen row it is exactly 1, nowhere beyond, and the same from either side."""
    found = cosine_similarity(matrix, row)
    assert found.dtype == np.float32
    assert found[row] == 1
    assert (np.abs(found) <= 1).all()
    assert found[3] == pytest.approx(cosine_similarity(matrix, 3)[row], abs=1e-7)


def test_what_has_no_direction_has_no_similarity(matrix: NDArray[np.float32]) -> None:
    """A hole and an embedding of length zero are NaN and change no other's; if one of them is chosen, all are NaN."""
    expected = cosine_similarity(matrix, 9)
    matrix[3], matrix[4] = 0, np.nan
    found = cosine_similarity(matrix, 9)
    assert np.flatnonzero(np.isnan(found)).tolist() == [3, 4]
    assert np.array_equal(np.delete(found, [3, 4]), np.delete(expected, [3, 4]))
    assert np.isnan(cosine_similarity(matrix, 3)).all()
    assert np.isnan(cosine_similarity(matrix, 4)).all()


def test_numbers_at_the_edge_of_float32() -> None:
    """Lengths that float32 cannot hold are no trouble."""
    rows = np.asarray([[3e38, 3e38], [3e38, -3e38], [1e-38, 1e-38]], np.float32)
    assert np.allclose(cosine_similarity(rows, 0), [1, 0, 1])


def test_the_distance_to_the_mean(matrix: NDArray[np.float32]) -> None:
    """It is the Euclidean one; of equal embeddings 0, of none nothing."""
    expected = np.sqrt(((matrix.astype(np.float64) - matrix.astype(np.float64).mean(0)) ** 2).sum(1))
    assert np.allclose(distances_to_mean(matrix), expected, rtol=1e-6)
    assert not distances_to_mean(np.ones((4, 3), np.float32)).any()
    assert len(distances_to_mean(np.empty((0, 3), np.float32))) == 0


def test_block_by_block(matrix: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked out in blocks that do not divide the rows evenly, all is the same."""
    whole = cosine_similarity(matrix, 2), distances_to_mean(matrix)
    monkeypatch.setattr(similarity, "_ROWS_AT_A_TIME", 9)
    assert np.allclose(cosine_similarity(matrix, 2), whole[0], atol=1e-7)
    assert np.allclose(distances_to_mean(matrix), whole[1], rtol=1e-6)
