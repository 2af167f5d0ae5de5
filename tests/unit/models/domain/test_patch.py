"""Rows: embeddings and what fell back stay together."""

import numpy as np
import pytest

from models.domain.patch import Rows


def _rows(*values: int, fallbacks: list[bool] | None = None) -> Rows:
    matrix = np.repeat(np.asarray(values, np.float32)[:, None], 2, axis=1)
    return Rows(matrix, None if fallbacks is None else np.asarray(fallbacks, np.bool_))


def test_marks_follow_their_rows() -> None:
    """A slice and another order take the marks with them."""
    rows = _rows(0, 1, 2, fallbacks=[True, False, True])
    part = rows[1:]
    assert (part.matrix[:, 0].tolist(), len(part)) == ([1, 2], 2)
    assert part.fallbacks is not None
    assert part.fallbacks.tolist() == [False, True]
    turned = rows[np.array([2, 0, 1])]
    assert turned.matrix[:, 0].tolist() == [2, 0, 1]
    assert turned.fallbacks is not None
    assert turned.fallbacks.tolist() == [True, True, False]
    assert _rows(0, 1)[:1].fallbacks is None


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ((None, None), None),
        (([True], [False]), [True, False]),
        ((None, [True]), [False, True]),  # a batch of holes marks nothing
        (([True], None), [True, False]),
    ],
)
def test_parts_are_joined_in_order(marks: tuple[list[bool] | None, ...], expected: list[bool] | None) -> None:
    """A part without marks had nothing to mark; parts without any stay so."""
    joined = Rows.join([_rows(number, fallbacks=mark) for number, mark in enumerate(marks)])
    assert joined.matrix[:, 0].tolist() == [0, 1]
    assert (None if joined.fallbacks is None else joined.fallbacks.tolist()) == expected
