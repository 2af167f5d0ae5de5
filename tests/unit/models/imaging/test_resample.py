"""Which frames a patch needs and how it is cut from them, against the whole image and against EZ-WSI."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.slide import Level
from models.imaging.resample import FrameUse, absent_tiles, cut_patch
from tests.services.memory_slide import frames_from, random_pixels, without_tiles


@st.composite
def _levels(draw: st.DrawFn) -> tuple[Level, NDArray[np.int32]]:
    width, height = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    level = Level(width, height, draw(st.integers(1, 40)), draw(st.integers(1, 40)), None, "RGB", ())
    boxes = []
    for _ in range(draw(st.integers(0, 5))):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        boxes.append((x, y, draw(st.integers(1, width - x)), draw(st.integers(1, height - y))))
    return level, np.asarray(boxes, np.int32).reshape(-1, 4)


def _frames_by_hand(level: Level, box: NDArray[np.int32]) -> set[int]:
    x, y, width, height = box.tolist()
    pixels = itertools.product(range(y, y + height), range(x, x + width))
    return {row // level.frame_height_px * level.columns + column // level.frame_width_px for row, column in pixels}


def test_a_frame_that_is_not_there_is_an_error() -> None:
    """A missing frame is a KeyError, never black, and so is any of several."""
    level = Level(40, 40, 16, 16, None, "RGB", ())
    frames = frames_from(random_pixels(40, 40), level)
    box = np.asarray((10, 10, 20, 20), np.int32)
    needed = FrameUse.of(level, box[None]).frames.tolist()
    assert len(needed) == 4
    for missing in needed:
        rest = {index: pixels for index, pixels in frames.items() if index != missing}
        with pytest.raises(KeyError):
            cut_patch(rest, level, box, np.zeros((20, 20, 3), np.uint8))


@given(_levels())
def test_frames_are_those_that_the_pixels_lie_in(drawn: tuple[Level, NDArray[np.int32]]) -> None:
    """The frames of a box are those of its pixels, each once, in ascending order."""
    level, boxes = drawn
    use = FrameUse.of(level, boxes)
    assert len(use.starts) == len(boxes) + 1
    for number, box in enumerate(boxes):
        found = use.frames[use.starts[number] : use.starts[number + 1]]
        assert found.tolist() == sorted(_frames_by_hand(level, box))
    assert use.starts[-1] == len(use.frames)


@given(_levels(), st.data())
def test_frames_of_a_run_of_patches(drawn: tuple[Level, NDArray[np.int32]], data: st.DataObject) -> None:
    """What some patches in a row need together is each of their frames once, in ascending order."""
    level, boxes = drawn
    start = data.draw(st.integers(0, len(boxes)))
    stop = data.draw(st.integers(start, len(boxes)))
    expected = set().union(*(_frames_by_hand(level, box) for box in boxes[start:stop]))
    assert FrameUse.of(level, boxes).between(start, stop).tolist() == sorted(expected)


@given(_levels())
def test_first_and_last_patch_of_each_frame(drawn: tuple[Level, NDArray[np.int32]]) -> None:
    """Each frame comes once, with the first and the last patch that needs it."""
    level, boxes = drawn
    needs = [_frames_by_hand(level, box) for box in boxes]
    expected = [
        (frame, *(owners[end] for end in (0, -1)))
        for frame in sorted(set().union(*needs))
        if (owners := [number for number, need in enumerate(needs) if frame in need])
    ]
    assert list(zip(*(part.tolist() for part in FrameUse.of(level, boxes).ends()), strict=True)) == expected


def test_frames_of_a_slide_of_the_largest_size() -> None:
    """Numbers beyond 32 bits do not wrap around: 2^31 px in tiles of one pixel a side."""
    side = (1 << 31) - 1
    level = Level(side, side, 1, 1, None, "RGB", ())
    box = np.asarray([(side - 2, side - 1, 2, 1)], np.int32)
    assert FrameUse.of(level, box).frames.tolist() == [side * side - 2, side * side - 1]


@given(_levels(), st.data())
def test_absent_tiles_are_those_of_the_runs(drawn: tuple[Level, NDArray[np.int32]], data: st.DataObject) -> None:
    """A level that lacks tiles says so of each; one that holds them all has nothing to say."""
    level, _ = drawn
    tiles = level.rows * level.columns
    absent = data.draw(st.sets(st.integers(0, tiles - 1), min_size=1))
    found = absent_tiles(without_tiles(level, absent))
    assert np.flatnonzero(found).tolist() == sorted(absent)
    assert len(found) == tiles
    assert len(absent_tiles(level)) == 0


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


@pytest.mark.parametrize(
    "box", [(3, 5, 32, 32), (0, 0, 33, 31), (7, 9, 41, 52), (20, 10, 80, 80), (1, 2, 16, 40), (1, 2, 40, 16)]
)
def test_resampling_is_by_area_as_ez_wsi_does(box: tuple[int, int, int, int]) -> None:
    """A larger box is brought to the patch's size by OpenCV's area interpolation."""
    assert np.array_equal(_cut(box), _resized(box, cv2.INTER_AREA))


@pytest.mark.parametrize("box", [(3, 5, 8, 8), (90, 70, 15, 15), (0, 0, 1, 1), (30, 30, 15, 16), (30, 30, 16, 15)])
def test_interpolation_is_cubic(box: tuple[int, int, int, int]) -> None:
    """A smaller box, in either direction, is brought to the patch's size by OpenCV's cubic interpolation."""
    assert np.array_equal(_cut(box), _resized(box, cv2.INTER_CUBIC))


_LEVEL = Level(120, 100, 24, 20, None, "RGB", ())
_IMAGE = random_pixels(120, 100)


def _cut(box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    out = np.full((16, 16, 3), 77, np.uint8)
    cut_patch(frames_from(_IMAGE, _LEVEL), _LEVEL, np.asarray(box, np.int32), out)
    return out


def _resized(box: tuple[int, int, int, int], method: int) -> NDArray[np.uint8]:
    x, y, width, height = box
    return np.asarray(cv2.resize(_IMAGE[y : y + height, x : x + width], (16, 16), interpolation=method))


def test_halving_is_the_mean_of_four() -> None:
    """By area means what it says, checked without OpenCV."""
    blocks = _IMAGE[4:36, 8:40].reshape(16, 2, 16, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(_cut((8, 4, 32, 32)) - blocks).max() <= 0.5


def test_doubling_is_the_cubic_of_sixteen() -> None:
    """Cubic means convolution with Keys' kernel (a = -0.75), edges repeated; checked without OpenCV."""

    def weight(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        d, a = np.abs(distance), -0.75
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.where(d <= 1, near, np.where(d < 2, far, 0.0))

    places = (np.arange(16) + 0.5) / 2 - 0.5
    around = np.arange(-2, 10)
    rows = np.zeros((16, 8))
    np.add.at(rows.T, np.clip(around, 0, 7), weight(places[None, :] - around[:, None]))
    expected = np.einsum("ay,bx,yxc->abc", rows, rows, _IMAGE[40:48, 60:68].astype(float))
    assert np.abs(_cut((60, 40, 8, 8)) - np.clip(expected, 0, 255)).max() <= 1.0


def test_one_array_may_stand_for_several_frames() -> None:
    """Glass is laid as one array that cannot be written to, and comes out as it is."""
    level = replace(_LEVEL, frame_width_px=10, frame_height_px=10)
    glass = np.broadcast_to(np.asarray((240, 241, 242), np.uint8), (10, 10, 3))
    out = np.zeros((16, 16, 3), np.uint8)
    cut_patch(dict.fromkeys(range(120), glass), level, np.asarray((7, 7, 16, 16), np.int32), out)
    assert (out == (240, 241, 242)).all()
