"""slide2vec's layout, read as slide2vec reads it; the reader is `tests.reference.layouts.slide2vec`."""

from pathlib import Path

import numpy as np
import pytest

from connectors.tables.slide2vec import TABLE
from models.domain.errors import ResultError
from tests.reference.layouts.slide2vec import load_embeddings, load_tiles
from tests.unit.connectors.tables.contents import (
    files_of,
    laid_out,
    make_content,
    told,
    upper_left,
    with_fallbacks,
    with_holes,
)


def test_unknown_spacing_is_refused() -> None:
    """hs2p's tiles have a spacing, always."""
    with pytest.raises(ResultError, match="needs a spacing"):
        files_of(TABLE, told(make_content(2), spacing_um=None, requested_spacing_um=None))


@pytest.mark.parametrize("count", [0, 1, 50])
def test_rows_are_in_the_order_of_hs2p(tmp_path: Path, count: int) -> None:
    """By x, then y, in both files alike: each embedding is that of the tile of its row."""
    content = make_content(count)
    folder = laid_out(TABLE, content, tmp_path)
    about, features = load_embeddings(folder, "S-1")
    _, corners = load_tiles(folder, about)
    expected = sorted(zip(map(tuple, upper_left(content.embeddings)), content.embeddings.matrix.tolist(), strict=True))
    assert [tuple(corner) for corner in corners.tolist()] == [corner for corner, _ in expected]
    assert features.tolist() == [row for _, row in expected]


def test_settings_say_how_it_was_tiled(tmp_path: Path) -> None:
    """Sizes and spacings are those of the patches; what hs2p would have measured and we have not is unknown."""
    folder = laid_out(TABLE, told(make_content(2), stride_px=112), tmp_path)
    about, _ = load_embeddings(folder, "S-1")
    settings, _ = load_tiles(folder, about)
    tiling = settings["tiling"]
    assert (tiling["requested_tile_size_px"], tiling["tile_size_lv0"], tiling["step_px_lv0"]) == (224, 896, 448)
    assert (tiling["overlap"], tiling["read_level"], tiling["requested_spacing_um"]) == (0.5, 1, 0.5)
    assert tiling["read_spacing_um"] == pytest.approx(1 / 3)
    assert settings["slide"]["dimensions"] == [50000, 40000]
    assert about["tile_size_lv0"] == 896
    assert about["encoder_name"] == "efficientnet-lite0"
    with np.load(folder / about["coordinates_npz_path"]) as file:
        assert np.isnan(file["tissue_fractions"]).all()


def test_native_spacing_is_what_was_read(tmp_path: Path) -> None:
    """Who asks for none asked for the slide's own."""
    about, _ = load_embeddings(laid_out(TABLE, told(make_content(2), requested_spacing_um=None), tmp_path), "S-1")
    assert about["requested_spacing_um"] == pytest.approx(1 / 3)


def test_holes_are_left_out_and_fallbacks_named(tmp_path: Path) -> None:
    """A hole has no tile; a fallback is named by its row in the tool's order."""
    content = with_fallbacks(with_holes(make_content(41), [0, 40]), [20, 1])
    about, features = load_embeddings(laid_out(TABLE, content, tmp_path), "S-1")
    assert len(features) == 39
    assert about["slidewire"]["holes"] == 2
    marked = features[about["slidewire"]["fallbacks"]].tolist()
    assert sorted(marked) == sorted(content.embeddings.matrix[[1, 20]].tolist())
