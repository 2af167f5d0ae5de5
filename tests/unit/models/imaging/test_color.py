"""Colour: EZ-WSI's numbers exactly, and a profile that cannot be used is said to be so."""

import io
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
from ez_wsi_dicomweb import dicom_slide, image_util
from numpy.typing import NDArray
from PIL import ImageCms

from models.domain.errors import ColorUnavailable, RequestError
from models.domain.request import ColorProfile
from models.imaging import color
from models.imaging.color import MAX_PROFILE_BYTES, color_transform
from tests.services.memory_slide import random_pixels

_THEIRS = {
    "srgb": dicom_slide.get_srgb_icc_profile_bytes,
    "adobergb": dicom_slide.get_adobergb_icc_profile_bytes,
    "rommrgb": dicom_slide.get_rommrgb_icc_profile_bytes,
    "displayp3": dicom_slide.get_displayp3_icc_profile_bytes,
}


def _made(space: str) -> bytes:
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile(space)).tobytes())


def _with(profile: bytes, at: int, new: bytes) -> bytes:
    return profile[:at] + new + profile[at + len(new) :]


def _by_ez_wsi(pixels: NDArray[np.uint8], profile: bytes, target: str) -> NDArray[np.uint8]:
    transform = image_util.create_icc_profile_transformation(profile, _THEIRS[target]())
    return np.asarray(image_util.transform_image_bytes_color(pixels.copy(), transform))


@pytest.mark.parametrize("profile", [None, b""])
def test_no_profile(profile: bytes | None) -> None:
    """A slide without a profile has no colour space to come from."""
    with pytest.raises(ColorUnavailable, match="no ICC profile"):
        color_transform(profile, "srgb")


def test_a_profile_that_is_too_large() -> None:
    """A profile beyond 16 MiB is not looked at."""
    with pytest.raises(ColorUnavailable, match="16 MiB"):
        color_transform(bytes(MAX_PROFILE_BYTES + 1), "srgb")


@pytest.mark.parametrize(
    "broken",
    [
        b"?",
        b"\xff" * 4000,
        b"\0" * 36 + b"acsp" + b"\0" * 400,
        _made("sRGB")[:128],
        _made("sRGB")[:-100],
        _with(_made("sRGB"), 128, b"\xff\xff\xff\xff"),
        _with(_made("sRGB"), 36, b"abcd"),
        b"<html>not found</html>" * 20,
    ],
)
def test_a_broken_profile(broken: bytes) -> None:
    """Junk, a torn profile and a wrong tag table are one error of ours, in one line without their bytes."""
    with pytest.raises(ColorUnavailable, match=r"broken|not one of RGB") as caught:
        color_transform(broken, "srgb")
    assert "\n" not in str(caught.value)
    assert "html" not in str(caught.value)


@pytest.mark.parametrize(
    "other", [_made("LAB"), _with(_made("sRGB"), 16, b"CMYK"), _with(_made("sRGB"), 16, b"GRAY"), _made("XYZ")]
)
def test_a_profile_of_other_pixels(other: bytes) -> None:
    """Lab, XYZ, grey and print profiles do not describe RGB pixels."""
    with pytest.raises(ColorUnavailable, match="not one of RGB pixels"):
        color_transform(other, "adobergb")


def test_damage_anywhere_is_an_error_of_ours() -> None:
    """Whatever byte is wrong, there is a transform or one error; littleCMS's own never comes through."""
    random = np.random.default_rng(7)
    whole = _made("sRGB")
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 8):
            damaged[place] = random.integers(256)
        try:
            found = color_transform(bytes(damaged), "srgb").apply(np.zeros((2, 2, 3), np.uint8))
        except ColorUnavailable:
            refused += 1
        else:
            assert found.shape == (2, 2, 3)
    assert 0 < refused < 150


def test_an_unknown_space() -> None:
    """A target that does not exist is named with those that do."""
    with pytest.raises(RequestError, match="srgb, adobergb, rommrgb, displayp3"):
        color_transform(_made("sRGB"), "none")


def test_a_target_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else takes the place of a target's profile: the message says where it comes from."""

    def gone(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(color, "distribution", gone)
    with pytest.raises(RequestError, match=r"profile of rommrgb is not installed.*ez-wsi-dicomweb"):
        color_transform(_with(_made("sRGB"), 24, b"\x07\xe0"), "rommrgb")


@pytest.mark.parametrize("target", list(_THEIRS))
@pytest.mark.parametrize("origin", ["adobergb", "srgb", "made"])
def test_the_numbers_are_ez_wsis(target: ColorProfile, origin: str) -> None:
    """Each pixel is exactly what EZ-WSI's own transformation gives, from matrix and from table profiles."""
    profile = _made("sRGB") if origin == "made" else _THEIRS[origin]()
    pixels = random_pixels(257, 129)
    before = pixels.copy()
    found = color_transform(profile, target).apply(pixels)
    assert np.array_equal(found, _by_ez_wsi(pixels, profile, target))
    assert (found.dtype, found.shape) == (np.uint8, pixels.shape)
    assert np.array_equal(pixels, before)


def test_colours_change() -> None:
    """Adobe RGB's green is outside sRGB, so its neighbours move; grey stays grey."""
    swatches = np.array([[[60, 200, 60], [128, 128, 128], [255, 255, 255]]], np.uint8)
    [[green, grey, white]] = color_transform(_THEIRS["adobergb"](), "displayp3").apply(swatches)
    assert np.abs(green.astype(int) - (60, 200, 60)).max() > 10
    assert np.ptp(grey.astype(int)) <= 2
    assert white.min() >= 254


def test_a_strip_is_its_patches() -> None:
    """Pixels are brought over one by one: a strip, its parts, and a view into a larger array give the same."""
    transform = color_transform(_THEIRS["adobergb"](), "srgb")
    strip = random_pixels(700, 64)
    whole = transform.apply(strip)
    for left in range(0, 700, 100):
        assert np.array_equal(transform.apply(strip[:, left : left + 100]), whole[:, left : left + 100])
    assert transform.apply(strip[:0]).shape == (0, 700, 3)


def test_one_transform_serves_all_threads() -> None:
    """The same profile gives the same object, and threads that share it do not disturb each other."""
    profile = _THEIRS["adobergb"]()
    transform = color_transform(profile, "srgb")
    assert color_transform(io.BytesIO(profile).getvalue(), "srgb") is transform
    images = [random_pixels(256, 256, seed) for seed in range(8)]
    alone = [transform.apply(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(transform.apply, images * 4))
    assert all(np.array_equal(one, alone[number % 8]) for number, one in enumerate(together))
