"""The encoder around a network: the same bytes whatever is beside a patch, marks, precisions, compiling."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from models.domain.errors import DeviceLost, DeviceMemory, RequestError, SettingsInvalid
from models.encoders.options import Computing
from models.encoders.protocol import EncoderSpec, Licence, Precision
from models.encoders.pytorch.encoder import TorchEncoder

_ROOT = Path(__file__).parents[4]
_SPEC = EncoderSpec(
    name="toy", family="toy", dimension=48, input_px=32, spacings_um=(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5),
    interpolation="bilinear", extra="torch", licence=Licence("Apache-2.0"), source="a test", revision="1",
    weights_sha256="", preprocessing_version=1, precisions=("fp32", "bf16", "fp16"),
)  # fmt: skip
_PATCHES = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)


def _convolutions() -> nn.Module:
    """Return a small convolutional network, with the kinds of layer that large ones have."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1), nn.BatchNorm2d(24), nn.ReLU6(),
        nn.Conv2d(24, 24, 3, 1, 1, groups=24), nn.GELU(), nn.Conv2d(24, 48, 1), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


class _Transformer(nn.Module):
    """A small Vision Transformer with the class token's features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 48, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 48))
        self.norms = nn.ModuleList([nn.LayerNorm(48) for _ in range(5)])
        self.qkv = nn.ModuleList([nn.Linear(48, 144) for _ in range(2)])
        self.mlp = nn.ModuleList([nn.Sequential(nn.Linear(48, 96), nn.GELU(), nn.Linear(96, 48)) for _ in range(2)])

    def forward(self, images: Any) -> Any:
        x = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        for block in range(2):
            heads = self.qkv[block](self.norms[2 * block](x)).unflatten(2, (3, 4, 12)).permute(2, 0, 3, 1, 4)
            attended = nn.functional.scaled_dot_product_attention(*heads.unbind(0))
            x = x + attended.transpose(1, 2).flatten(2)
            x = x + self.mlp[block](self.norms[2 * block + 1](x))
        return self.norms[4](x)[:, 0]


_NETWORKS = {"convolutions": _convolutions, "transformer": _Transformer}


def _network(kind: str) -> nn.Module:
    torch.manual_seed(7)
    return _NETWORKS[kind]()


def _encoder(kind: str, before: Any = None, **how: Any) -> TorchEncoder:
    return TorchEncoder(_SPEC, _network(kind), Computing(**how), "cpu", before)


@cache
def _deterministic(kind: str, precision: Precision = "fp32") -> TorchEncoder:
    return _encoder(kind, deterministic=True, precision=precision)


@cache
def _alone(kind: str, precision: Precision = "fp32") -> NDArray[np.float32]:
    """Return the embeddings of all patches, each encoded by itself."""
    encoder = _deterministic(kind, precision)
    return np.concatenate([encoder.encode(patch[None]).matrix for patch in _PATCHES])


@pytest.mark.parametrize("kind", _NETWORKS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@given(chosen=st.lists(st.integers(0, len(_PATCHES) - 1), min_size=1, max_size=24))
@settings(max_examples=25, deadline=None)
def test_in_deterministic_mode_nothing_beside_a_patch_matters(
    kind: str, precision: Precision, chosen: list[int]
) -> None:
    """In any batch, of any size, in any order, even twice, a patch has the bytes that it has alone."""
    found = _deterministic(kind, precision).encode(_PATCHES[chosen]).matrix
    assert found.tobytes() == _alone(kind, precision)[chosen].tobytes()


@pytest.mark.parametrize("kind", _NETWORKS)
@given(count=st.integers(1, 24), offset=st.integers(0, 63))
@settings(max_examples=15, deadline=None)
def test_in_deterministic_mode_memory_does_not_matter(kind: str, count: int, offset: int) -> None:
    """Nor does where in memory the pixels lie."""
    held = np.empty(offset + count * _PATCHES[0].size, np.uint8)
    pixels = held[offset:].reshape(count, 32, 32, 3)
    pixels[:] = _PATCHES[:count]
    assert _deterministic(kind).encode(pixels).matrix.tobytes() == _alone(kind)[:count].tobytes()


@pytest.mark.parametrize("kind", _NETWORKS)
def test_numbers_are_the_network_s(kind: str) -> None:
    """In float32, fast and deterministic mode give what the network gives on normalised patches, within rounding."""
    network = _network(kind).eval()
    images = (torch.from_numpy(_PATCHES).permute(0, 3, 1, 2).double() / 255 - 0.5) / 0.5
    with torch.inference_mode():
        expected = network.double()(images).numpy()
    fast = _encoder(kind).encode(_PATCHES).matrix
    assert fast.dtype == np.float32
    assert fast == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert _alone(kind) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def _cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / norms, np.float32)


@pytest.mark.parametrize("kind", _NETWORKS)
def test_bfloat16_is_near(kind: str) -> None:
    """It is float32 that comes out, near to what float32 gives, and not the same: the weights have been rounded."""
    exact, rounded = _alone(kind), _encoder(kind, precision="bf16").encode(_PATCHES).matrix
    assert rounded.dtype == np.float32
    assert _cosines(exact, rounded).min() >= 0.999
    assert np.abs(exact - rounded).max() > 1e-4


def test_half_precision_is_refused_on_a_cpu() -> None:
    """Before anything is computed."""
    with pytest.raises(RequestError, match="fp16 needs a GPU"):
        _encoder("convolutions", precision="fp16")


def test_a_device_that_is_not_there_is_refused() -> None:
    """No other is taken instead."""
    with pytest.raises(SettingsInvalid, match="setting device"):
        TorchEncoder(_SPEC, _network("convolutions"), Computing(), "cuda:77")


def test_the_network_is_for_inference_only() -> None:
    """Batch statistics and dropout are off, and no gradient is kept."""
    network = nn.Sequential(_convolutions(), nn.Dropout(0.5))
    encoder = TorchEncoder(_SPEC, network, Computing(), "cpu")
    assert encoder.encode(_PATCHES).matrix.tobytes() == encoder.encode(_PATCHES).matrix.tobytes()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert int(network[0][1].num_batches_tracked) == 0


class _Shapes(nn.Module):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(48))
        self.seen: list[tuple[tuple[int, ...], torch.dtype]] = []
        self.switches: list[tuple[bool, bool]] = []

    def forward(self, images: Any) -> Any:
        self.seen.append((tuple(images.shape), images.dtype))
        self.switches.append((torch.are_deterministic_algorithms_enabled(), torch.is_inference_mode_enabled()))
        return images.flatten(1)[:, :48] * self.weight


@pytest.mark.parametrize("deterministic", [False, True])
def test_parts_are_small_on_a_cpu(*, deterministic: bool) -> None:
    """Eight patches at a time, in deterministic mode each alone; each under the switches of its mode."""
    network = _Shapes()
    TorchEncoder(_SPEC, network, Computing(deterministic=deterministic), "cpu").encode(_PATCHES[:20])
    sizes = [1] * 20 if deterministic else [8, 8, 4]
    assert network.seen == [((size, 3, 32, 32), torch.float32) for size in sizes]
    assert set(network.switches) == {(deterministic, True)}
    assert not torch.are_deterministic_algorithms_enabled()


def test_pixels_may_be_of_any_kind_of_memory() -> None:
    """Read-only, turned round, every second: they are read as they are, and not written to."""
    encoder, frozen = _encoder("transformer"), _PATCHES[:6].copy()
    frozen.flags.writeable = False
    expected = encoder.encode(_PATCHES[:6]).matrix
    assert np.array_equal(encoder.encode(frozen).matrix, expected)
    assert np.array_equal(encoder.encode(np.repeat(frozen, 2, axis=0)[::2]).matrix, expected)
    assert np.array_equal(encoder.encode(frozen[::-1]).matrix[::-1], expected)


def _inverted(pixels: Any) -> tuple[Any, Any]:
    """Turn patches into their negative, but for those whose first value is odd."""
    odd = pixels[:, 0, 0, 0] % 2 == 1
    images = pixels.permute(0, 3, 1, 2).float() / 255
    return torch.where(odd.view(-1, 1, 1, 1), images, 1 - images), odd


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_step_before_takes_part(*, deterministic: bool) -> None:
    """Its images are what is normalised, and what it could not be applied to is marked, in order."""
    odd = _PATCHES[:, 0, 0, 0] % 2 == 1
    assert 0 < odd.sum() < len(odd)
    rows = _encoder("transformer", _inverted, deterministic=deterministic).encode(_PATCHES)
    assert rows.fallbacks is not None
    assert rows.fallbacks.dtype == np.bool_
    assert np.array_equal(rows.fallbacks, odd)
    negative = np.where(odd[:, None, None, None], _PATCHES, 255 - _PATCHES)
    expected = _encoder("transformer").encode(negative)
    assert rows.matrix == pytest.approx(expected.matrix, abs=1e-5)
    assert expected.fallbacks is None


def test_a_step_before_sees_the_patch_as_it_is() -> None:
    """uint8, at the size that it was cut at; it is resized only afterwards."""
    seen = []

    def note(pixels: Any) -> tuple[Any, Any]:
        seen.append((tuple(pixels.shape), pixels.dtype))
        return pixels.permute(0, 3, 1, 2).float() / 255, torch.zeros(len(pixels), dtype=torch.bool)

    large = np.repeat(np.repeat(_PATCHES[:3], 2, axis=1), 2, axis=2)
    assert _encoder("convolutions", note).encode(large).matrix.shape == (3, 48)
    assert seen == [((3, 64, 64, 3), torch.uint8)]


class _Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, _: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), DeviceLost),
        (torch.OutOfMemoryError("CUDA out of memory."), DeviceMemory),
    ],
)
def test_a_failing_device_is_told_apart(error: Exception, ours: type[Exception]) -> None:
    """One is lost, the other too small."""
    encoder = TorchEncoder(_SPEC, _Failing(error), Computing(), "cpu")
    with pytest.raises(ours):
        encoder.encode(_PATCHES[:2])


def test_nan_comes_through() -> None:
    """It is for the caller to refuse, who knows which patch it was."""

    def spoilt(pixels: Any) -> tuple[Any, Any]:
        images = pixels.permute(0, 3, 1, 2).float() / 255
        return images * torch.where(torch.arange(len(pixels)) == 1, torch.nan, 1.0).view(-1, 1, 1, 1), None

    found = _encoder("transformer", spoilt).encode(_PATCHES[:3]).matrix
    assert np.isnan(found).all(axis=1).tolist() == [False, True, False]


_PROGRAM = """
import numpy, torch
from models.domain.errors import RequestError
from models.encoders.options import Computing
from models.encoders.protocol import EncoderSpec, Licence
from models.encoders.pytorch.encoder import TorchEncoder

spec = EncoderSpec("toy", "toy", 3, 8, (), (0.5,) * 3, (0.5,) * 3, "area", "torch", Licence("MIT"), "test", "1", "", 1)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 8), torch.nn.Flatten(), torch.nn.GELU())
pixels = numpy.random.default_rng(0).integers(0, 256, (11, 8, 8, 3), numpy.uint8)
plain = TorchEncoder(spec, network, Computing(), "cpu").encode(pixels).matrix
try:
    encoder = TorchEncoder(spec, network, Computing(compiled=True), "cpu")
except RequestError as exc:
    print("refused:", exc)
    raise SystemExit
assert numpy.abs(encoder.encode(pixels).matrix - plain).max() < 1e-5
from torch._dynamo.utils import counters
print("graphs:", counters["stats"]["unique_graphs"])
"""


def _run(folder: Path, **environment: str) -> str:
    """Run the program in a process of its own, as compiling leaves its mark on one; return what it said."""
    variables = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(folder), **environment}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], cwd=_ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.faults
def test_a_network_is_not_run_uncompiled_instead(tmp_path: Path) -> None:
    """Without a compiler the option is refused, when the encoder is loaded, with what to do."""
    said = _run(tmp_path, CXX=str(tmp_path / "none"), PATH=str(tmp_path))
    assert said.startswith("refused: PyTorch cannot compile toy here")
    assert "C++ compiler" in said


@pytest.mark.faults
def test_a_compiled_network_gives_the_same_numbers(tmp_path: Path) -> None:
    """Compiled once, for one shape: the last part of a batch is filled up."""
    assert _run(tmp_path) == "graphs: 1\n"
