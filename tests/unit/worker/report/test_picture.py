"""The picture: colours follow the embeddings, and lie where the patches lie."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.domain.embedding import Embeddings
from models.domain.patch import PatchGrid, Rows
from models.domain.plan import Plan
from models.domain.slide import Level, Slide, SlideRef
from worker.report import overlay
from worker.report.picture import _GLASS, _keys, draw_picture, draw_slide, paint_map, principal_colours

LEVEL = Level(400, 200, 100, 100, (0.5, 0.5), "RGB", ())
GLASS = _GLASS


def made(boxes: list[list[int]], matrix: NDArray[np.float32]) -> tuple[Plan, Embeddings]:
    """Return plan and embeddings of a few patches on a slide of 400 x 200 px."""
    array = np.asarray(boxes, np.int32).reshape(-1, 4)
    grid = PatchGrid(0, 100, (0.5, 0.5), array, np.arange(len(array)))
    plan = Plan(Slide(SlideRef("image", "x"), (LEVEL,), "x"), grid, len(array), 4, ())
    return plan, plan.assemble(Rows(matrix))


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


def test_holes_are_hatched_not_coloured() -> None:
    """A hole has no colour, spoils no other's, and is hatched in both panels, at its place alone."""
    matrix = np.random.default_rng(4).normal(size=(8, 6)).astype(np.float32)
    boxes = [[100 * (number % 4), 100 * (number // 4), 100, 100] for number in range(8)]
    whole = paint_map(*made(boxes[1:], matrix[1:]), (200, 400), 1.0)
    matrix[0] = np.nan
    plan, embeddings = made(boxes, matrix)
    canvas = paint_map(plan, embeddings, (200, 400), 1.0)
    place = (slice(0, 100), slice(0, 100))
    assert _striped(canvas[place])
    canvas[place] = GLASS
    assert np.array_equal(canvas, whole)
    slide = np.full((200, 400, 3), 200, np.uint8)
    drawn = draw_slide(slide, plan, embeddings, 1.0, None)
    assert _striped(drawn[10:90, 10:90])
    assert not _striped(drawn[10:90, 110:190])
    assert [key.text for key in _keys(plan, embeddings, None)] == ["8 patches", "1 of them holes: could not be read"]


def _striped(part: NDArray[np.uint8]) -> bool:
    """Whether a part is black on white in stripes."""
    dark = (part == overlay.HOLE_COLOUR).all(axis=2)
    return bool(((part == 255).all(axis=2) | dark).all() and 0.2 < dark.mean() < 0.4)


def test_all_holes() -> None:
    """A slide of which nothing could be read has a picture, too."""
    plan, embeddings = made([[0, 0, 100, 100]], np.full((1, 3), np.nan, np.float32))
    assert draw_picture(np.full((20, 40, 3), 200, np.uint8), plan, embeddings, 1.0, np.ones((2, 4), bool))


def test_what_was_not_read_is_pale() -> None:
    """Inside the patches the slide is as it was, but for thin lines; outside it is paler."""
    plan, embeddings = made([[0, 0, 100, 100], [100, 0, 100, 100]], np.eye(2, dtype=np.float32))
    slide = np.full((400, 800, 3), (150, 60, 120), np.uint8)
    drawn = draw_slide(slide, plan, embeddings, 1.0, None)
    inside = (drawn[:200, :400] == (150, 60, 120)).all(axis=2)
    assert inside.mean() > 0.9
    assert (drawn[250:, 500:] > (150, 60, 120)).all()
    assert (drawn[:200, :400][~inside].astype(int) != (150, 60, 120)).any()


def test_tissue_is_outlined() -> None:
    """The outline runs along the tissue's edge, in its colour, whatever the mask's size; specks are left out."""
    plan, embeddings = made([[0, 0, 100, 100]], np.eye(1, dtype=np.float32))
    mask = np.zeros((50, 100), bool)
    mask[:, :60] = True
    mask[10, 10] = False
    mask[40, 90] = True
    slide = np.full((400, 800, 3), 230, np.uint8)
    drawn = draw_slide(slide, plan, embeddings, 1.0, mask)
    rows, columns = np.nonzero((drawn == overlay.TISSUE_COLOUR).all(axis=2))
    edge = rows > 220  # below the patch's own outline
    assert len(set(rows[edge].tolist())) > 150
    right = columns[edge & (columns > 400)]
    assert abs(int(np.median(right)) - 480) <= 4
    assert right.max() < 500
    [_, tissue] = _keys(plan, embeddings, mask)
    assert tissue.text == "tissue, 60 % of the slide"


def test_gaps_are_not_outlined() -> None:
    """Gaps of a few pixels of the picture are closed before the outline is drawn; wide ones stay."""
    mask = np.ones((200, 200), bool)
    mask[:, 60:70] = False
    mask[:, 120:160] = False
    smooth = overlay.smoothed(mask, (200, 200))
    assert smooth[20:180, :110].all()
    assert not smooth[20:180, 130:150].any()


def test_the_legend_counts() -> None:
    """The legend says how many patches of the grid were kept."""
    plan, embeddings = made([[0, 0, 100, 100]], np.eye(1, dtype=np.float32))
    [patches] = _keys(replace(plan, grid_patches=1170), embeddings, None)
    assert patches.text == "1 of 1,170 patches of the grid (0 %)"


def test_patches_too_small_to_outline() -> None:
    """Where single outlines would lie too close, none are drawn; larger ones are light."""
    picture = np.full((90, 90, 3), 200, np.uint8)
    y, x = np.mgrid[0:90:6, 0:90:6].reshape(2, -1)
    overlay.draw_cells(picture, np.stack([x, y, x + 6, y + 6], axis=1))
    assert (picture == 200).all()
    overlay.draw_cells(picture, np.asarray([[0, 0, 45, 45]]))
    assert 0 < np.abs(picture.astype(int) - 200).max() < 60
    overlay.draw_cells(picture, np.empty((0, 4), np.int64))


def test_two_panels() -> None:
    """The PNG shows slide and map beside each other, at the same size."""
    plan, embeddings = made([[0, 0, 100, 100], [100, 0, 100, 100]], np.eye(2, dtype=np.float32))
    slide = np.full((100, 200, 3), (200, 10, 10), np.uint8)
    with Image.open(BytesIO(draw_picture(slide, plan, embeddings))) as picture:
        pixels = np.asarray(picture)
    half = pixels.shape[1] // 2
    assert (pixels[:, :half, 0].astype(int) - pixels[:, :half, 1] > 60).mean() > 0.5  # paler where nothing was read
    assert not (pixels[:, half:] == (200, 10, 10)).all(axis=2).any()
    assert ((pixels[:, half:] == GLASS).all(axis=2)).mean() > 0.3
