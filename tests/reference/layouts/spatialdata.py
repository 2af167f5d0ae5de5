"""A reader of Zarr 3 stores and of well-known binary, from the specifications: json, struct and numpy only."""

import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np


def node(path: Path) -> dict[str, Any]:
    """Return the description of a group or an array."""
    described: dict[str, Any] = json.loads((path / "zarr.json").read_text())
    return described


def read_array(path: Path) -> np.ndarray | list[str] | str:
    """Return an array of numbers, a list of texts, or one text."""
    about = node(path)
    shape, chunk = about["shape"], about["chunk_grid"]["configuration"]["chunk_shape"]
    assert about["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "/"}}
    if about["data_type"] == "string":
        assert [codec["name"] for codec in about["codecs"]] == ["vlen-utf8"]
        if shape == []:
            return _texts((path / "c").read_bytes())[0]
        return _texts((path / "c" / "0").read_bytes()) if shape[0] else []
    assert about["codecs"] == [{"name": "bytes", "configuration": {"endian": "little"}}]
    whole = np.full(shape, about["fill_value"], about["data_type"])
    for index in itertools.product(*(range(-(-length // step)) for length, step in zip(shape, chunk, strict=True))):
        data = (path / "c" / "/".join(map(str, index))).read_bytes()
        part = np.frombuffer(data, whole.dtype.newbyteorder("<")).reshape(chunk)
        into = tuple(slice(at * step, (at + 1) * step) for at, step in zip(index, chunk, strict=True))
        target = whole[into]
        target[...] = part[tuple(slice(length) for length in target.shape)]
    return whole


def _texts(data: bytes) -> list[str]:
    (count,), at, texts = struct.unpack_from("<I", data), 4, []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", data, at)
        texts.append(data[at + 4 : at + 4 + length].decode())
        at += 4 + length
    assert at == len(data)
    return texts


def polygon(data: bytes) -> list[tuple[float, float]]:
    """Return the corners of a polygon of one closed ring (OGC 06-103r4, 8.2)."""
    order, kind, rings, points = struct.unpack_from("<BIII", data)
    assert (order, kind, rings) == (1, 3, 1)
    numbers = struct.unpack_from(f"<{2 * points}d", data, 13)
    assert len(data) == 13 + 16 * points
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert corners[0] == corners[-1]
    return corners[:-1]
