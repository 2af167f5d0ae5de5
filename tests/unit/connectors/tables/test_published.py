"""Layouts as the published tools open them; an environment of their own is made for it, so this is in test-faults."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from connectors.tables.lazyslide import TABLE as LAZYSLIDE
from connectors.tables.protocol import Table, TableContent
from connectors.tables.slide2vec import TABLE as SLIDE2VEC
from models.domain.embedding import Embeddings
from tests.services import layout_site
from tests.unit.connectors.tables.contents import (
    laid_out,
    make_content,
    told,
    upper_left,
    with_fallbacks,
    with_holes,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

_SPATIALDATA = """
import json, anndata, spatialdata
store = spatialdata.read_zarr("S-1.zarr")
table = store.tables["efficientnet-lite0_tiles"]
alone = anndata.read_zarr("S-1.zarr/tables/efficientnet-lite0_tiles")
said = {"X": table.X.tolist(), "alone": alone.X.tolist(), "obs": {name: table.obs[name].tolist() for name in table.obs},
        "index": list(table.obs_names), "uns": json.loads(table.uns["slidewire"]), "attrs": dict(store.attrs)}
if "tiles" in store.shapes:
    shapes = store.shapes["tiles"]
    region = table.uns["spatialdata_attrs"]
    joined, matched = spatialdata.join_spatialelement_table(
        sdata=store, spatial_element_names="tiles", table_name="efficientnet-lite0_tiles", how="inner")
    said |= {"bounds": shapes.bounds.to_numpy().tolist(), "valid": bool(shapes.is_valid.all()),
             "area": sorted(set(shapes.area)), "columns": list(shapes.columns), "matched": len(matched),
             "region": [region["region"], region["region_key"], region["instance_key"]]}
    store.write("again.zarr")
    said["again"] = spatialdata.read_zarr("again.zarr").tables["efficientnet-lite0_tiles"].X.tolist()
print(json.dumps(said))
"""

_WSIDATA = """
import json, sys, numpy as np
from wsidata import open_wsi
slide = open_wsi("S-1.tif", store=".")
tiles = [(tile.x, tile.y, np.asarray(tile.image)[..., :3].tolist()) for tile in slide.iter.tile_images("tiles")]
features = slide.fetch.features_anndata("efficientnet-lite0", "tiles")
spec = slide.tile_spec("tiles")
print(json.dumps({"tiles": tiles, "X": features.X.tolist(), "spec": [spec.base_width, spec.ops_width, spec.mpp]}))
"""

_OTHER_SLIDE = """
from wsidata import open_wsi
try:
    open_wsi("other.tif", store="S-1.zarr")
except ValueError as exc:
    print(exc)
"""

_SLIDE2VEC = """
import json
from pathlib import Path
from hs2p import load_tiling_result
from slide2vec.artifacts import TileEmbeddingArtifact, load_array
path = Path("tile_embeddings/S-1.pt")
about = json.loads(path.with_suffix(".meta.json").read_text())
artifact = TileEmbeddingArtifact(sample_id="S-1", path=path, metadata_path=path.with_suffix(".meta.json"),
                                 **{name: about[name] for name in ("format", "feature_dim", "num_tiles", "annotation")})
about = artifact.metadata
tiles = load_tiling_result(coordinates_npz_path=Path(about["coordinates_npz_path"]),
                           coordinates_meta_path=Path(about["coordinates_meta_path"]))
features = load_array(artifact.path)
print(json.dumps({"features": features.tolist(), "shape": list(features.shape), "x": tiles.x.tolist(),
                  "y": tiles.y.tolist(), "size": tiles.tile_size_lv0, "spacing": tiles.read_spacing_um}))
"""


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an environment with the tools."""
    return layout_site.install(tmp_path_factory.mktemp("layouts"))


def _read(python: Path, program: str, table: Table, content: TableContent, folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(layout_site.run(python, program, laid_out(table, content, folder)))
    return said


@pytest.mark.parametrize("count", [1, 30, 6000])
def test_spatialdata_reads_the_store(python: Path, tmp_path: Path, count: int) -> None:
    """Features, shapes and the link between them are what was written, and SpatialData writes them again."""
    content = with_fallbacks(make_content(count), [0])
    said = _read(python, _SPATIALDATA, LAZYSLIDE, content, tmp_path)
    assert said["X"] == said["alone"] == said["again"] == content.embeddings.matrix.tolist()
    corners = upper_left(content.embeddings)
    assert said["bounds"] == np.hstack([corners, corners + 896]).tolist()
    assert (said["valid"], said["area"], said["matched"]) == (True, [896.0**2], count)
    assert said["columns"] == ["tile_id", "x", "y", "tissue_id", "geometry"]
    assert said["region"] == ["tiles", "library_id", "tile_id"]
    assert said["obs"]["tile_id"] == list(range(count))
    assert said["obs"]["fallback"] == [row == 0 for row in range(count)]
    assert set(said["obs"]["library_id"]) == {"tiles"}
    assert said["index"] == [str(row) for row in range(count)]
    assert said["uns"]["embeddings_sha256"] == content.embeddings.digest


@pytest.mark.parametrize("content", [make_content(0), with_holes(make_content(2), [0, 1])], ids=["empty", "holes"])
def test_spatialdata_reads_a_store_without_patches(python: Path, tmp_path: Path, content: TableContent) -> None:
    """There is a table of no rows."""
    said = _read(python, _SPATIALDATA, LAZYSLIDE, content, tmp_path)
    assert said["X"] == []
    assert "bounds" not in said


def _slide(path: Path, pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """Write a slide of two levels that OpenSlide opens: 0.25 and 0.5 um."""
    with tifffile.TiffWriter(path) as file:
        for step in (1, 2):
            file.write(
                pixels[::step, ::step], tile=(256, 256), photometric="rgb", subfiletype=step - 1,
                resolution=(40000 / step, 40000 / step), resolutionunit="CENTIMETER",
            )  # fmt: skip


def _at_half_a_micrometre() -> TableContent:
    content = make_content(6)
    boxes = np.array([[x * 224, y * 224, 224, 224] for y in range(2) for x in range(3)], np.int32)
    px = boxes[:, :2] * 2.0
    facts = {"slide_px": (2048, 1024), "level_scale": (2.0, 2.0), "spacing_um": (0.5, 0.5)}
    told_so = told(content, **facts, level_0_spacing_um=(0.25, 0.25))
    return replace(told_so, embeddings=Embeddings(content.embeddings.matrix, boxes, px, px * 0.25))


def test_wsidata_finds_the_patches_in_the_slide(python: Path, tmp_path: Path) -> None:
    """What LazySlide reads of the slide for a tile are the very pixels that were embedded."""
    content = _at_half_a_micrometre()
    folder = laid_out(LAZYSLIDE, content, tmp_path)
    pixels = np.random.default_rng(5).integers(0, 256, (1024, 2048, 3), np.uint8)
    _slide(folder / "S-1.tif", pixels)
    _slide(folder / "other.tif", pixels[:512])
    said = json.loads(layout_site.run(python, _WSIDATA, folder))
    assert said["X"] == content.embeddings.matrix.tolist()
    assert said["spec"] == [448, 224, 0.5]
    assert len(said["tiles"]) == 6
    for (x, y, tile), box in zip(said["tiles"], content.embeddings.boxes.tolist(), strict=True):
        assert (x, y) == (2 * box[0], 2 * box[1])
        assert tile == pixels[::2, ::2][box[1] : box[1] + 224, box[0] : box[0] + 224].tolist()
    assert "belongs to a slide of shape [1024, 2048]" in layout_site.run(python, _OTHER_SLIDE, folder)


@pytest.mark.parametrize("count", [0, 1, 50])
def test_slide2vec_and_hs2p_read_the_artefacts(python: Path, tmp_path: Path, count: int) -> None:
    """hs2p takes the tiles for its own, and slide2vec the tensor that goes with them."""
    content = make_content(count)
    said = _read(python, _SLIDE2VEC, SLIDE2VEC, content, tmp_path)
    corners = upper_left(content.embeddings)
    order = np.lexsort((corners[:, 1], corners[:, 0]))
    assert said["features"] == content.embeddings.matrix[order].tolist()
    assert said["shape"] == [count, 5]
    assert (said["x"], said["y"]) == (corners[order, 0].tolist(), corners[order, 1].tolist())
    assert said["size"] == 896
    assert said["spacing"] == pytest.approx(1 / 3)
