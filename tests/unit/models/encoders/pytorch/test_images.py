"""Pixels before the network: each step of a spec against numpy and Pillow, and where it must do nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.encoders.protocol import EncoderSpec, Licence
from models.encoders.pytorch.images import Images

_SPEC = EncoderSpec(
    name="toy", family="toy", dimension=4, input_px=32, spacings_um=(), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    interpolation="bicubic", extra="torch", licence=Licence("Apache-2.0"), source="a test", revision="1",
    weights_sha256="", preprocessing_version=1,
)  # fmt: skip
_CPU = torch.device("cpu")


def _pixels(side: int, count: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)


def _prepared(spec: EncoderSpec, pixels: NDArray[np.uint8], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    images = Images(spec, _CPU, dtype)
    found: torch.Tensor = images.prepared(images.unit(torch.from_numpy(pixels)))
    return found


def _by_numpy(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return pixels.astype(np.float64).transpose(0, 3, 1, 2) / 255


def _by_pillow(pixels: NDArray[np.uint8], side: int, how: Image.Resampling) -> NDArray[np.float64]:
    """Resize each channel as floats, which Pillow does without rounding."""
    channels = [
        [Image.fromarray(patch[..., channel].astype(np.float32)).resize((side, side), how) for channel in range(3)]
        for patch in pixels
    ]
    return np.array([[np.asarray(channel, np.float64) / 255 for channel in patch] for patch in channels])


def test_pixels_of_the_right_size_are_only_normalised() -> None:
    """Range, mean and standard deviation of each channel, in this order; nothing is resampled."""
    spec = replace(_SPEC, value_range=(-1.0, 1.0), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pixels = _pixels(32)
    shift, scale = (np.array(values).reshape(1, 3, 1, 1) for values in (spec.mean, spec.std))
    expected = (_by_numpy(pixels) * 2 - 1 - shift) / scale
    assert _prepared(spec, pixels).numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("side", [20, 33, 47, 100])
@pytest.mark.parametrize(
    ("interpolation", "how"),
    [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)],
)
def test_other_sizes_are_resized_as_pillow_does(side: int, interpolation: str, how: Image.Resampling) -> None:
    """Antialiased, with a = -0.5, up and down; not clamped where it overshoots."""
    pixels = _pixels(side)
    found = _prepared(replace(_SPEC, interpolation=interpolation), pixels).numpy()
    assert found == pytest.approx(_by_pillow(pixels, 32, how), abs=1e-5)
    if interpolation == "bicubic" and side < 40:
        assert found.min() < 0
        assert found.max() > 1


def test_area_is_the_mean() -> None:
    """Of 3 x 3 pixels each."""
    pixels = _pixels(96)
    expected = _by_numpy(pixels).reshape(2, 3, 32, 3, 32, 3).mean(axis=(3, 5))
    assert _prepared(replace(_SPEC, interpolation="area"), pixels).numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("side", [40, 41, 64])
def test_the_middle_is_cut_out_after_resizing(side: int) -> None:
    """As torchvision's CenterCrop does: an odd rest is rounded to the even number."""
    spec, pixels = replace(_SPEC, resize_px=side, input_px=32), _pixels(50)
    whole = _by_pillow(pixels, side, Image.Resampling.BICUBIC)
    edge = round((side - 32) / 2)
    expected = whole[:, :, edge : edge + 32, edge : edge + 32]
    assert _prepared(spec, pixels).numpy() == pytest.approx(expected, abs=1e-5)


def test_what_comes_from_a_step_before_is_left_alone() -> None:
    """Float images of any range are not clamped, and not changed in place."""
    given = torch.linspace(-1, 2, 2 * 3 * 32 * 32).view(2, 3, 32, 32)
    kept = given.clone()
    spec = replace(_SPEC, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    found = Images(spec, _CPU, torch.float32).prepared(given)
    assert torch.equal(given, kept)
    assert found.numpy() == pytest.approx(((kept - 0.5) / 0.5).numpy(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("side", [32, 40])
def test_the_network_gets_its_type_with_channels_last(dtype: torch.dtype, side: int) -> None:
    """What it gets is what was computed in float32, rounded once."""
    pixels = _pixels(side)
    found = _prepared(_SPEC, pixels, dtype)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, _prepared(_SPEC, pixels).to(dtype))
