"""Patches chosen by luminance: those that EZ-WSI's own patch generator yields."""

import cv2
import numpy as np
import pytest
from ez_wsi_dicomweb import ez_wsi_errors, patch_generator, slide_level_map
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.imaging.brightness import grid_selection, luminance, within_thresholds


class _Theirs(patch_generator._BasePatchGenerator):  # type: ignore[misc]
    """EZ-WSI's generator over an image instead of a slide."""

    def __init__(self, image: NDArray[np.uint8], view_px: tuple[int, int], patch_px: int, stride_px: int) -> None:
        self._image, self._view_px = image, view_px
        super().__init__(stride_px, patch_px)

    def get_tissue_mask(self) -> NDArray[np.uint8]:
        """Return the image."""
        return self._image

    def patch_at_stride(self, strides: object) -> object:
        """Return nothing; the mask is asked for, not patches."""
        raise NotImplementedError

    def _image_dimensions(self) -> slide_level_map.ImageDimensions:
        return slide_level_map.ImageDimensions(*self._view_px)


def _chosen_by_them(
    image: NDArray[np.uint8], view_px: tuple[int, int], patch_px: int, stride_px: int
) -> NDArray[np.bool_] | None:
    try:
        return np.asarray(_Theirs(image, view_px, patch_px, stride_px).normalized_tissue_mask)
    except ez_wsi_errors.DicomImageMissingRegionError:
        return None  # not one


def _section(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Return an image of pale and dark patches with luminances around both thresholds."""
    random = np.random.default_rng(seed)
    coarse = random.choice([0, 2, 150, 200, 206, 215, 250], (height // 7 + 2, width // 9 + 2)).astype(np.uint8)
    grey = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    tint = random.integers(-6, 7, (height, width, 3))
    return np.clip(grey[..., None].astype(int) + tint, 0, 255).astype(np.uint8)


@settings(max_examples=60)
@given(
    st.integers(20, 160),
    st.integers(20, 160),
    st.floats(1, 24),
    st.integers(8, 260),
    st.floats(0.2, 1),
    st.integers(0, 9),
)
def test_the_same_patches_as_ez_wsi(
    width: int, height: int, scale: float, patch_px: int, overlap: float, seed: int
) -> None:
    """Side by side or overlapping, at any scale of the image to the slide: exactly EZ-WSI's choice."""
    image = _section(width, height, seed)
    view_px = (max(patch_px, int(width * scale)), max(patch_px, int(height * scale)))
    stride_px = patch_px if overlap > 0.8 else max(1, int(patch_px * overlap))
    found = grid_selection(luminance(image), view_px, patch_px, stride_px)
    theirs = _chosen_by_them(image, view_px, patch_px, stride_px)
    if theirs is None:
        assert not found.any()
    else:
        assert np.array_equal(found, theirs)


def test_with_gaps_each_patch_is_judged_where_it_lies() -> None:
    """A stride larger than the patch: only patches that lie on the dark field are chosen."""
    image = np.full((100, 100, 3), 255, np.uint8)
    image[:, 50:] = 100
    found = grid_selection(luminance(image), (1000, 1000), 100, 250)
    assert found.shape == (4, 4)
    assert found.tolist() == [[False, False, True, True]] * 4


@pytest.mark.parametrize(("value", "tissue"), [(0, False), (1, True), (204, True), (205, False), (255, False)])
def test_thresholds(value: int, tissue: bool) -> None:  # noqa: FBT001
    """White and black are no tissue; the thresholds themselves are."""
    grey = np.full((4, 4), value, np.uint8)
    assert within_thresholds(grey).all() == tissue
    assert grid_selection(grey, (40, 40), 10, 10).all() == tissue
