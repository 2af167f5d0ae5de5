"""Where the tissue is: the thumbnail is the slide, glass is no tissue, shares are counted right."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.request import PatchSpec
from models.domain.slide import Level
from models.imaging import tissue
from models.imaging.tissue import (
    TissueMask,
    build_thumbnail,
    covers_slide,
    kept_patches,
    thumbnail_scale,
    tissue_fractions,
    tissue_mask,
)
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


def test_tiles_that_are_not_there_are_background() -> None:
    """The place of an absent tile has the level's background, or is white glass."""
    level = Level(64, 32, 32, 32, None, "RGB", ())
    [first, _] = frames_from(random_pixels(64, 32), level).values()
    assert (build_thumbnail(level, [(0, first)])[:, 32:] == 255).all()
    sparse = Level(64, 32, 32, 32, None, "RGB", (), absent=((1, 2),), background=(240, 230, 220))
    found = build_thumbnail(sparse, [(0, first)])
    assert (found[:, 32:] == (240, 230, 220)).all()
    assert np.array_equal(found[:, :32], first)


def test_a_bound_can_be_given() -> None:
    """A thumbnail may be asked for larger or smaller than usual."""
    level = Level(100, 60, 100, 60, None, "RGB", ())
    [frame] = frames_from(random_pixels(100, 60), level).values()
    assert build_thumbnail(level, [(0, frame)], 40).shape == (20, 34, 3)
    assert build_thumbnail(level, [(0, frame)], 100).shape == (60, 100, 3)


_GRID = np.asarray([[0, 0, 50, 50], [50, 0, 50, 50], [0, 50, 50, 50], [50, 50, 50, 50]], np.int32)
_LEVEL = Level(100, 100, 100, 100, None, "RGB", ())


@pytest.mark.parametrize(
    ("least", "kept"),
    [(0.0, [True, True, False, False]), (0.5, [True, True, False, False]), (0.6, [False, True, False, False])],
)
def test_the_share_decides(least: float, kept: list[bool]) -> None:
    """A patch is kept if its share of the mask reaches the threshold, and never without any tissue."""
    mask = np.zeros((10, 10), bool)
    mask[:5, 5:] = True
    mask[:5, :5] = np.arange(5)[:, None] % 2 == np.arange(5) % 2
    mask[0, 0] = True
    assert mask[:5, :5].mean() > 0.5
    found = kept_patches(TissueMask(mask, "mask"), _GRID, _LEVEL, PatchSpec(50, tissue_fraction=least), (100, 100))
    assert found.tolist() == kept


def test_luminance_decides_where_it_is_given() -> None:
    """With EZ-WSI's method the mean luminance of a patch decides, row by row, and not its share of the mask."""
    grey = np.full((10, 10), 255, np.uint8)
    grey[:5, 5:] = 190
    judged = TissueMask(np.zeros((10, 10), bool), "ez-wsi", grey=grey)
    found = kept_patches(judged, _GRID, _LEVEL, PatchSpec(50, tissue_fraction=1.0), (100, 100))
    assert found.tolist() == [False, True, False, False]


def test_what_was_kept_is_said() -> None:
    """The provenance names method, what was looked at, the file's digest, the share, and what was passed over."""
    mask = TissueMask(np.eye(4, dtype=bool), "regions", "ab12", "3 polygons of a file", None, ("2 points",))
    assert mask.share == 0.25
    first, second = mask.report(412, 1170)
    for part in ("regions", "3 polygons of a file", "sha256 ab12", "412 of 1,170", "35.2 %"):
        assert part in first
    assert second == "2 points"
    assert "sha256" not in TissueMask(np.eye(4, dtype=bool), "otsu", looked_at="level 3").report(0, 0)[0]


@pytest.mark.parametrize(
    ("mask_px", "slide_px", "fits"),
    [
        ((1000, 500), (100_000, 50_000), True),
        ((1000, 509), (100_000, 50_000), True),
        ((1000, 530), (100_000, 50_000), False),
        ((500, 1000), (100_000, 50_000), False),
        ((7, 2), (100_000, 30_000), True),
        ((1, 1), (100_000, 99_000), True),
        ((1000, 1000), (100_000, 90_000), False),
    ],
)
def test_the_aspect_ratio(mask_px: tuple[int, int], slide_px: tuple[int, int], fits: bool) -> None:  # noqa: FBT001
    """A mask fits within two per cent and what rounding to whole pixels explains."""
    assert covers_slide(mask_px, slide_px) is fits
