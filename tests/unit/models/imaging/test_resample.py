"""Which frames a patch needs and how it is cut from them, against the whole image and against EZ-WSI."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.patch import PatchGrid
from models.domain.slide import Level
from models.imaging.resample import cut_patch, frames_of, group_ends
from tests.services.memory_slide import frames_from, make_grid, random_pixels


@st.composite
def _levels(draw: st.DrawFn) -> tuple[Level, NDArray[np.int32]]:
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    level = Level(width, height, draw(st.integers(1, 40)), draw(st.integers(1, 40)), None, "RGB", ())
    boxes = []
    for _ in range(draw(st.integers(1, 5))):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y))))
    return level, np.asarray(boxes, np.int32)


def _frames_by_hand(level: Level, box: NDArray[np.int32]) -> set[int]:
    x, y, width, height = box.tolist()
    pixels = itertools.product(range(y, y + height), range(x, x + width))
    return {row // level.frame_height_px * level.columns + column // level.frame_width_px for row, column in pixels}


def test_a_frame_that_is_not_there_is_an_error() -> None:
    """A missing frame is a KeyError, never black."""
    level = Level(40, 40, 16, 16, None, "RGB", ())
    frames = frames_from(random_pixels(40, 40), level)
    box = np.asarray((10, 10, 20, 20), np.int32)
    for missing in frames_of(level, box[None])[0].tolist():
        rest = {index: pixels for index, pixels in frames.items() if index != missing}
        with pytest.raises(KeyError):
            cut_patch(rest, level, box, np.zeros((20, 20, 3), np.uint8))


@given(_levels())
def test_frames_are_those_that_the_pixels_lie_in(drawn: tuple[Level, NDArray[np.int32]]) -> None:
    """The frames of a box are those of its pixels, each once, in ascending order."""
    level, boxes = drawn
    for box, found in zip(boxes, frames_of(level, boxes), strict=True):
        assert found.tolist() == sorted(_frames_by_hand(level, box))


@given(_levels())
def test_a_patch_is_a_slice_of_the_image(drawn: tuple[Level, NDArray[np.int32]]) -> None:
    """A patch cut from frames is the same as one cut from the assembled image."""
    level, boxes = drawn
    image = random_pixels(level.width_px, level.height_px)
    frames = frames_from(image, level)
    for x, y, width, height in boxes.tolist():
        side = min(width, height)
        out = np.zeros((side, side, 3), np.uint8)
        cut_patch(frames, level, np.asarray((x, y, side, side), np.int32), out)
        assert np.array_equal(out, image[y : y + side, x : x + side])


@pytest.mark.parametrize("box", [(3, 5, 32, 32), (0, 0, 33, 31), (7, 9, 41, 52), (20, 10, 80, 80)])
def test_resampling_is_by_area_as_ez_wsi_does(box: tuple[int, int, int, int]) -> None:
    """A larger box is brought to the patch's size by OpenCV's area interpolation."""
    level = Level(120, 100, 24, 20, None, "RGB", ())
    image = random_pixels(120, 100)
    x, y, width, height = box
    out = np.zeros((16, 16, 3), np.uint8)
    cut_patch(frames_from(image, level), level, np.asarray(box, np.int32), out)
    expected = cv2.resize(image[y : y + height, x : x + width], (16, 16), interpolation=cv2.INTER_AREA)
    assert np.array_equal(out, expected)


def test_halving_is_the_mean_of_four() -> None:
    """By area means what it says, checked without OpenCV."""
    level = Level(64, 64, 16, 16, None, "RGB", ())
    image = random_pixels(64, 64)
    out = np.zeros((16, 16, 3), np.uint8)
    cut_patch(frames_from(image, level), level, np.asarray((8, 4, 32, 32), np.int32), out)
    blocks = image[4:36, 8:40].reshape(16, 2, 16, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(out - blocks).max() <= 0.5


def _needed(frames: list[list[int]]) -> tuple[PatchGrid, list[NDArray[np.int64]]]:
    grid = make_grid([(0, 0, 1, 1)] * len(frames), 1)
    return grid, [np.asarray(one, np.int64) for one in frames]


@given(st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=5, unique=True), max_size=20), st.integers(1, 8))
def test_groups_cover_all_patches_within_their_bounds(frames: list[list[int]], max_frames: int) -> None:
    """Groups are not empty, follow one another to the last patch, and bring in no more frames than allowed."""
    grid, needed = _needed(frames)
    ends = group_ends(grid, needed, max_frames)
    starts = [0, *ends][:-1]
    assert [patch for start, end in zip(starts, ends, strict=True) for patch in range(start, end)] == list(
        range(len(frames))
    )
    seen: set[int] = set()
    for start, end in zip(starts, ends, strict=True):
        assert end > start
        fresh = {frame for one in frames[start:end] for frame in one} - seen
        bringing = sum(not seen.issuperset(one) for one in frames[start:end])
        assert len(fresh) <= max_frames or bringing == 1
        seen |= fresh


def test_groups_are_as_large_as_they_may_be() -> None:
    """A group ends only where the next patch would bring in too much; a patch that needs too much is alone."""
    grid, needed = _needed([[0], [1], [0, 1], [2], [3], [4, 5, 6], [6]])
    assert group_ends(grid, needed, 2) == [3, 5, 6, 7]
    assert group_ends(grid, needed, 99) == [7]
