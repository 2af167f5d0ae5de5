"""The picture: colours follow the embeddings, and lie where the patches lie."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.domain.embedding import Embeddings
from models.domain.patch import PatchGrid
from models.domain.plan import Plan
from models.domain.slide import Level, Slide, SlideRef
from worker.report.picture import _GLASS, draw_picture, paint_map, principal_colours

LEVEL = Level(400, 200, 100, 100, (0.5, 0.5), "RGB", ())
GLASS = _GLASS


def made(boxes: list[list[int]], matrix: NDArray[np.float32]) -> tuple[Plan, Embeddings]:
    """Return plan and embeddings of a few patches on a slide of 400 x 200 px."""
    array = np.asarray(boxes, np.int32).reshape(-1, 4)
    grid = PatchGrid(0, 100, (0.5, 0.5), array, np.arange(len(array)))
    plan = Plan(Slide(SlideRef("image", "x"), (LEVEL,), "x"), grid, len(array), 4, ())
    return plan, plan.assemble(matrix)


def test_alike_embeddings_have_alike_colours() -> None:
    """Two groups of embeddings get two groups of colours."""
    random = np.random.default_rng(1)
    groups = np.repeat(random.normal(size=(2, 16)) * 10, 20, axis=0)
    matrix = (groups + random.normal(size=(40, 16)) * 0.01).astype(np.float32)
    red = principal_colours(matrix)[:, 0].astype(int)
    assert np.ptp(red[:20]) < 20
    assert np.ptp(red[20:]) < 20
    assert abs(red[:20].mean() - red[20:].mean()) > 200


def test_the_same_colours_again() -> None:
    """The picture of the same numbers is the same picture."""
    matrix = np.random.default_rng(2).normal(size=(50, 8)).astype(np.float32)
    assert np.array_equal(principal_colours(matrix), principal_colours(matrix.copy()))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_too_little_to_spread(count: int) -> None:
    """No patches, one, or equal ones: grey, without a warning."""
    colours = principal_colours(np.ones((count, 3), np.float32))
    assert colours.shape == (count, 3)
    assert set(colours.ravel().tolist()) <= {127, 128}


@pytest.mark.parametrize("dimension", [1, 2])
def test_fewer_than_three_components(dimension: int) -> None:
    """Embeddings of one or two numbers are coloured, too."""
    matrix = np.arange(10 * dimension, dtype=np.float32).reshape(10, dimension)
    assert len(np.unique(principal_colours(matrix)[:, 0])) > 5


def test_colours_lie_where_the_patches_lie() -> None:
    """A patch paints its own place, and nothing else is painted."""
    plan, embeddings = made([[300, 100, 100, 100]], np.ones((1, 3), np.float32))
    canvas = paint_map(plan, embeddings, (20, 40), 1.0)
    painted = (canvas != GLASS).any(axis=2)
    assert painted[10:20, 30:40].all()
    assert painted.sum() == 100


def test_overlapping_patches_paint_their_centres() -> None:
    """With half a stride each patch paints the middle half of its place."""
    plan, embeddings = made([[0, 0, 100, 100]], np.ones((1, 3), np.float32))
    painted = (paint_map(plan, embeddings, (200, 400), 0.5) != GLASS).any(axis=2)
    assert painted[25:75, 25:75].all()
    assert painted.sum() == 50 * 50


def test_two_panels() -> None:
    """The PNG shows slide and map beside each other, at the same size."""
    plan, embeddings = made([[0, 0, 100, 100], [100, 0, 100, 100]], np.eye(2, dtype=np.float32))
    slide = np.full((100, 200, 3), (200, 10, 10), np.uint8)
    with Image.open(BytesIO(draw_picture(slide, plan, embeddings))) as picture:
        pixels = np.asarray(picture)
    half = pixels.shape[1] // 2
    assert ((pixels[:, :half] == (200, 10, 10)).all(axis=2)).mean() > 0.5
    assert not (pixels[:, half:] == (200, 10, 10)).all(axis=2).any()
    assert ((pixels[:, half:] == GLASS).all(axis=2)).mean() > 0.3
