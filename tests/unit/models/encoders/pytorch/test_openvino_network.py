"""runtime=openvino: PyTorch's networks at PyTorch's numbers, and how near to them at reduced precision."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.domain.errors import ExtraMissing, RequestError
from models.encoders.efficientnet_lite import MODEL
from models.encoders.options import Computing, NetworkPrecision
from models.encoders.protocol import Encoder
from models.encoders.pytorch.encoder import TorchEncoder
from models.encoders.pytorch.openvino_module import OpenvinoModule
from models.encoders.pytorch.openvino_network import OpenvinoNetwork, _to_levels
from models.encoders.vit.network import VisionTransformer
from models.encoders.vit.shape import VitShape

_SIDE_PX = 32
_SHAPE = VitShape(width=64, depth=2, heads=2, hidden=128, patch_px=8, image_px=_SIDE_PX)


@pytest.fixture(scope="module")
def vit() -> torch.nn.Module:
    """Make a small seeded Vision Transformer."""
    torch.manual_seed(7)
    return VisionTransformer(_SHAPE).eval()


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    """Make normalised images."""
    return np.random.default_rng(3).normal(size=(5, 3, _SIDE_PX, _SIDE_PX)).astype(np.float32)


@pytest.fixture(scope="module")
def by_torch(vit: torch.nn.Module, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Let PyTorch say what they are."""
    with torch.inference_mode():
        return vit(torch.from_numpy(images)).numpy()


@pytest.fixture(scope="module")
def lite() -> Encoder:
    """Load the one network with published weights that every machine has."""
    return MODEL.load(MODEL.weights(None), {"runtime": "openvino"}, "cpu")


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / lengths).min())


@pytest.mark.parametrize(
    ("precision", "least", "off"), [("fp32", 0.9999999, 0), ("bf16", 0.999, 1e-4), ("int8", 0.999, 1e-4)]
)
def test_numbers_are_near_those_of_pytorch(
    vit: torch.nn.Module,
    images: NDArray[np.float32],
    by_torch: NDArray[np.float32],
    precision: NetworkPrecision,
    least: float,
    off: float,
) -> None:
    """fp32 is PyTorch's to rounding; reduced precision is near by cosine, and is not fp32 under another name."""
    found = OpenvinoNetwork(vit, _SIDE_PX, precision)(images)
    assert found.dtype == np.float32
    assert _cosine(found, by_torch) >= least
    worst = np.abs(found - by_torch).max()
    assert worst > off if off else worst < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_neighbours_do_not_change_a_byte(
    vit: torch.nn.Module, images: NDArray[np.float32], precision: NetworkPrecision
) -> None:
    """Each image is computed alone: batch, order and neighbours do not matter, and no result is overwritten."""
    network = OpenvinoNetwork(vit, _SIDE_PX, precision)
    whole = network(images)
    kept = whole.copy()
    assert network(images[::-1])[::-1].tobytes() == kept.tobytes()
    assert network(images[2:3]).tobytes() == kept[2:3].tobytes()
    assert whole.tobytes() == kept.tobytes()


def test_published_weights_give_the_same_embedding(lite: Encoder) -> None:
    """EfficientNet-Lite0's embeddings are the same with either runtime, pre-processing and all, in fp32."""
    pixels = np.random.default_rng(4).integers(0, 256, (3, 256, 256, 3), np.uint8)
    expected = MODEL.load(MODEL.weights(None), {}, "cpu").encode(pixels).matrix
    found = lite.encode(pixels).matrix
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_published_weights_are_not_computed_in_bf16() -> None:
    """On noise it turns EfficientNet-Lite0's embeddings by a cosine of 0.994, so its spec does not allow it."""
    with pytest.raises(RequestError, match="fp32, int8"):
        MODEL.settle({"runtime": "openvino", "precision": "bf16"})


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_become_whole_numbers(*, transposed: bool) -> None:
    """A row's largest weight is 127 of its units, none is off by more than half a unit, and a row of zeros stays."""
    weights = np.random.default_rng(1).normal(size=(6, 40)).astype(np.float32)
    weights[2] = 0
    rounded, units = _to_levels(weights.T.copy().T if transposed else weights)
    assert rounded.dtype == np.int8
    assert units.shape == (6, 1)
    assert np.abs(rounded * units - weights).max() <= units.max() / 2 * 1.001
    assert [int(np.abs(row).max()) for row in rounded] == [127, 127, 0, 127, 127, 127]


def test_int8_of_a_network_without_linear_layers_is_refused() -> None:
    """It would be fp32 under another name."""
    with pytest.raises(RequestError, match="linear"):
        OpenvinoNetwork(torch.nn.Conv2d(3, 4, 3).eval(), _SIDE_PX, "int8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int8"}, "runtime=openvino"),
        ({"runtime": "openvino", "compile": "yes"}, "compile"),
        ({"runtime": "onnx"}, "torch, openvino"),
    ],
)
def test_what_does_not_go_together_is_refused_at_submission(options: dict[str, str], said: str) -> None:
    """The message says which option to change; nothing is loaded."""
    with pytest.raises(RequestError, match=said):
        MODEL.settle(options)


def test_fp16_is_not_for_a_processor() -> None:
    """OpenVINO would compute in fp32 without a word."""
    with pytest.raises(RequestError, match="bf16"):
        Computing("fp16", runtime="openvino")


def test_a_gpu_and_openvino_contradict_each_other() -> None:
    """Who sets a GPU as device does not get a processor in silence."""
    with pytest.raises(RequestError, match="processor"):
        MODEL.load(MODEL.weights(None), {"runtime": "openvino"}, "cuda:0")


def test_the_runtime_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenVINO the message says what to install."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ExtraMissing, match=r"slidewire\[openvino\]"):
        MODEL.load(MODEL.weights(None), {"runtime": "openvino"}, "cpu")


class _Outside(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.cos(images.numpy()[:, 0, 0, :9]))


class _Unsupported(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(images[:, 0])


@pytest.mark.parametrize(("network", "said"), [(_Outside(), "other features"), (_Unsupported(), "cannot be converted")])
def test_networks_that_cannot_be_converted_are_refused(network: torch.nn.Module, said: str) -> None:
    """Neither one with an operation that OpenVINO lacks, nor one whose tracing makes constants of what it computed."""
    with pytest.raises(RequestError, match=said):
        OpenvinoModule(network, _SIDE_PX, "fp32")


def test_the_encoder_is_the_torch_one_with_another_network(vit: torch.nn.Module) -> None:
    """Pre-processing, batches and marks stay those of PyTorch's encoder."""
    spec = replace(MODEL.spec, dimension=64, input_px=_SIDE_PX)
    pixels = np.random.default_rng(4).integers(0, 256, (11, 40, 40, 3), np.uint8)
    found = TorchEncoder(spec, vit, Computing(runtime="openvino"), "auto").encode(pixels).matrix
    expected = TorchEncoder(spec, vit, Computing(), "cpu").encode(pixels).matrix
    assert found == pytest.approx(expected, abs=1e-5)
