"""Small ONNX networks: the mean of each colour, then a matrix; whole, odd and broken ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE_PX = 8
DIMENSION = 5

Shape = Sequence[int | str | None]


def matrix(seed: int = 0) -> NDArray[np.float32]:
    """Return the weights, float32 (3, DIMENSION)."""
    return np.random.default_rng(seed).normal(size=(3, DIMENSION)).astype(np.float32)


def expected(pixels: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what the network says to RGB in 0..1, in float64."""
    return (pixels.astype(np.float64) / 255).mean(axis=(1, 2)) @ weights.astype(np.float64)


def network(
    shape: Shape = ("N", 3, SIDE_PX, SIDE_PX),
    weights: NDArray[np.float32] | None = None,
    outputs: Sequence[str] = ("features",),
    *,
    kind: int = TensorProto.FLOAT,
    rows: int = SIDE_PX,
) -> onnx.ModelProto:
    """Return a network of images, channels first or last as `shape` says, with one or several outputs.

    It looks at the first `rows` of an image.
    """
    table = matrix() if weights is None else weights
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    bounds = {"start": [0], "stop": [rows], "down": axes[:1]}
    nodes = [
        helper.make_node("Slice", ["images", *bounds], ["seen"]),
        helper.make_node("ReduceMean", ["seen"], ["colours"], axes=axes, keepdims=0),
    ]
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", ["colours"], ["cast"], to=TensorProto.FLOAT))
    last = "colours" if kind == TensorProto.FLOAT else "cast"
    nodes.append(helper.make_node("MatMul", [last, "table"], [outputs[0]]))
    nodes += [helper.make_node("Neg", [outputs[0]], [name]) for name in outputs[1:]]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", kind, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], table.shape[1]]) for name in outputs],
        [
            numpy_helper.from_array(table, "table"),
            *(numpy_helper.from_array(np.array(values, np.int64), name) for name, values in bounds.items()),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def write(path: Path, model: onnx.ModelProto) -> Path:
    """Write a network into one file."""
    path.write_bytes(model.SerializeToString())
    return path


def write_apart(path: Path, location: str) -> Path:
    """Write a network whose weights are said to lie in another file, which is not written."""
    model = network()
    table = model.graph.initializer[0]
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(matrix().nbytes))):
        entry = table.external_data.add()
        entry.key, entry.value = key, value
    return write(path, model)
