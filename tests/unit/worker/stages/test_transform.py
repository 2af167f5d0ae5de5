"""Transform: patches are slices of the slide, batches have one shape, and what could not be had is a hole or an end."""

import itertools
import threading
import weakref
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.errors import EndpointUnreachable, FrameMissing, FrameUndecodable, PixelsUnsupported
from models.domain.patch import EncodedFrame, FrameGroup, PatchBatch, PatchGrid
from models.domain.request import PatchSpec
from models.domain.slide import Level
from models.imaging.resample import FrameUse
from models.imaging.syntax import JPEG_BASELINE
from tests.services.memory_slide import (
    MemorySource,
    frames_from,
    make_grid,
    make_level,
    make_slide,
    random_pixels,
    with_glass,
    without_tiles,
)
from worker.stages.fetch import Fetching, fetch_groups
from worker.stages.plan import plan_patches
from worker.stages.transform import FRAMES_A_STEP, PATCHES_A_STEP, STEPS_AHEAD, Cutting, cut_batches

Boxes = list[tuple[int, int, int, int]]
_LEVEL = make_level(150, 130)  # 5 x 5 frames
_IMAGE = random_pixels(150, 130)
_SOURCE = MemorySource(make_slide(_LEVEL), _IMAGE)
_GLASS = (240, 238, 242)
_ORIGINS = st.tuples(st.integers(0, 130), st.integers(0, 110), st.just(20), st.just(20))
_TILES = st.frozensets(st.integers(0, 24), max_size=8)


class _Fixed:
    """Asks for so many frames a group."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def measured(self, frames: int, bytes_read: int, seconds: float) -> None:
        """Learn nothing."""


def _fetch(source: MemorySource, grid: PatchGrid, frames: int = 6, *, holes: bool = False) -> Iterator[FrameGroup]:
    return fetch_groups(source, 0, grid, Fetching(_Fixed(frames), 2, holes))


def _groups(boxes: Boxes, frames: int = 6) -> Iterator[FrameGroup]:
    return _fetch(_SOURCE, make_grid(boxes, 20), frames)


def _touched(box: tuple[int, int, int, int], tiles: Collection[int]) -> bool:
    """Whether a box has a pixel in one of these tiles of 32 px, five a row."""
    x, y, width, height = box
    mine = {row // 32 * 5 + column // 32 for row in range(y, y + height) for column in range(x, x + width)}
    return not mine.isdisjoint(tiles)


@pytest.mark.parametrize("damage", [b"", b"\xff\xd8\xff\xdb cut off", b"<html>"])
def test_a_damaged_frame_ends_the_stage(damage: bytes) -> None:
    """One frame that does not decode is an error, not a black patch, and names its number."""

    def damaged() -> Iterator[FrameGroup]:
        for group in _groups([(0, 0, 20, 20), (100, 100, 20, 20)]):
            last = replace(group.frames[-1], data=damage, transfer_syntax=JPEG_BASELINE)
            yield replace(group, frames=(*group.frames[:-1], last))

    with pytest.raises(FrameUndecodable, match=r"Frame \d+"):
        list(cut_batches(damaged(), _LEVEL, Cutting(20, 4, 2)))


@pytest.mark.parametrize("holes", [False, True])
def test_unsupported_pixels_end_the_stage(holes: bool) -> None:  # noqa: FBT001 - parameter
    """Greyscale is refused in the stage as it is in the decoder; a whole slide of it is not so many holes."""
    level = replace(_LEVEL, photometric="MONOCHROME2")
    with pytest.raises(PixelsUnsupported):
        list(cut_batches(_groups([(0, 0, 20, 20)]), level, Cutting(20, 4, 2, holes=holes)))


def test_a_frame_that_was_dropped_too_early_is_an_error() -> None:
    """If a frame is not there, nothing is cut from what is."""
    [group] = _groups([(0, 0, 20, 20)])
    with pytest.raises(KeyError):
        list(cut_batches([replace(group, frames=())], _LEVEL, Cutting(20, 4, 1)))


def test_an_absent_tile_that_is_no_glass_is_an_error() -> None:
    """Where no hole is allowed and no background is known, nothing stands for a tile that is not there."""
    level = without_tiles(_LEVEL, {0})
    source = MemorySource(make_slide(level), _IMAGE)
    with pytest.raises(KeyError):
        list(cut_batches(_fetch(source, make_grid([(20, 20, 20, 20)], 20)), level, Cutting(20, 4, 1)))


def test_a_failing_group_ends_the_stage_with_its_error() -> None:
    """What the stage before raises comes through, after the batches that came before it."""

    def failing() -> Iterator[FrameGroup]:
        yield from _groups([(x, 0, 20, 20) for x in range(100)], 25)
        raise TimeoutError

    batches = cut_batches(failing(), _LEVEL, Cutting(20, 2, 1))
    assert next(batches).count == 2
    with pytest.raises(TimeoutError):
        list(batches)


@given(st.lists(_ORIGINS, max_size=14), st.integers(1, 6), st.integers(1, 20), st.integers(1, 3), st.integers(0, 3))
def test_patches_are_slices_of_the_slide(
    boxes: Boxes, batch_size: int, frames: int, decoders: int, buffers: int
) -> None:
    """In any grouping, each patch is the slide's own pixels, in order, in batches of one shape, numbered from 0."""
    found: list[NDArray[np.uint8]] = []
    how = Cutting(20, batch_size, decoders, buffers)
    for number, batch in enumerate(cut_batches(_groups(boxes, frames), _LEVEL, how)):
        assert batch.index == number
        assert batch.pixels.shape == (batch_size, 20, 20, 3)
        assert batch.holes == ()
        assert 0 < batch.count <= batch_size
        assert batch.count == batch_size or len(found) + batch.count == len(boxes)
        assert not batch.pixels[batch.count :].any()  # whatever lay there before
        found.extend(batch.pixels[: batch.count].copy())
    assert len(found) == len(boxes)
    for (x, y, width, height), patch in zip(boxes, found, strict=True):
        assert np.array_equal(patch, _IMAGE[y : y + height, x : x + width])


@given(st.floats(0.3, 3), st.integers(4, 40), st.integers(4, 60), st.integers(1, 30))
def test_a_resampled_grid_is_cut_from_the_whole_image(
    spacing_um: float, patch_px: int, stride_px: int, frames: int
) -> None:
    """A planned grid at any spacing: each patch is its box of the image, brought to the patch's size."""
    slide = make_slide(make_level(150, 130, (0.5, 0.5)))
    spec = PatchSpec(patch_px, stride_px, spacing_um, None, upsample=True)
    if min(150, 130) * 0.5 / spacing_um < patch_px + 1:
        return
    plan = plan_patches(slide, spec, None, 4)
    batches = cut_batches(_fetch(_SOURCE, plan.grid, frames), _LEVEL, Cutting(patch_px, 4, 2))
    patches = itertools.chain.from_iterable(batch.pixels[: batch.count] for batch in batches)
    for (x, y, width, height), patch in zip(plan.grid.boxes.tolist(), patches, strict=True):
        finer = width >= patch_px and height >= patch_px
        expected = cv2.resize(
            _IMAGE[y : y + height, x : x + width],
            (patch_px, patch_px),
            interpolation=cv2.INTER_AREA if finer else cv2.INTER_CUBIC,
        )
        assert np.array_equal(patch, expected)


@given(
    st.lists(_ORIGINS, min_size=1, max_size=40),
    st.tuples(st.integers(1, 9), st.integers(1, 25), st.integers(1, 3), st.integers(0, 2)),
    st.tuples(_TILES, _TILES, _TILES),
    st.sampled_from([None, _GLASS]),
)
def test_holes_are_the_patches_that_touch_what_could_not_be_had(
    boxes: Boxes,
    how: tuple[int, int, int, int],
    faults: tuple[frozenset[int], frozenset[int], frozenset[int]],
    background: tuple[int, int, int] | None,
) -> None:
    """Missing, damaged, or absent and no glass: exactly the patches with a pixel there are holes; glass is glass."""
    missing, damaged, absent = faults
    level = without_tiles(_LEVEL, absent, background)
    source = MemorySource(make_slide(level), _IMAGE, missing=missing, damaged=damaged)
    image = with_glass(_IMAGE, level) if background else _IMAGE
    lost = (missing | damaged) - absent if background else missing | damaged | absent
    batch_size, frames, decoders, buffers = how
    groups = _fetch(source, make_grid(boxes, 20), frames, holes=True)
    asked = iter(boxes)
    for batch in cut_batches(groups, level, Cutting(20, batch_size, decoders, buffers, holes=True)):
        for place, box in enumerate(itertools.islice(asked, batch.count)):
            assert (place in batch.holes) == _touched(box, lost)
            x, y, width, height = box
            expected = 0 if place in batch.holes else image[y : y + height, x : x + width]
            assert (batch.pixels[place] == expected).all()
        assert batch.holes == tuple(sorted(set(batch.holes)))
        assert set(batch.holes) <= set(range(batch.count))
    assert next(asked, None) is None


@given(_TILES, st.integers(1, 25))
def test_absent_tiles_stand_for_glass_where_no_hole_is_allowed(absent: frozenset[int], frames: int) -> None:
    """A sparse slide is whole: its background lies exactly in its absent tiles, as if it held them."""
    level = without_tiles(_LEVEL, absent, _GLASS)
    source = MemorySource(make_slide(level), _IMAGE)
    boxes = [(x, y, 20, 20) for y in range(0, 111, 10) for x in range(0, 130, 10)]
    image = with_glass(_IMAGE, level)
    batches = cut_batches(_fetch(source, make_grid(boxes, 20), frames), level, Cutting(20, 16, 2, 2))
    asked = iter(boxes)
    for batch in batches:
        assert batch.holes == ()
        for patch, (x, y, _, _) in zip(batch.pixels, itertools.islice(asked, batch.count), strict=False):
            assert np.array_equal(patch, image[y : y + 20, x : x + 20])
    assert next(asked, None) is None


def test_one_damaged_frame_does_not_spoil_those_decoded_with_it() -> None:
    """Frames that a decoder gets in one go stand or fall by themselves."""
    source = MemorySource(make_slide(_LEVEL), _IMAGE, damaged={6})
    boxes = [(32 * column, 32 * row, 20, 20) for row in range(4) for column in range(4)]
    groups = _fetch(source, make_grid(boxes, 20), 25, holes=True)
    [batch] = cut_batches(groups, _LEVEL, Cutting(20, 16, 1, holes=True))
    assert batch.holes == (5,)


class _Again:
    """Gives frames anew, as it is told to, and remembers which."""

    def __init__(self, whole: MemorySource, change: Callable[[EncodedFrame], EncodedFrame]) -> None:
        self._whole, self._change = whole, change
        self.asked: list[int] = []

    def __call__(self, index: int) -> EncodedFrame:
        self.asked.append(index)
        [frame] = self._whole.frames(0, [index])
        return self._change(frame)


_TWO = [(0, 0, 20, 20), (64, 64, 20, 20)]  # tiles 0 and 12


def _cut_again(change: Callable[[EncodedFrame], EncodedFrame], *, holes: bool = False) -> tuple[PatchBatch, _Again]:
    """Cut two patches; the frame of the second is cut off, and comes as `change` says when it is fetched again."""
    damaged = MemorySource(make_slide(_LEVEL), _IMAGE, damaged={12})
    again = _Again(_SOURCE, change)
    groups = _fetch(damaged, make_grid(_TWO, 20), holes=holes)
    [batch] = cut_batches(groups, _LEVEL, Cutting(20, 2, 1, holes=holes, fetch_again=again))
    return batch, again


def test_a_frame_damaged_on_its_way_is_fetched_again() -> None:
    """What does not decode is fetched once more, and if it is whole then, the patch is; others are left alone."""
    batch, again = _cut_again(lambda frame: frame)
    assert batch.holes == ()
    for (x, y, _, _), patch in zip(_TWO, batch.pixels, strict=True):
        assert np.array_equal(patch, _IMAGE[y : y + 20, x : x + 20])
    assert again.asked == [12]


@pytest.mark.parametrize("cut_off", [1, 2, 3072])
def test_a_frame_damaged_for_good_is_fetched_again_once(cut_off: int) -> None:
    """The same damage or another: after one more try it is an error, or a hole where that is allowed."""

    def cut(frame: EncodedFrame) -> EncodedFrame:
        return replace(frame, data=frame.data[:-cut_off])

    with pytest.raises(FrameUndecodable, match="Frame 13"):
        _cut_again(cut)
    batch, again = _cut_again(cut, holes=True)
    assert batch.holes == (1,)
    assert again.asked == [12]


def test_a_frame_that_is_gone_when_it_is_fetched_again() -> None:
    """A server that no longer gives it at all: missing, or a hole where that is allowed."""

    def lack(_: EncodedFrame) -> EncodedFrame:
        raise FrameMissing("Frame 13 is not there.")

    with pytest.raises(FrameMissing):
        _cut_again(lack)
    batch, _ = _cut_again(lack, holes=True)
    assert batch.holes == (1,)


def test_a_server_that_fails_when_a_frame_is_fetched_again_makes_no_hole() -> None:
    """That the server is away says nothing about the frame."""

    def fail(_: EncodedFrame) -> EncodedFrame:
        raise EndpointUnreachable("The server does not answer.")

    with pytest.raises(EndpointUnreachable):
        _cut_again(fail, holes=True)


def test_colour_is_applied_once_a_frame() -> None:
    """The colour transform sees every decoded frame once, whatever patches share it, and its pixels are used."""
    level = without_tiles(_LEVEL, {12}, _GLASS)
    source = MemorySource(make_slide(level), _IMAGE)
    boxes = [(x, y, 20, 20) for y in range(0, 111, 5) for x in range(0, 130, 5)]
    seen: Counter[bytes] = Counter()
    guard = threading.Lock()

    def invert(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with guard:
            seen[pixels.tobytes()] += 1
        return 255 - pixels

    groups = _fetch(source, make_grid(boxes, 20), 7)
    batches = cut_batches(groups, level, Cutting(20, 8, 3, color=invert))
    image = with_glass(255 - _IMAGE, level)  # glass is a colour that was named, not one that was scanned
    patches = itertools.chain.from_iterable(batch.pixels[: batch.count] for batch in batches)
    for (x, y, _, _), patch in zip(boxes, patches, strict=True):
        assert np.array_equal(patch, image[y : y + 20, x : x + 20])
    frames = frames_from(_IMAGE, _LEVEL)
    assert seen == Counter(frames[index].tobytes() for index in range(25) if index != 12)


def test_without_buffers_each_batch_has_its_own_memory() -> None:
    """No batch is written to after it was handed on."""
    boxes = [(x, y, 20, 20) for y in (0, 40, 80) for x in range(0, 120, 3)]
    batches = [(batch.pixels, batch.pixels.copy()) for batch in cut_batches(_groups(boxes), _LEVEL, Cutting(20, 4, 2))]
    assert len(batches) == 30
    assert all(np.array_equal(pixels, kept) for pixels, kept in batches)
    assert not any(np.shares_memory(one, two) for (one, _), (two, _) in itertools.combinations(batches, 2))


@pytest.mark.parametrize("buffers", [1, 2, 5])
def test_buffers_are_filled_in_turn(buffers: int) -> None:
    """A batch stays as it is until the `buffers`-th after it is asked for, which then has its memory."""
    boxes = [(x, y, 20, 20) for y in (0, 40, 80) for x in range(0, 120, 3)]
    kept: deque[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = deque(maxlen=buffers)
    first: list[NDArray[np.uint8]] = []
    for number, batch in enumerate(cut_batches(_groups(boxes), _LEVEL, Cutting(20, 7, 2, buffers))):
        kept.append((batch.pixels, batch.pixels.copy()))
        assert all(np.array_equal(pixels, copy) for pixels, copy in kept)
        first += [batch.pixels] if number < buffers else []
        assert [np.shares_memory(batch.pixels, one) for one in first].count(True) == 1
        assert np.shares_memory(batch.pixels, first[number % buffers])


def test_padding_is_zero_in_memory_that_was_used() -> None:
    """The last batch is filled up with zeros, though patches lay there before."""
    boxes = [(x, 0, 20, 20) for x in range(0, 100, 20)]
    *_, last = cut_batches(_groups(boxes), _LEVEL, Cutting(20, 4, 1, 1))
    assert last.count == 1
    assert last.pixels[0].any()
    assert not last.pixels[1:].any()


class _Living:
    """Lets colours be, and knows how many of the frames that passed are still held."""

    def __init__(self) -> None:
        self._frames: list[weakref.ref[NDArray[np.uint8]]] = []

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        frame = pixels.copy()
        self._frames.append(weakref.ref(frame))
        return frame

    def count(self) -> int:
        """Return the frames that are held now."""
        self._frames = [ref for ref in self._frames if ref() is not None]
        return len(self._frames)


def _most_held(level: Level, grid: PatchGrid, ahead: int) -> int:
    """Return the frames that must be held at once if frames are decoded `ahead` patches before they are needed."""
    frames, first, last = FrameUse.of(level, grid.boxes).ends()
    held = np.zeros(len(grid) + 1, np.int64)
    np.add.at(held, np.maximum(first - ahead, 0), 1)
    np.add.at(held, last + 1, -1)
    assert len(frames)
    return int(np.cumsum(held).max())


def test_decoded_frames_are_dropped_when_nobody_needs_them() -> None:
    """A wide level in stripes: no more frames are held than patches under way and yet to come share."""
    level = make_level(4 * 300, 4 * 40, frame_px=4)
    slide = make_slide(level)
    source = MemorySource(slide, random_pixels(level.width_px, level.height_px))
    grid = plan_patches(slide, PatchSpec(6, 5, None, None), None, 8).grid
    living, most = _Living(), 0
    for _ in cut_batches(_fetch(source, grid, 500), level, Cutting(6, 8, 1, 2, color=living)):
        most = max(most, living.count())
    assert most <= _most_held(level, grid, 3 * PATCHES_A_STEP)
    assert most < 0.1 * 300 * 40  # of all
    assert living.count() == 0


def test_large_boxes_are_decoded_a_few_frames_ahead() -> None:
    """Patches brought down from hundreds of frames each: what is decoded ahead goes by frames, not by patches."""
    level = make_level(4 * 120, 4 * 120, frame_px=4)
    source = MemorySource(make_slide(level), random_pixels(level.width_px, level.height_px))
    boxes = [(x, y, 40, 40) for y in range(0, 440, 40) for x in range(0, 440, 40)]
    living, most = _Living(), 0
    for _ in cut_batches(_fetch(source, make_grid(boxes, 5), 2000), level, Cutting(5, 1, 2, 2, color=living)):
        most = max(most, living.count())
    a_patch = 10 * 10
    assert most <= (STEPS_AHEAD + 2) * max(FRAMES_A_STEP, a_patch)
    assert living.count() == 0


def test_who_stops_early_leaves_no_thread() -> None:
    """Closing the generator ends its decoders before it returns."""
    batches = cut_batches(_groups([(x, 0, 20, 20) for x in range(100)]), _LEVEL, Cutting(20, 2, 3))
    next(batches)
    batches.close()
    assert not any(thread.name.startswith("decode") for thread in threading.enumerate())
