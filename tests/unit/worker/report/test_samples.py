"""Samples: the right pixels of the right patches, whatever order they were asked for in."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.domain.plan import Plan
from models.domain.slide import Level
from models.imaging.appearance import Appearance
from tests.services.memory_slide import MemorySource, make_grid, make_level, make_slide, random_pixels
from worker.pipeline import Limits
from worker.report.clusters import Clusters
from worker.report.samples import EXAMPLE_PX, EXAMPLES, LOOKED_AT, take_samples

_SIDE = 20 * 32


def made(level: Level, columns: int = 20) -> tuple[NDArray[np.uint8], Plan]:
    """Return pixels and a plan of patches of 32 px, asked for in reverse of the order in which they are read."""
    boxes = [(x * 32, y * 32, 32, 32) for y in range(20) for x in range(columns)]
    grid = replace(make_grid(boxes, 32), rows=np.arange(len(boxes))[::-1].astype(np.int64))
    return random_pixels(level.width_px, level.height_px), Plan(make_slide(level), grid, len(boxes), 8, ())


def clusters(of: list[int], distances: list[float]) -> Clusters:
    """Return clusters as they might be found."""
    return Clusters(np.asarray(of), np.zeros((len(of), 3)), (0.5, 0.2), np.asarray(distances))


def test_examples_are_the_patches_nearest_the_centre() -> None:
    """Each cluster's examples show its own nearest patches, the nearest first."""
    pixels, plan = made(make_level(_SIDE, _SIDE))
    of = [0] * 390 + [1] * 10
    distances = [float(400 - number) for number in range(400)]
    found = take_samples(MemorySource(plan.slide, pixels), plan, Limits(), clusters(of, distances), np.arange(400))
    assert [len(shown) for shown in found.examples] == [EXAMPLES, EXAMPLES]
    order = np.argsort(plan.grid.rows)
    for number, first in ((0, 389), (1, 399)):
        for place, shown in enumerate(found.examples[number]):
            x, y = plan.grid.boxes[order[first - place]][:2]
            assert shown.shape == (EXAMPLE_PX, EXAMPLE_PX, 3)
            middle = np.arange(32) * 5 + 2
            assert np.array_equal(shown[np.ix_(middle, middle)], pixels[y : y + 32, x : x + 32])


def test_a_fixed_sample_is_looked_at() -> None:
    """Of many patches 200 across the slide are measured, the same each time; of few all."""
    pixels, plan = made(make_level(_SIDE, _SIDE))
    first = take_samples(MemorySource(plan.slide, pixels), plan, Limits(), None, np.arange(400))
    again = take_samples(MemorySource(plan.slide, pixels), plan, Limits(), None, np.arange(400))
    assert len(first.appearance) == LOOKED_AT
    assert np.array_equal(first.appearance.sharpness, again.appearance.sharpness)
    assert first.examples == ()
    few = take_samples(MemorySource(plan.slide, pixels), plan, Limits(), None, np.asarray([3, 200]))
    order = np.argsort(plan.grid.rows)
    there = [plan.grid.boxes[order[row]][:2] for row in (200, 3)]  # in the order in which they are read
    patches = np.stack([pixels[y : y + 32, x : x + 32] for x, y in there])
    assert np.array_equal(few.appearance.sharpness, Appearance.of(patches).sharpness)


def test_nothing_to_look_at() -> None:
    """Of no patches nothing is read."""
    pixels, plan = made(make_level(_SIDE, _SIDE))
    source = MemorySource(plan.slide, pixels)
    found = take_samples(source, plan, Limits(), None, np.empty(0, np.int64))
    assert (len(found.appearance), found.examples, source.asked) == (0, (), [])


def test_lost_frames_are_left_out() -> None:
    """A patch whose frame is gone is left out; the others are as they were."""
    pixels, plan = made(make_level(_SIDE, _SIDE))
    source = MemorySource(plan.slide, pixels, missing={0, 1})
    found = take_samples(source, plan, Limits(), clusters([0] * 4, [1.0, 2.0, 3.0, 4.0]), np.arange(396, 400))
    assert (len(found.appearance), len(found.examples[0])) == (2, 2)
