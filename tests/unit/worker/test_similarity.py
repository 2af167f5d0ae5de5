"""Which patch a point names: the one that covers it, else the nearest is told."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.domain.embedding import Embeddings
from models.domain.errors import RequestError
from models.domain.patch import PatchGrid, Rows
from models.domain.plan import Plan
from models.domain.slide import Level, Slide, SlideRef
from worker.similarity import patch_at


def made(boxes: list[list[int]], matrix: NDArray[np.float32] | None = None) -> tuple[Plan, Embeddings]:
    """Return plan and embeddings of patches that are read from level 1, half as fine as level 0."""
    levels = tuple(Level(width, width, 256, 256, None, "RGB", ()) for width in (4000, 2000))
    array = np.asarray(boxes, np.int32).reshape(-1, 4)
    grid = PatchGrid(1, 100, None, array, np.arange(len(array)))
    plan = Plan(Slide(SlideRef("image", "x"), levels, "x"), grid, len(array), 4, ())
    return plan, plan.assemble(Rows(np.ones((len(array), 2), np.float32) if matrix is None else matrix))


SIDE_BY_SIDE = [[0, 0, 100, 100], [100, 0, 100, 100], [0, 100, 100, 100]]


@pytest.mark.parametrize(
    ("point", "row"), [((0, 0), 0), ((199, 199), 0), ((200, 0), 1), ((399, 199), 1), ((0, 200), 2), ((100, 399), 2)]
)
def test_the_patch_that_covers_it(point: tuple[int, int], row: int) -> None:
    """Points count in level 0; a patch has its upper and left edge, and not its lower and right one."""
    assert patch_at(*made(SIDE_BY_SIDE), point) == row


def test_of_overlapping_patches_the_most_central() -> None:
    """Where two patches lie over a point, the one whose centre is nearer is chosen."""
    overlapping = made([[0, 0, 100, 100], [40, 0, 100, 100]])
    assert patch_at(*overlapping, (130, 100)) == 0
    assert patch_at(*overlapping, (150, 100)) == 1


def test_no_patch_there() -> None:
    """The message names a point of the nearest, which then finds it."""
    with pytest.raises(RequestError, match=r"No patch covers it; the nearest .* at 300,100\.") as caught:
        patch_at(*made(SIDE_BY_SIDE), (3000, 150))
    assert "3000,150" in caught.value.message
    assert patch_at(*made(SIDE_BY_SIDE), (300, 100)) == 1


def test_a_hole_there() -> None:
    """A patch whose pixels could not be had has no similarity: another one is named, or there is none."""
    matrix = np.ones((3, 2), np.float32)
    matrix[1] = np.nan
    with pytest.raises(RequestError, match=r"is a hole; the nearest .* at 100,100\."):
        patch_at(*made(SIDE_BY_SIDE, matrix), (201, 60))
    with pytest.raises(RequestError, match="no patch"):
        patch_at(*made(SIDE_BY_SIDE, np.full((3, 2), np.nan, np.float32)), (201, 60))
    with pytest.raises(RequestError, match="no patch"):
        patch_at(*made([]), (201, 60))


def test_a_hole_is_not_preferred_to_a_patch_over_it() -> None:
    """Where a hole and a patch overlap, the patch is chosen."""
    matrix = np.ones((2, 2), np.float32)
    matrix[0] = np.nan
    assert patch_at(*made([[0, 0, 100, 100], [40, 0, 100, 100]], matrix), (100, 100)) == 1
