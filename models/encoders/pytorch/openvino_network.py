"""OpenVINO: networks that PyTorch has loaded, on Intel's instructions for bfloat16 and 8 bit.

A network is converted in memory for one image; as many images are worked on at a time as there are cores, each by one
of them. So a patch's numbers do not depend on its neighbours, whatever the batch, and need no deterministic mode.
"""

import os
import warnings
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ExtraMissing, RequestError
from models.encoders.options import NetworkPrecision

# OpenVINO quantises the activations of a matrix with 8-bit weights as it goes, in groups of so many features.
_GROUP: Final = 128
_LEVELS: Final = 127
# Far below what rounding does, far above what another network gives.
_ALIKE: Final = 0.98


class OpenvinoNetwork:
    """A compiled network: images in, features out.

    Parameters
    ----------
    network : torch.nn.Module
        float32, with its weights, in inference mode.
    side_px : int
        Of its images.
    precision : NetworkPrecision
        ``fp32``; ``bf16``; ``int8``: weights of the linear layers rounded to 8 bit, a scale an output feature, and
        activations as they come. A processor without instructions for one computes it in another.

    Raises
    ------
    ExtraMissing
    RequestError
        OpenVINO cannot convert it, or what it gives for an image of noise is not what PyTorch gives.
    """

    def __init__(self, network: Any, side_px: int, precision: NetworkPrecision) -> None:
        openvino = require_openvino()
        graph = _convert(openvino, network, side_px)
        if precision == "int8" and not _round_weights(graph):
            raise RequestError("This network has no linear layers: precision=int8 would be fp32.")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": _GROUP if precision == "int8" else 0,
            "INFERENCE_NUM_THREADS": cores,
            "NUM_STREAMS": cores,
        }
        self._queue = openvino.AsyncInferQueue(openvino.Core().compile_model(graph, "CPU", config), cores)
        self._rows: list[NDArray[np.float32] | None] = []
        self._queue.set_callback(self._keep)
        noise = np.random.default_rng(0).normal(size=(1, 3, side_px, side_px)).astype(np.float32)
        if not _alike(self(noise), _by_torch(network, noise)):
            raise RequestError("OpenVINO gives other features than PyTorch: leave out runtime=openvino.")

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features (B, D) of images (B, 3, side_px, side_px); called by one thread."""
        self._rows = [None] * len(images)
        for number in range(len(images)):
            self._queue.start_async([images[number : number + 1]], number)
        self._queue.wait_all()
        return np.concatenate([row for row in self._rows if row is not None])

    def _keep(self, request: Any, number: int) -> None:
        self._rows[number] = np.array(request.get_output_tensor(0).data, np.float32)


def require_openvino() -> ModuleType:
    """Import OpenVINO, or say how to install it."""
    try:
        import openvino
    except ImportError as exc:
        raise ExtraMissing("runtime=openvino needs the extra 'openvino': pip install 'slidewire[openvino]'.") from exc
    module: ModuleType = openvino
    return module


def _convert(openvino: ModuleType, network: Any, side_px: int) -> Any:
    import torch

    shape = (1, 3, side_px, side_px)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch remarks on its tracer, which is OpenVINO's way in
            return openvino.convert_model(network, example_input=torch.zeros(shape), input=list(shape))
    except Exception as exc:  # of the tracer and of OpenVINO's frontend, without a base of their own
        raise RequestError(
            f"This network cannot be converted for OpenVINO ({type(exc).__name__}): leave out runtime=openvino."
        ) from exc


def _by_torch(network: Any, images: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch

    with torch.inference_mode():
        return np.asarray(network(torch.from_numpy(images)).numpy())


def _alike(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return one.shape == other.shape and bool(np.vdot(one, other) >= _ALIKE * lengths)


def _round_weights(graph: Any) -> int:
    """Replace the weights of linear layers by 8-bit ones and a scale a row, the form that OpenVINO computes with.

    Returns
    -------
    int
        How many layers that were.
    """
    from openvino import opset13 as ops

    layers = 0
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        constant = node.input_value(1).get_node()
        if constant.get_type_name() != "Constant" or len(constant.shape) != 2:
            continue
        given = node.get_attributes()
        weights = constant.get_data().astype(np.float32)
        rounded, scales = _to_levels(weights if given["transpose_b"] else weights.T)
        widened = ops.multiply(ops.convert(ops.constant(rounded), "f32"), ops.constant(scales))
        product = ops.matmul(node.input_value(0), widened, given["transpose_a"], transpose_b=True)
        for target in list(node.output(0).get_target_inputs()):
            target.replace_source_output(product.output(0))
        layers += 1
    graph.validate_nodes_and_infer_types()
    return layers


def _to_levels(weights: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return rows of weights as whole numbers of -127..127 and each row's unit, int8 (N, M) and float32 (N, 1)."""
    units = np.abs(weights).max(axis=1, keepdims=True) / np.float32(_LEVELS)
    units[units == 0] = 1
    return np.rint(weights / units).astype(np.int8), units
