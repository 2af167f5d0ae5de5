"""LazySlide: a SpatialData store with tiles as shapes and features as an AnnData table.

Held to what spatialdata 0.7, anndata 0.12 and wsidata 0.12 write and read: container 0.2, shapes 0.3, tables 0.2.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.tables.bag import ABOUT, Bag
from connectors.tables.geoparquet import encode_rectangles
from connectors.tables.protocol import TableContent, TableFolder
from connectors.tables.zarr_store import ZarrStore

_TILES = "tiles"
_REGION_KEY, _INSTANCE_KEY = "library_id", "tile_id"
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}
_TEXTS = {"encoding-type": "string-array", "encoding-version": "0.2.0"}
_TEXT = {"encoding-type": "string", "encoding-version": "0.2.0"}
_DICT = {"encoding-type": "dict", "encoding-version": "0.1.0"}


class LazyslideTable:
    """``SLIDE.zarr``, a SpatialData store (Zarr format 3) as `wsidata.open_wsi` and `spatialdata.read_zarr` open it.

    ``shapes/tiles``: a rectangle a patch in pixels of level 0, with ``tile_id``, ``x``, ``y`` and ``tissue_id`` (0:
    there are no tissue outlines). ``tables/ENCODER_tiles``: an AnnData of the features (float32) that annotates them,
    with ``fallback`` in ``obs`` of encoders that may fall back, and the provenance in ``uns["slidewire"]``.
    ``attrs["tile_spec"]``: how it was tiled. SpatialData knows no empty shapes: of a slide without patches there is
    only the table, without rows, and it annotates nothing.
    """

    name = "lazyslide"

    def write(self, content: TableContent) -> Iterator[TableFolder]:
        """Yield the store."""
        bag = Bag.of(self.name, content)
        store = ZarrStore()
        _root(store, bag)
        store.group("shapes", {})
        if len(bag.embeddings):
            _shapes(store, bag)
        store.group("tables", {})
        _table(store, f"tables/{bag.encoder}_{_TILES}", bag)
        yield TableFolder(f"{bag.folder}/{bag.slide}.zarr", store.files())


TABLE = LazyslideTable()


def _root(store: ZarrStore, bag: Bag) -> None:
    about = bag.provenance
    spec = {
        "height": bag.patch_px,
        "width": bag.patch_px,
        "stride_height": bag.stride_px,
        "stride_width": bag.stride_px,
        "mpp": about.spacing_um[0] if about.spacing_um else None,
        "ops_level": about.level,
        "ops_downsample": 1.0,
        "base_level": 0,
        "base_downsample": bag.patch_level_0_px[0] / bag.patch_px,
        "tissue_name": None,
    }
    attributes: dict[str, Any] = {"spatialdata_attrs": {"version": "0.2"}, "tile_spec": {_TILES: spec}}
    if about.slide_px is not None:
        # Against this wsidata holds the slide that is opened with the store.
        attributes["slide_properties"] = {"shape": [about.slide_px[1], about.slide_px[0]]}
    store.group("", attributes)


def _shapes(store: ZarrStore, bag: Bag) -> None:
    axes = [{"name": name, "type": "space", "unit": "unit"} for name in "xy"]
    identity = {
        "type": "identity",
        "input": {"name": "xy", "axes": axes},
        "output": {"name": "global", "axes": axes},
    }
    attributes = {
        "encoding-type": "ngff:shapes",
        "axes": ["x", "y"],
        "coordinateTransformations": [identity],
        "spatialdata_attrs": {"version": "0.3"},
    }
    store.group(f"shapes/{_TILES}", attributes)
    count = len(bag.embeddings)
    columns = {
        _INSTANCE_KEY: np.arange(count, dtype=np.int64),
        "x": bag.corners_px[:, 0],
        "y": bag.corners_px[:, 1],
        "tissue_id": np.zeros(count, np.int64),
    }
    rectangles = encode_rectangles(columns, bag.corners_px, bag.patch_level_0_px)
    store.attach(f"shapes/{_TILES}/shapes.parquet", rectangles)


def _table(store: ZarrStore, path: str, bag: Bag) -> None:
    annotates = {"region": _TILES, "region_key": _REGION_KEY, "instance_key": _INSTANCE_KEY}
    said = annotates if len(bag.embeddings) else dict.fromkeys(annotates)
    kind = {"encoding-type": "anndata", "encoding-version": "0.1.0"}
    store.group(path, {**kind, "spatialdata-encoding-type": "ngff:regions_table", "version": "0.2", **said})
    store.array(f"{path}/X", bag.embeddings.matrix, _ARRAY)
    _obs(store, f"{path}/obs", bag)
    _frame(store, f"{path}/var", bag.embeddings.dimension, [])
    for part in ("layers", "obsm", "obsp", "varm", "varp", "uns"):
        store.group(f"{path}/{part}", _DICT)
    store.text(f"{path}/uns/{ABOUT}", bag.about_json, _TEXT)
    if not len(bag.embeddings):
        return
    store.group(f"{path}/uns/spatialdata_attrs", _DICT)
    for name, value in annotates.items():
        store.text(f"{path}/uns/spatialdata_attrs/{name}", value, _TEXT)


def _obs(store: ZarrStore, path: str, bag: Bag) -> None:
    count = len(bag.embeddings)
    columns: dict[str, NDArray[Any]] = {_INSTANCE_KEY: np.arange(count, dtype=np.int64)}
    if bag.embeddings.fallbacks is not None:
        columns["fallback"] = bag.embeddings.fallbacks
    _frame(store, path, count, [*columns, _REGION_KEY])
    for name, values in columns.items():
        store.array(f"{path}/{name}", values, _ARRAY)
    category = {"encoding-type": "categorical", "encoding-version": "0.2.0", "ordered": False}
    store.group(f"{path}/{_REGION_KEY}", category)
    store.texts(f"{path}/{_REGION_KEY}/categories", [_TILES], _TEXTS)
    store.array(f"{path}/{_REGION_KEY}/codes", np.zeros(count, np.int8), _ARRAY)


def _frame(store: ZarrStore, path: str, count: int, columns: Sequence[str]) -> None:
    """Add a data frame without its columns: rows are named by their numbers."""
    kind = {"encoding-type": "dataframe", "encoding-version": "0.2.0"}
    store.group(path, {**kind, "_index": "_index", "column-order": list(columns)})
    store.texts(f"{path}/_index", [str(number) for number in range(count)], _TEXTS)
