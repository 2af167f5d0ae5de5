"""What layouts that go by slide have in common."""

from dataclasses import replace

import numpy as np
import pytest

from connectors.tables.bag import Bag
from models.domain.errors import ResultError
from tests.unit.connectors.tables.contents import RECIPE, make_content, told, with_holes


def _sized(width: int, height: int, rows: slice = slice(None)) -> Bag:
    content = make_content(3)
    boxes = content.embeddings.boxes.copy()
    boxes[rows, 2:] = (width, height)
    return Bag.of("clam", replace(content, embeddings=replace(content.embeddings, boxes=boxes)))


@pytest.mark.parametrize(("width", "height"), [(224, 112), (112, 224)])
def test_rectangles_are_refused(width: int, height: int) -> None:
    """Tools of the field know one edge."""
    with pytest.raises(ResultError, match=r"The layout clam holds squares of one size.* from 112 to 224 px"):
        _sized(width, height)


def test_several_sizes_are_refused() -> None:
    """One edge for all."""
    with pytest.raises(ResultError, match="from 224 to 256 px: take the layout parquet or numpy"):
        _sized(256, 256, slice(1, 2))


def test_points_are_refused() -> None:
    """Annotations of other programs may be points, which have no size."""
    with pytest.raises(ResultError, match="needs the size of the patches"):
        _sized(0, 0)
    with pytest.raises(ResultError, match="needs the size of the patches"):
        Bag.of("clam", told(make_content(0), patch_px=0))


def test_the_size_is_that_which_was_read() -> None:
    """Boxes are believed, and scaled to level 0."""
    bag = _sized(100, 100)
    assert (bag.patch_px, bag.patch_level_0_px) == (100, (400, 400))


def test_an_unknown_stride_is_a_patch() -> None:
    """Patches of other programs are thought to lie side by side."""
    assert Bag.of("clam", told(make_content(2), stride_px=0)).stride_px == 224
    assert Bag.of("clam", told(make_content(2), stride_px=112)).stride_px == 112


def test_names() -> None:
    """The folder is that of the recipe, the file that of the slide; without them, of the result."""
    content = make_content(2)
    bag = Bag.of("clam", content)
    assert (bag.folder, bag.slide, bag.encoder) == (f"clam-{RECIPE[:8]}", "S-1", "efficientnet-lite0")
    unknown = Bag.of("clam", replace(told(content, recipe="", encoder=""), slide=""))
    assert unknown.folder == f"clam-{content.provenance.result_key[:8]}"
    assert unknown.slide == content.name
    assert unknown.encoder == "encoder"
    assert Bag.of("clam", told(content, encoder="timm:resnet18")).encoder == "timm_resnet18"


def test_corners_are_whole_pixels_of_level_0() -> None:
    """Rounded, not cut off."""
    content = make_content(1)
    px = np.array([[3.6, 7.4]])
    assert Bag.of(
        "clam", replace(content, embeddings=replace(content.embeddings, positions_px=px))
    ).corners_px.tolist() == [[4, 7]]


def test_nothing_is_copied_without_holes() -> None:
    """A matrix of gigabytes is passed on as it is."""
    content = make_content(3)
    assert Bag.of("clam", content).embeddings is content.embeddings
    assert len(Bag.of("clam", with_holes(content, [1])).embeddings) == 2
