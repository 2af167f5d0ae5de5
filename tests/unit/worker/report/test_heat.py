"""The heat map: colours follow the similarity, the chosen patch is ringed in both panels, gaps are told apart."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.imaging.similarity import cosine_similarity
from tests.unit.worker.report.test_picture import made
from worker.report import heat
from worker.report.heat import draw_heat, heat_colours, scale_start

BOXES = [[100 * column, 100 * row, 100, 100] for row in range(2) for column in range(4)]
THUMBNAIL = np.full((100, 200, 3), 200, np.uint8)


def drawn(matrix: NDArray[np.float32], row: int = 0) -> NDArray[np.uint8]:
    """Return the sheet of eight patches as pixels."""
    plan, embeddings = made(BOXES, matrix)
    png = draw_heat(THUMBNAIL, plan, embeddings, cosine_similarity(matrix, row), row)
    return np.asarray(Image.open(BytesIO(png)))


@pytest.fixture
def matrix() -> NDArray[np.float32]:
    """Return embeddings that turn from the first to the last by a right angle."""
    angles = np.linspace(0, np.pi / 2, 8)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_colours_follow_the_similarity() -> None:
    """They grow lighter all the way, also in grey; what lies below the scale is as dark as its start; NaN is grey."""
    values = np.asarray([-1, 0.2, 0.4, 0.6, 0.8, 1, np.nan], np.float32)
    colours = heat_colours(values, 0.2).astype(int)
    lightness = colours[:6] @ [299, 587, 114]
    assert (np.diff(lightness[1:]) > 0).all()
    assert colours[0].tolist() == colours[1].tolist()
    red, green, blue = colours[1]
    assert blue > red
    red, green, blue = colours[5]
    assert min(red, green) > blue
    assert len(set(colours[6].tolist())) == 1


def test_the_scale_begins_where_the_slide_does() -> None:
    """A slide of much alike patches has the whole scale; of equal ones, or of none, the scale is not empty."""
    assert 0.9 <= scale_start(np.linspace(0.9, 1, 200).astype(np.float32)) < 0.91
    assert scale_start(np.ones(5, np.float32)) < 1
    assert scale_start(np.full(3, np.nan, np.float32)) < 1
    assert scale_start(np.asarray([np.nan, 0.5, 1], np.float32)) >= 0.5


def test_each_patch_has_its_place(matrix: NDArray[np.float32]) -> None:
    """The right panel is dark where the patches differ most, light around the chosen one."""
    picture = drawn(matrix).astype(int)
    panel = _panels(picture)[1]
    side = panel.shape[0] // 2
    lightness = np.asarray(
        [[panel[row * side + side // 2, column * side + side // 2].sum() for column in range(4)] for row in range(2)]
    )
    order = lightness.ravel()
    assert (np.diff(order) < 0).all()


def _panels(picture: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return both panels of a sheet, by what is not paper in its middle row."""
    columns = np.flatnonzero((picture[200] != 255).any(axis=1))
    left, right = np.split(columns, np.flatnonzero(np.diff(columns) > 5) + 1)
    height = len(left) * THUMBNAIL.shape[0] // THUMBNAIL.shape[1]
    top = int(np.flatnonzero((picture[:, left[5]] != 255).any(axis=1))[-1]) + 1 - height
    return [picture[top : top + height, part[0] : part[-1] + 1] for part in (left, right)]


@pytest.mark.parametrize("row", [0, 6])
def test_the_chosen_patch_is_ringed(matrix: NDArray[np.float32], row: int) -> None:
    """Both panels differ from those of another choice along the edges of both patches."""
    plan, embeddings = made(BOXES, matrix)
    similarity = cosine_similarity(matrix, row)
    for canvas in (np.full((100, 200, 3), 90, np.uint8), np.zeros((100, 200, 3), np.uint8)):
        before = canvas.copy()
        [left, top] = np.asarray(BOXES[row][:2]) // 2
        heat._ring(canvas, np.asarray([left, top, left + 50, top + 50]))
        changed = (canvas != before).any(axis=2)
        assert changed[max(top - 5, 0) : top + 55, max(left - 5, 0) : left + 55].sum() == changed.sum()
        assert not changed[top + 4 : top + 46, left + 4 : left + 46].any()
        assert changed.sum() > 300
    one = draw_heat(THUMBNAIL, plan, embeddings, similarity, row)
    assert one != draw_heat(THUMBNAIL, plan, embeddings, similarity, 3)
    assert one == draw_heat(THUMBNAIL, plan, embeddings, similarity, row)


def test_a_tiny_patch_has_a_ring_that_shows() -> None:
    """A patch of one pixel is ringed wide enough to be seen."""
    canvas = np.full((60, 60, 3), 128, np.uint8)
    heat._ring(canvas, np.asarray([30, 30, 31, 31]))
    rows = np.flatnonzero((canvas != 128).any(axis=(1, 2)))
    assert np.ptp(rows) >= 12
    assert (canvas[30, 30] == 128).all()


def test_holes_and_what_has_no_direction(matrix: NDArray[np.float32]) -> None:
    """They are drawn, differently, and said below; without them nothing is said."""
    plain = drawn(matrix)
    matrix[5] = 0
    grey = drawn(matrix)
    matrix[6] = np.nan
    both = drawn(matrix)
    legends = [picture[-50:] for picture in (plain, grey, both)]
    ends = [int(np.flatnonzero((legend != 255).any(axis=(0, 2)))[-1]) for legend in legends]
    assert ends[0] < ends[1] < ends[2]
