"""Pre-processing with numpy: PyTorch's numbers, and the same ones where nothing is resized."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.encoders.arrays import prepare
from models.encoders.pixel_grid import MODEL

_SPEC = replace(MODEL.spec, input_px=24, mean=(0.5, 0.25, 0.75), std=(0.5, 0.25, 0.125), interpolation="bilinear")


def _pixels(side: int, count: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(side).integers(0, 256, (count, side, side, 3), np.uint8)


def test_patches_of_the_right_size_are_only_normalised() -> None:
    """Nothing but the range, the mean and the standard deviation touches them; the pixels stay as they were."""
    pixels = _pixels(24)
    given = pixels.copy()
    expected = (pixels.astype(np.float32) / np.float32(255) - np.float32([0.5, 0.25, 0.75])) / np.float32(
        [0.5, 0.25, 0.125]
    )
    found = prepare(pixels, _SPEC)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, expected)
    assert np.array_equal(pixels, given)


def test_the_range_comes_before_the_mean() -> None:
    """A network that wants -1..1 gets black as -1 and white as 1."""
    spec = replace(_SPEC, value_range=(-1.0, 1.0), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    ends = np.stack([np.zeros((24, 24, 3), np.uint8), np.full((24, 24, 3), 255, np.uint8)])
    assert prepare(ends, spec).mean(axis=(1, 2, 3)) == pytest.approx([-1, 1])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "area"])
@pytest.mark.parametrize("side", [7, 23, 25, 32, 48, 100])
def test_resizing_is_that_of_pytorch(interpolation: str, side: int) -> None:
    """Larger and smaller patches come out as PyTorch's antialiased interpolation has them, to 1e-4 of the range."""
    spec = replace(_SPEC, interpolation=interpolation, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    images = torch.from_numpy(_pixels(side)).permute(0, 3, 1, 2).float() / 255
    aliasing = {} if interpolation == "area" else {"antialias": True, "align_corners": False}
    expected = torch.nn.functional.interpolate(images, (24, 24), mode=interpolation, **aliasing)
    assert np.abs(prepare(_pixels(side), spec) - expected.permute(0, 2, 3, 1).numpy()).max() < 1e-4


@pytest.mark.parametrize("resized", [26, 27, 28, 29])
def test_the_middle_is_cut_as_published(resized: int) -> None:
    """Of a picture that was brought to a larger size the middle stays; halves are rounded as torchvision does."""
    spec = replace(_SPEC, resize_px=resized, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pixels = _pixels(resized)
    first = round((resized - 24) / 2.0)
    expected = pixels[:, first : first + 24, first : first + 24].astype(np.float32) / np.float32(255)
    assert np.array_equal(prepare(pixels, spec), expected)


def test_rows_and_columns_are_not_swapped() -> None:
    """A patch that changes downwards only is still one after resizing."""
    ramp = np.broadcast_to(np.arange(48, dtype=np.uint8)[None, :, None, None] * 5, (1, 48, 48, 3))
    found = prepare(np.ascontiguousarray(ramp), _SPEC)
    assert np.ptp(found, axis=2).max() < 1e-5
    assert np.ptp(found[0, :, 0, 0]) > 1


def test_neighbours_do_not_matter() -> None:
    """A patch is prepared to the same bytes alone and among others."""
    spec = replace(_SPEC, interpolation="bicubic", resize_px=27)
    pixels = _pixels(40, 5)
    whole = prepare(pixels, spec)
    for number in range(5):
        assert np.array_equal(prepare(pixels[number : number + 1], spec)[0], whole[number])
