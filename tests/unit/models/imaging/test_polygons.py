"""Polygons: inside is inside by the even-odd rule, to the pixel, wherever the corners lie."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.imaging.polygons import Ring, fill_polygons, filling_cost

_ONE = (1.0, 1.0)


def _ring(*corners: tuple[float, float]) -> Ring:
    return np.asarray(corners, np.float64)


def _square(left: float, top: float, side: float) -> Ring:
    return _ring((left, top), (left + side, top), (left + side, top + side), (left, top + side))


def _inside(rings: list[Ring], x: float, y: float) -> bool:
    """Count how often a ray to the left crosses the rings."""
    crossings = 0
    for ring in rings:
        for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            (x0, y0), (x1, y1) = sorted([start, end], key=lambda corner: corner[1])
            if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) <= x:
                crossings += 1
    return crossings % 2 == 1


def _slowly(rings: list[Ring], shape: tuple[int, int]) -> NDArray[np.bool_]:
    return np.asarray([[_inside(rings, x + 0.5, y + 0.5) for x in range(shape[1])] for y in range(shape[0])])


_CORNERS = st.lists(st.tuples(st.floats(-9, 20, width=32), st.floats(-9, 20, width=32)), min_size=3, max_size=7)


@given(st.lists(_CORNERS, min_size=1, max_size=3))
def test_inside_is_what_a_ray_says(drawn: list[list[tuple[float, float]]]) -> None:
    """Any rings, self-crossing or partly outside, are filled as counting crossings for each pixel fills them."""
    rings = [np.asarray(ring, np.float64) for ring in drawn]
    shape = (12, 11)
    assert np.array_equal(fill_polygons([rings], shape, _ONE), _slowly(rings, shape))


def test_a_hole_is_outside() -> None:
    """A ring within a ring is a hole, whichever way round it is drawn."""
    for hole in (_square(4, 4, 2), _square(4, 4, 2)[::-1]):
        mask = fill_polygons([[_square(2, 2, 6), hole]], (10, 10), _ONE)
        assert mask.sum() == 36 - 4
        assert not mask[4:6, 4:6].any()


def test_polygons_are_united() -> None:
    """Where two polygons overlap is inside; only rings of one polygon undo each other."""
    mask = fill_polygons([[_square(0, 0, 6)], [_square(3, 3, 6)]], (10, 10), _ONE)
    assert mask.sum() == 36 + 36 - 9


@given(st.floats(0, 12, width=32), st.floats(0, 12, width=32), st.floats(0, 12, width=32))
def test_neighbours_leave_nothing_between(x: float, y: float, turn: float) -> None:
    """Triangles that share corners cover a square without gap or overlap, though their borders run both ways."""
    middle, corners = (x, y), [(0.0, 0.0), (12.0, turn / 12), (12.0, 12.0), (0.0, 12.0)]
    parts = [fill_polygons([[_ring(middle, corners[i - 1], corners[i])]], (12, 12), _ONE) for i in range(4)]
    whole = fill_polygons([[_ring(*corners)]], (12, 12), _ONE)
    assert np.array_equal(np.sum(parts, axis=0) % 2 == 1, whole)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (3.5, 2.25), (40.0, 40.0)])
def test_areas_are_true(scale: tuple[float, float]) -> None:
    """A circle and its hole cover their area, at any scale, to within what the outline's pixels can hide."""
    turn = np.linspace(0, 2 * math.pi, 400, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    rings = [circle * 4000 + 5000, circle * 2000 + 5000]
    shape = (int(10_000 / scale[1]), int(10_000 / scale[0]))
    area = fill_polygons([rings], shape, scale).sum() * scale[0] * scale[1]
    assert area == pytest.approx(math.pi * (4000**2 - 2000**2), rel=0.002)


@pytest.mark.parametrize(
    "ring",
    [
        _square(-50, 0, 20),
        _square(50, 0, 20),
        _square(0, -50, 20),
        _square(0, 50, 20),
        _ring((1, 1), (5, 1), (3, 1)),
        _square(4.6, 4.6, 0.3),
    ],
)
def test_nothing_inside(ring: Ring) -> None:
    """Polygons beside the mask, without area, or between the centres of pixels fill nothing."""
    assert not fill_polygons([[ring]], (10, 10), _ONE).any()
    assert filling_cost([[ring]], (10, 10), _ONE) <= 60


def test_all_inside() -> None:
    """A polygon around the whole mask fills it, far corners and all."""
    assert fill_polygons([[_square(-1e9, -1e9, 2e9)]], (10, 10), _ONE).all()
    assert filling_cost([[_square(-1e9, -1e9, 2e9)]] * 3, (10, 10), _ONE) == 3 * 11 * 11
