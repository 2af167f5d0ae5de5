"""Measures reduced precision on a processor: patches/s and cosine to fp32, PyTorch beside OpenVINO.

Vision Transformers have made weights here, which is a weak test of what rounding does to trained ones; the network with
published weights, EfficientNet-Lite0, has no linear layers for int8 to round. Both are measured and named as what
they are.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.domain.errors import RequestError
from models.encoders.efficientnet_lite import MODEL
from models.encoders.options import Computing
from models.encoders.protocol import Encoder
from models.encoders.pytorch.encoder import TorchEncoder
from models.encoders.vit.network import VisionTransformer
from models.encoders.vit.shape import VitShape
from tests.services.slides import SAMPLE_CACHE
from worker.demo.sample import fetch_sample, read_sample

PATCHES: Final = 16
ROUNDS: Final = 3
_SIDE_PX: Final = 224
_VITS: Final = {
    "vit-s16 (made weights)": VitShape(width=384, depth=12, heads=6, hidden=1536, patch_px=16),
    "vit-b16 (made weights)": VitShape(width=768, depth=12, heads=12, hidden=3072, patch_px=16),
}
_WAYS: Final = {
    "torch fp32": Computing(),
    "torch bf16": Computing("bf16"),
    "openvino fp32": Computing(runtime="openvino"),
    "openvino bf16": Computing("bf16", runtime="openvino"),
    "openvino int8": Computing("int8", runtime="openvino"),
}


def tissue(count: int) -> NDArray[np.uint8]:
    """Return the darkest patches of a real slide, uint8 (count, 224, 224, 3): those with most tissue in them."""
    pixels, _ = read_sample(fetch_sample(SAMPLE_CACHE))
    rows, columns = (side // _SIDE_PX for side in pixels.shape[:2])
    whole = pixels[: rows * _SIDE_PX, : columns * _SIDE_PX].reshape(rows, _SIDE_PX, columns, _SIDE_PX, 3)
    patches = whole.transpose(0, 2, 1, 3, 4).reshape(-1, _SIDE_PX, _SIDE_PX, 3)
    return np.ascontiguousarray(patches[np.argsort(patches.mean(axis=(1, 2, 3)))[:count]])


def measure() -> dict[str, dict[str, dict[str, float]]]:
    """Return, by network and way of computing: ``patches_s`` (the median of rounds that take turns) and ``cosine``.

    The cosine is the worst of all patches to PyTorch's fp32; `centred`, the same once the mean embedding is taken
    off, is what tells patches apart.
    """
    pixels = tissue(PATCHES)
    networks: dict[str, Callable[[], Any]] = {name: _builder(shape) for name, shape in _VITS.items()}
    networks["efficientnet-lite0 (published weights)"] = _published
    return {name: _compare(build, pixels) for name, build in networks.items()}


def _compare(build: Callable[[], Any], pixels: NDArray[np.uint8]) -> dict[str, dict[str, float]]:
    encoders: dict[str, Encoder] = {}
    for way, computing in _WAYS.items():
        try:
            encoders[way] = TorchEncoder(replace(MODEL.spec, input_px=_SIDE_PX), build(), computing, "cpu")
        except RequestError as exc:
            print(f"{way}: {exc}")
    rows = {way: encoder.encode(pixels).matrix for way, encoder in encoders.items()}
    taken: dict[str, list[float]] = {way: [] for way in encoders}
    for _ in range(ROUNDS):
        for way, encoder in encoders.items():
            start = time.perf_counter()
            encoder.encode(pixels)
            taken[way].append(time.perf_counter() - start)
    exact = rows["torch fp32"]
    middle = exact.mean(axis=0)
    return {
        way: {
            "patches_s": round(len(pixels) / median(taken[way]), 1),
            "cosine": round(_cosine(exact, rows[way]), 6),
            "centred": round(_cosine(exact - middle, rows[way] - middle), 6),
        }
        for way in encoders
    }


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


def _builder(shape: VitShape) -> Callable[[], Any]:
    def build() -> Any:
        torch.manual_seed(0)
        return VisionTransformer(shape)

    return build


def _published() -> Any:
    encoder: Any = MODEL.load(MODEL.weights(None), {}, "cpu")
    return encoder._network


if __name__ == "__main__":
    print(json.dumps(measure(), indent=1))
