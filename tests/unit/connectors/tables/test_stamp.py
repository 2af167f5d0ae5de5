"""STAMP's layout, read as STAMP reads it; the reader is `tests.reference.layouts.stamp`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectors.tables.protocol import TableContent
from connectors.tables.stamp import TABLE
from models.domain.errors import ResultError
from tests.reference.layouts.stamp import StampBag, read_bag
from tests.unit.connectors.tables.contents import (
    files_of,
    foreign,
    laid_out,
    make_content,
    told,
    with_holes,
)


def _bag(content: TableContent, folder: Path) -> StampBag:
    return read_bag(laid_out(TABLE, content, folder) / "efficientnet-lite0" / "S-1.h5")


def _holding(value: float) -> TableContent:
    content = make_content(3)
    matrix = content.embeddings.matrix.copy()
    matrix[1, 2] = value
    return replace(content, embeddings=replace(content.embeddings, matrix=matrix))


@pytest.mark.parametrize("value", [65520.0, -65536.0, 3e38])
def test_values_beyond_float16_are_refused(value: float) -> None:
    """No value becomes infinite on the way."""
    with pytest.raises(ResultError, match="holds float16, up to 65504, and the largest value is"):
        files_of(TABLE, _holding(value))


@pytest.mark.parametrize("value", [65504.0, -65504.0])
def test_the_largest_values_are_kept(tmp_path: Path, value: float) -> None:
    """What float16 can hold it does."""
    assert _bag(_holding(value), tmp_path).features[1, 2] == value


@pytest.mark.parametrize("content", [foreign(), told(make_content(2), spacing_um=None)])
def test_unknown_spacing_is_refused(content: TableContent) -> None:
    """Places are micrometres or nothing."""
    with pytest.raises(ResultError, match="in micrometres, and the slide's spacing is unknown"):
        files_of(TABLE, content)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_bags_are_read_back(tmp_path: Path, count: int) -> None:
    """Features to the precision that STAMP keeps, corners in micrometres, and tiles as large as the patches."""
    content = make_content(count)
    bag = _bag(content, tmp_path)
    assert bag.stored == np.float16
    assert bag.features.shape == (count, 5)
    assert np.allclose(bag.features, content.embeddings.matrix, rtol=2**-11, atol=0)
    assert content.embeddings.positions_um is not None
    assert np.allclose(bag.coords_um, content.embeddings.positions_um, rtol=1e-6)
    assert bag.tile_size_um == pytest.approx(224 / 3)
    assert (bag.tile_size_px, bag.extractor, bag.feat_type) == (224, "efficientnet-lite0", "tile")


def test_holes_are_left_out(tmp_path: Path) -> None:
    """Neither file nor bag has a row for them."""
    content = with_holes(make_content(9), [0, 4])
    bag = _bag(content, tmp_path)
    assert np.allclose(bag.features, content.embeddings.whole().matrix, rtol=2**-11, atol=0)
    assert len(bag.coords_um) == 7


def test_the_loss_is_said() -> None:
    """The provenance in the file names the precision."""
    (data,) = files_of(TABLE, make_content(2)).values()
    assert b'"precision": "float16"' in data
