"""Where the tissue is: the thumbnail is the slide, glass is no tissue, shares are counted right."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.slide import Level
from models.imaging import tissue
from models.imaging.tissue import build_thumbnail, thumbnail_scale, tissue_fractions, tissue_mask
from tests.services.memory_slide import frames_from, random_pixels


@pytest.mark.parametrize("seed", range(3))
def test_glass_is_no_tissue(seed: int) -> None:
    """A white slide with a scanner's noise and cast holds nothing to embed."""
    noise = np.random.default_rng(seed).normal(0, 2, (200, 300, 3))
    glass = np.clip(np.array([242, 240, 236]) + noise, 0, 255).astype(np.uint8)
    assert not tissue_mask(glass).any()
    assert not tissue_mask(np.full((50, 50, 3), 255, np.uint8)).any()


def test_ink_on_glass_is_found() -> None:
    """A stained patch is tissue inside and none outside, within the blur's reach."""
    slide = np.full((120, 160, 3), 245, np.uint8)
    slide[30:80, 40:110] = (190, 110, 170)
    mask = tissue_mask(slide)
    inside = np.zeros(mask.shape, bool)
    inside[30:80, 40:110] = True
    reach = np.ones((5, 5), np.uint8)
    assert not mask[cv2.dilate(inside.astype(np.uint8), reach) == 0].any()
    assert mask[cv2.erode(inside.astype(np.uint8), reach) == 1].all()


def test_grey_and_black_are_no_tissue() -> None:
    """Pen marks in black and the shadow of the cover slip have no saturation."""
    slide = np.full((100, 100, 3), 240, np.uint8)
    slide[20:40, 20:40] = 30
    slide[60:80] = 120
    assert not tissue_mask(slide).any()


@given(st.integers(1, 130), st.integers(1, 130), st.integers(1, 50), st.integers(1, 50))
def test_small_levels_are_their_own_thumbnail(width: int, height: int, frame_width: int, frame_height: int) -> None:
    """A level that is small enough is assembled as it is, frames in any order, without what lies beyond its edge."""
    level = Level(width, height, frame_width, frame_height, None, "RGB", ())
    image = random_pixels(width, height)
    frames = list(frames_from(image, level).items())
    assert np.array_equal(build_thumbnail(level, reversed(frames)), image)


@pytest.mark.parametrize(("size", "frame_px"), [((1000, 700), 128), ((997, 703), 100), ((301, 299), 64)])
def test_large_levels_are_averaged(monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], frame_px: int) -> None:
    """A thumbnail built frame by frame is close to the whole image brought down at once, and of the stated size."""
    monkeypatch.setattr(tissue, "THUMBNAIL_PX", 100)
    width, height = size
    level = Level(width, height, frame_px, frame_px, None, "RGB", ())
    image = cv2.GaussianBlur(random_pixels(width, height), (0, 0), 25)
    found = build_thumbnail(level, frames_from(image, level).items())
    scale = thumbnail_scale(level)
    assert found.shape == (-(-height // scale), -(-width // scale), 3)
    assert max(found.shape) <= 100
    whole = cv2.resize(image, (found.shape[1], found.shape[0]), interpolation=cv2.INTER_AREA)
    inner = (slice(0, height // scale), slice(0, width // scale))
    assert np.abs(found[inner].astype(float) - whole[inner]).mean() < 3


def test_no_thumbnail_pixel_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever frames meet, no white line is left between them."""
    monkeypatch.setattr(tissue, "THUMBNAIL_PX", 50)
    for width, frame_px in [*((width, 33) for width in range(200, 260, 7)), (200, 1), (207, 2), (203, 3)]:
        level = Level(width, width, frame_px, frame_px, None, "RGB", ())
        dark = np.zeros((width, width, 3), np.uint8)
        frames = {index: np.zeros_like(pixels) for index, pixels in frames_from(dark, level).items()}
        assert not build_thumbnail(level, frames.items()).any(), width


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0.5, 9),
    st.floats(0.5, 9),
    st.lists(st.tuples(*[st.integers(0, 250)] * 2, *[st.integers(1, 250)] * 2), min_size=1, max_size=5),
)
def test_shares_are_those_of_a_count(
    width: int, height: int, scale_x: float, scale_y: float, drawn: list[tuple[int, int, int, int]]
) -> None:
    """The share of a box is what counting the mask's pixels under it gives, also at the edge."""
    mask = np.random.default_rng(width * 31 + height).random((height, width)) < 0.4
    boxes = np.asarray(drawn, np.int32)
    for box, found in zip(drawn, tissue_fractions(mask, boxes, (scale_x, scale_y)), strict=True):
        x, y, across, down = box
        left, right = min(int(x / scale_x), width - 1), int(np.ceil((x + across) / scale_x))
        top, bottom = min(int(y / scale_y), height - 1), int(np.ceil((y + down) / scale_y))
        under = mask[top : max(bottom, top + 1), left : max(right, left + 1)]
        assert found == pytest.approx(under.mean(), abs=1e-12)


def test_no_boxes_no_shares() -> None:
    """An empty list has an empty answer."""
    assert tissue_fractions(np.ones((4, 4), bool), np.empty((0, 4), np.int32), (1.0, 1.0)).shape == (0,)
