"""A Zarr store of format 3, made by hand: JSON that describes groups and arrays, and raw chunks.

The zarr package and what comes with SpatialData (dask, numba, xarray: more than a gigabyte) are not needed to write
the few kinds of arrays that a table has. Specification: https://zarr-specs.readthedocs.io/en/latest/v3/core/.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.tables.protocol import TableFile

_CHUNK_BYTES = 16 << 20
_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_TEXTS = {"name": "vlen-utf8", "configuration": {}}
Node = dict[str, Any]


class ZarrStore:
    """A store that is filled node by node; `files` is what it is on disk."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._files: list[TableFile] = []

    def group(self, path: str, attributes: Mapping[str, Any]) -> None:
        """Add a group; ``""`` is the root."""
        self._nodes[path] = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}

    def array(self, path: str, values: NDArray[Any], attributes: Mapping[str, Any]) -> None:
        """Add an array of numbers or truth values, of one or two dimensions; chunks are whole rows."""
        values = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
        row_bytes = values.itemsize * int(np.prod(values.shape[1:], dtype=int))
        rows = max(1, min(len(values), _CHUNK_BYTES // max(row_bytes, 1)))
        shape, chunk = values.shape, (rows, *(max(1, length) for length in values.shape[1:]))
        fill = values.dtype.type(0).item()
        self._nodes[path] = _array((shape, chunk), str(values.dtype), fill, _BYTES, attributes)
        for number, start in enumerate(range(0, len(values) if values.size else 0, rows)):
            part = values[start : start + rows]
            # A chunk is whole, also where the array ends.
            content = part.tobytes() + bytes(row_bytes * (rows - len(part)))
            self._files.append(TableFile("/".join([path, "c", str(number), *("0" for _ in shape[1:])]), content))

    def texts(self, path: str, texts: Sequence[str], attributes: Mapping[str, Any]) -> None:
        """Add an array of texts in one chunk."""
        self._nodes[path] = _array(((len(texts),), (max(1, len(texts)),)), "string", "", _TEXTS, attributes)
        if texts:
            self._files.append(TableFile(f"{path}/c/0", _encoded(texts)))

    def text(self, path: str, text: str, attributes: Mapping[str, Any]) -> None:
        """Add one text: an array without dimensions."""
        self._nodes[path] = _array(((), ()), "string", "", _TEXTS, attributes)
        self._files.append(TableFile(f"{path}/c", _encoded([text])))

    def attach(self, path: str, content: bytes) -> None:
        """Add a file that is no part of the hierarchy."""
        self._files.append(TableFile(path, content))

    def files(self) -> tuple[TableFile, ...]:
        """Return all files; the root's description, which has a copy of all others, is the last."""
        inner = {path: self._nodes[path] for path in sorted(self._nodes) if path}
        described = [TableFile(f"{path}/zarr.json", _json(node)) for path, node in reversed(inner.items())]
        copies = {"kind": "inline", "must_understand": False, "metadata": inner}
        root = TableFile("zarr.json", _json({**self._nodes[""], "consolidated_metadata": copies}))
        return (*self._files, *described, root)


def _array(
    extent: tuple[tuple[int, ...], tuple[int, ...]],
    kind: str,
    fill: float | str,
    codec: Node,
    attributes: Mapping[str, Any],
) -> Node:
    shape, chunk = extent
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": kind,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [codec],
        "attributes": dict(attributes),
        "storage_transformers": [],
    }


def _encoded(texts: Sequence[str]) -> bytes:
    """Return texts as numcodecs' VLenUTF8 does: their number, then of each its length and its UTF-8."""
    parts = [len(texts).to_bytes(4, "little")]
    for text in texts:
        data = text.encode()
        parts += [len(data).to_bytes(4, "little"), data]
    return b"".join(parts)


def _json(node: Node) -> bytes:
    return json.dumps(node, sort_keys=True, allow_nan=False).encode()
