"""Rectangles as GeoParquet 1.1: well-known binary polygons in a Parquet file, which geopandas reads."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

GEOMETRY = "geometry"
_POLYGON = np.dtype([("order", "u1"), ("kind", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("ring", "<f8", (5, 2))])


def encode_rectangles(columns: Mapping[str, NDArray[Any]], corners: NDArray[np.int64], size: tuple[int, int]) -> bytes:
    """Return a file with `columns` and a polygon a row.

    Parameters
    ----------
    columns : mapping of str to array, shape (N,)
    corners : int64 array, shape (N, 2)
        Upper left corners (x, y).
    size : (int, int)
        Width and height.
    """
    table = pa.table({**{name: pa.array(values) for name, values in columns.items()}, GEOMETRY: _wkb(corners, size)})
    described: dict[str, Any] = {"encoding": "WKB", "crs": None, "geometry_types": ["Polygon"]}
    if len(corners):
        described["bbox"] = [*corners.min(axis=0).tolist(), *(corners.max(axis=0) + size).tolist()]
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: described}}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo, sort_keys=True)}), sink, compression="zstd")
    return bytes(sink.getvalue())


def _wkb(corners: NDArray[np.int64], size: tuple[int, int]) -> pa.Array:
    """Return polygons with a ring that begins and ends at the upper right corner, as shapely's box does."""
    polygons = np.zeros(len(corners), _POLYGON)
    polygons["order"], polygons["kind"], polygons["rings"], polygons["points"] = 1, 3, 1, 5
    steps = np.array([(1, 0), (1, 1), (0, 1), (0, 0), (1, 0)]) * size
    polygons["ring"] = corners[:, None, :] + steps
    offsets = np.arange(len(corners) + 1, dtype=np.int32) * _POLYGON.itemsize
    return pa.Array.from_buffers(
        pa.binary(), len(corners), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(polygons.tobytes())]
    )
