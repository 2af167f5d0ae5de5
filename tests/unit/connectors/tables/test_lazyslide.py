"""LazySlide's layout, read with `tests.reference.layouts.spatialdata`; see `test_published` for SpatialData itself."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from connectors.tables.lazyslide import TABLE
from tests.reference.layouts.spatialdata import node, polygon, read_array
from tests.unit.connectors.tables.contents import (
    files_of,
    foreign,
    laid_out,
    make_content,
    told,
    upper_left,
    with_fallbacks,
    with_holes,
)

SIZE_PX = 896


@pytest.mark.parametrize(("count", "dimension"), [(0, 5), (1, 5), (30, 7), (6000, 768)])
def test_features_are_read_back(tmp_path: Path, count: int, dimension: int) -> None:
    """Every value to the bit, in one chunk or more; rows are named and numbered."""
    content = make_content(count, dimension)
    table = laid_out(TABLE, content, tmp_path) / "S-1.zarr" / "tables" / "efficientnet-lite0_tiles"
    features = read_array(table / "X")
    assert isinstance(features, np.ndarray)
    assert features.shape == (count, dimension)
    assert features.tobytes() == content.embeddings.matrix.tobytes()
    assert read_array(table / "obs" / "_index") == [str(row) for row in range(count)]
    assert np.array_equal(np.asarray(read_array(table / "obs" / "tile_id")), np.arange(count))
    assert len(read_array(table / "var" / "_index")) == dimension


def test_large_matrices_have_several_chunks() -> None:
    """No chunk is larger than what a reader of a few rows should have to fetch."""
    chunks = {path: data for path, data in files_of(TABLE, make_content(6000, 768)).items() if "/X/c/" in path}
    assert len(chunks) == 2
    assert {len(data) for data in chunks.values()} == {(16 << 20) // (768 * 4) * 768 * 4}


def test_tiles_are_rectangles_of_level_0(tmp_path: Path) -> None:
    """Each patch is its square, with its corner and number, and nothing is told of tissue."""
    content = with_holes(make_content(30), [3])
    path = laid_out(TABLE, content, tmp_path) / "S-1.zarr" / "shapes" / "tiles" / "shapes.parquet"
    table = pq.read_table(path, use_threads=False)
    corners = upper_left(content.embeddings.whole())
    assert np.array_equal(np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1), corners)
    assert table["tile_id"].to_pylist() == list(range(29))
    assert set(table["tissue_id"].to_pylist()) == {0}
    for (x, y), data in zip(corners.tolist(), table["geometry"].to_pylist(), strict=True):
        far_x, far_y = x + SIZE_PX, y + SIZE_PX
        assert set(polygon(data)) == {(x, y), (far_x, y), (far_x, far_y), (x, far_y)}
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["columns"]["geometry"]["bbox"] == [*corners.min(axis=0), *(corners.max(axis=0) + SIZE_PX)]


def test_how_it_was_tiled_is_in_the_root(tmp_path: Path) -> None:
    """Sizes of the level, the factor to level 0, and the slide's extent, height first."""
    attributes = node(laid_out(TABLE, told(make_content(3), stride_px=112), tmp_path) / "S-1.zarr")["attributes"]
    spec = attributes["tile_spec"]["tiles"]
    assert (spec["height"], spec["width"], spec["stride_height"], spec["stride_width"]) == (224, 224, 112, 112)
    assert (spec["ops_level"], spec["base_downsample"] * spec["width"]) == (1, SIZE_PX)
    assert attributes["slide_properties"]["shape"] == [40000, 50000]


def test_the_root_has_a_copy_of_every_description(tmp_path: Path) -> None:
    """Readers that ask the root only, as those of buckets do, find what those find that walk through the folders."""
    store = laid_out(TABLE, with_fallbacks(make_content(3), [1]), tmp_path) / "S-1.zarr"
    copies = node(store)["consolidated_metadata"]["metadata"]
    found = {str(path.parent.relative_to(store)): node(path.parent) for path in store.rglob("zarr.json")}
    del found["."]
    assert copies == found


def test_fallbacks_are_a_column(tmp_path: Path) -> None:
    """Only of encoders that may fall back."""
    content = with_fallbacks(with_holes(make_content(5), [0]), [0, 2])
    obs = laid_out(TABLE, content, tmp_path) / "S-1.zarr" / "tables" / "efficientnet-lite0_tiles" / "obs"
    assert np.asarray(read_array(obs / "fallback")).tolist() == [False, True, False, False]
    assert node(obs)["attributes"]["column-order"] == ["tile_id", "fallback", "library_id"]
    assert not any("/fallback/" in path for path in files_of(TABLE, make_content(5)))


def test_a_slide_without_patches_has_no_shapes(tmp_path: Path) -> None:
    """SpatialData refuses empty shapes, and a table that annotates what is not there."""
    store = laid_out(TABLE, make_content(0), tmp_path) / "S-1.zarr"
    assert not (store / "shapes" / "tiles").exists()
    table = store / "tables" / "efficientnet-lite0_tiles"
    assert node(table)["attributes"]["region"] is None
    assert not (table / "uns" / "spatialdata_attrs").exists()


def test_a_slide_without_spacing_is_no_matter(tmp_path: Path) -> None:
    """The spacing is unknown there, too; the store belongs to any slide then."""
    attributes = node(laid_out(TABLE, foreign(), tmp_path) / "foreign.zarr")["attributes"]
    assert attributes["tile_spec"]["tiles"]["mpp"] is None
    assert "slide_properties" not in attributes
