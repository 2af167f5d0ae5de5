"""Plans: frozen at submission, the same bytes for the same plan, and damage never passes for another plan."""

import json
import struct
import zlib
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import ResultCorrupt
from models.domain.patch import PatchGrid, Rows
from models.domain.plan import Plan
from models.domain.request import ColorProfile, Missing
from tests.services.memory_slide import make_level, make_slide, without_tiles


def _plan(count: int = 7, batch_size: int = 4, level: int = 1, seed: int = 0) -> Plan:
    random = np.random.default_rng(seed)
    boxes = random.integers(0, 60, (count, 4)).astype(np.int32)
    rows = random.permutation(count).astype(np.int64)
    slide = make_slide(make_level(200, 150, (0.25, 0.26)), make_level(100, 75, (0.5, 0.52)), notes=("assumed",))
    return Plan(slide, PatchGrid(level, 16, (0.5, 0.52), boxes, rows), count + 3, batch_size, ("assumed", "decided"))


def _same(one: Plan, other: Plan) -> bool:
    return (
        one.slide == other.slide
        and (one.grid.level, one.grid.patch_px, one.grid.spacing_um)
        == (other.grid.level, other.grid.patch_px, other.grid.spacing_um)
        and np.array_equal(one.grid.boxes, other.grid.boxes)
        and np.array_equal(one.grid.rows, other.grid.rows)
        and (one.grid_patches, one.batch_size, one.notes) == (other.grid_patches, other.batch_size, other.notes)
        and (one.missing, one.color_profile, one.icc_sha256) == (other.missing, other.color_profile, other.icc_sha256)
    )


def test_damage_anywhere_is_noticed() -> None:
    """One flipped bit anywhere gives an error or the very same plan, never another one."""
    plan = _plan()
    data = plan.to_bytes()
    noticed = 0
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            try:
                found = Plan.from_bytes(bytes(damaged))
            except ResultCorrupt:
                noticed += 1
            else:
                assert _same(found, plan), (at, bit)
    assert noticed > 7 * len(data)


def test_truncation_anywhere_is_noticed() -> None:
    """A plan that is cut off at any place is an error."""
    data = _plan().to_bytes()
    for length in range(len(data)):
        with pytest.raises(ResultCorrupt):
            Plan.from_bytes(data[:length])


@given(st.binary(max_size=60))
def test_garbage_is_no_plan(data: bytes) -> None:
    """Bytes of another origin are an error of ours, whatever they are."""
    with pytest.raises(ResultCorrupt):
        Plan.from_bytes(data)


@pytest.mark.parametrize("head", [None, [], 7, "plan", {}, {"patches": -1}, {"patches": "x"}, {"patches": 1 << 40}])
def test_well_packed_nonsense_is_no_plan(head: Any) -> None:
    """JSON that is none of ours, well packed, is an error of ours too."""
    text = json.dumps(head).encode()
    with pytest.raises(ResultCorrupt):
        Plan.from_bytes(zlib.compress(struct.pack("<Q", len(text)) + text))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_comes_back_from_bytes(count: int) -> None:
    """What is written is read as the same plan, and written again as the same bytes."""
    plan = _plan(count)
    found = Plan.from_bytes(plan.to_bytes())
    assert _same(found, plan)
    assert found.to_bytes() == plan.to_bytes()


@given(
    st.sampled_from(get_args(Missing)),
    st.sampled_from(get_args(ColorProfile)),
    st.frozensets(st.integers(0, 34), max_size=9),
    st.none() | st.tuples(*[st.integers(0, 255)] * 3),
)
def test_what_may_be_missing_comes_back_too(
    missing: Missing, color_profile: ColorProfile, absent: frozenset[int], background: tuple[int, int, int] | None
) -> None:
    """Holes, colours and the tiles that a slide does not hold are in the plan, and each makes it another plan."""
    plan = _plan()
    level = without_tiles(plan.slide.levels[0], absent, background)
    slide = replace(plan.slide, levels=(level, plan.slide.levels[1]))
    digest = "" if color_profile == "none" else "ab" * 32
    one = replace(plan, slide=slide, missing=missing, color_profile=color_profile, icc_sha256=digest)
    found = Plan.from_bytes(one.to_bytes())
    assert _same(found, one)
    assert found.slide.levels[0] == level
    assert found.to_bytes() == one.to_bytes()
    assert (one.to_bytes() == plan.to_bytes()) == _same(one, plan)


def test_a_plan_that_allows_nothing_is_the_default() -> None:
    """Nobody gets holes or other colours without having asked for them."""
    assert (_plan().missing, _plan().color_profile) == ("error", "none")


@pytest.mark.parametrize("field", ["missing", "color_profile", "icc_sha256", "notes", "slide", "level"])
def test_a_plan_that_lacks_a_part_is_no_plan(field: str) -> None:
    """A head without one of its parts is damage, not a plan with something assumed."""
    whole = zlib.decompress(_plan().to_bytes())
    (length,) = struct.unpack_from("<Q", whole)
    head = json.loads(whole[8 : 8 + length])
    del head[field]
    text = json.dumps(head).encode()
    with pytest.raises(ResultCorrupt):
        Plan.from_bytes(zlib.compress(struct.pack("<Q", len(text)) + text + whole[8 + length :]))


@given(st.integers(0, 500), st.integers(1, 70), st.integers(1, 200))
def test_shards_cover_all_patches_in_whole_batches(count: int, batch_size: int, patches_a_shard: int) -> None:
    """Shards follow one another without a gap; each but the last holds whole batches, and no more than asked for."""
    shards = _plan(count, batch_size).shards(patches_a_shard)
    assert [patch for start, stop in shards for patch in range(start, stop)] == list(range(count))
    assert all(start % batch_size == 0 and stop > start for start, stop in shards)
    assert all(stop - start <= max(patches_a_shard, batch_size) for start, stop in shards)


@given(st.integers(0, 30), st.integers(0, 1), st.integers(0, 99))
def test_assemble_restores_the_order_that_was_asked_for(count: int, level: int, seed: int) -> None:
    """Row r of the result holds the patch that was asked for as number r, with its place at level 0."""
    plan = _plan(count, level=level, seed=seed)
    matrix = np.arange(count * 2, dtype=np.float32).reshape(count, 2)
    found = plan.assemble(Rows(matrix))
    factor = 2 if level else 1  # level 1 is half as wide and half as high
    for read, asked in enumerate(plan.grid.rows):
        assert np.array_equal(found.matrix[asked], matrix[read])
        assert np.array_equal(found.boxes[asked], plan.grid.boxes[read])
        assert np.array_equal(found.positions_px[asked], plan.grid.boxes[read, :2] * factor)
        assert found.positions_um is not None
        assert found.positions_um[asked] == pytest.approx(plan.grid.boxes[read, :2] * factor * np.array([0.25, 0.26]))


def test_a_hole_stays_at_its_place() -> None:
    """A row of NaN is a hole of the result where its patch was asked for."""
    plan = _plan()
    matrix = np.ones((7, 3), np.float32)
    matrix[2] = np.nan
    assert np.flatnonzero(plan.assemble(Rows(matrix)).holes).tolist() == [plan.grid.rows[2]]


def test_unknown_spacing_stays_unknown() -> None:
    """Without a spacing there are no micrometres, rather than wrong ones."""
    grid = PatchGrid(0, 8, None, np.zeros((1, 4), np.int32), np.zeros(1, np.int64))
    plan = Plan(make_slide(make_level(64, 64, None)), grid, 1, 4, ())
    assert plan.assemble(Rows(np.zeros((1, 3), np.float32))).positions_um is None
    assert Plan.from_bytes(plan.to_bytes()).grid.spacing_um is None
