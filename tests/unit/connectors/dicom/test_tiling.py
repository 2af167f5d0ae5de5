"""Which frame holds which tile: against highdicom, against dictionaries, and against whatever a server may claim."""

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from highdicom.spatial import iter_tiled_full_frame_data
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.tiling import Frames, Tiling, Untileable, View, frames_of_parts, path_ids, shape_of
from tests.unit.connectors.dicom.instances import (
    TILE_PX,
    Json,
    element,
    having,
    instance,
    parts_of,
    placed,
    sequence,
    without,
)
from worker.demo.header import LevelShape, level_dataset

_COLUMNS, _TILES = 5, 25  # of an instance 320 px wide


def _tilings(*parts: Json) -> dict[View, Tiling]:
    """Return where the tiles of each view are."""
    shape = shape_of(parts[0])
    frames = frames_of_parts(parts, shape)
    uids = tuple(part["00080018"]["Value"][0] for part in parts)
    return {view: frames.tiling(place, uids, shape) for place, view in enumerate(frames.views)}


def _only(*parts: Json) -> Tiling:
    [tiling] = _tilings(*parts).values()
    return tiling


def _held(tiling: Tiling) -> dict[int, tuple[str, int]]:
    """Return instance and frame number of each tile that is there."""
    there = np.flatnonzero(tiling.instance >= 0).tolist()
    return {tile: (tiling.uids[tiling.instance[tile]], int(tiling.number[tile])) for tile in there}


def _with_paths(item: Json, *names: str) -> Json:
    paths = sequence(*({"00480106": element("SH", name)} for name in names))
    return having(item, "00480302", len(names)) | {"00480105": paths}


_SIDE = st.integers(1, 90)
_FEW = st.integers(1, 3)


@given(_SIDE, _SIDE, st.integers(1, 40), st.integers(1, 40), _FEW, _FEW)
def test_tiled_full_is_highdicoms(width: int, height: int, across: int, down: int, paths: int, planes: int) -> None:
    """Rows 11 and 12: paths, planes, rows, columns, each frame where highdicom puts it (PS3.3 C.7.6.17.3)."""
    shape = LevelShape(width, height, 0.5)
    dataset = level_dataset("x", 0, shape, frame_px=across, frames=1)
    dataset.Rows, dataset.NumberOfOpticalPaths, dataset.TotalPixelMatrixFocalPlanes = down, paths, planes
    expected = list(iter_tiled_full_frame_data(dataset))
    dataset.NumberOfFrames = len(expected)
    tilings = _tilings(dataset.to_json_dict())
    assert len(tilings) == paths * planes
    assert list(tilings) == sorted(tilings, key=lambda view: (int(view[0]), view[1]))
    views = list(tilings.values())
    columns = -(-width // across)
    for number, (path, plane, column, row, *_) in enumerate(expected, 1):
        tile = (row - 1) // down * columns + (column - 1) // across
        assert views[(path - 1) * planes + plane - 1].number[tile] == number
    assert all(tiling.absent == () for tiling in views)


_PLACES = [(tile, path, height) for tile in range(_TILES) for path in ("a", "b") for height in (0.0, 1.5, 3.0)]


@given(st.permutations(_PLACES), st.integers(1, len(_PLACES)))
def test_frames_that_say_where_they_lie(order: list[tuple[int, str, float]], count: int) -> None:
    """Row 1: in any order, some left out, several paths and planes; every frame is found where it said."""
    order = order[:count]
    tilings = _tilings(placed(_with_paths(instance("1.1", 320), "a", "b"), order, _COLUMNS))
    said: dict[tuple[int, str, float], int] = {place: number for number, place in enumerate(order, 1)}
    found = {(tile, *view): frame for view, tiling in tilings.items() for tile, (_, frame) in _held(tiling).items()}
    several = {path for path in "ab" if len(tiles := [t for t, p, _ in order if p == path]) > len(set(tiles))}
    if several == {"a", "b"}:
        assert found == said
    assert sorted(found.values()) == sorted(said.values())
    assert {(tile, path): frame for (tile, path, _), frame in found.items() if path not in several} == {
        (tile, path): frame for (tile, path, _), frame in said.items() if path not in several
    }


def test_a_plane_of_many_heights() -> None:
    """Frames of which no two hold the same tile are one plane, at its lowest height; two on a tile are two planes."""
    heights = [(tile, "", 0.5 * (tile % 4) + 1) for tile in range(_TILES)]
    assert list(_tilings(placed(instance("1.1", 320), heights, _COLUMNS))) == [("1", 1.0)]
    two = [*heights, (3, "", 9.0)]
    assert len(_tilings(placed(instance("1.1", 320), two, _COLUMNS))) == 5


def test_heights_that_are_not_said() -> None:
    """A frame's height is its own, or that of its instance, or 0; a senseless one is 0."""
    places = [(tile, "", None) for tile in range(_TILES)]
    item = placed(instance("1.1", 320), places, _COLUMNS)
    origin = {"00480008": sequence({"0040074A": element("DS", "2.5")})}
    assert [list(_tilings(item)), list(_tilings(item | origin))] == [[("1", 0.0)], [("1", 2.5)]]
    for senseless in (1e300, float("nan"), "high", None):
        absurd = {"00480008": sequence({"0040074A": element("DS", senseless)})}
        assert list(_tilings(instance("1.1", 320) | absurd)) == [("1", 0.0)]


_SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=6).filter(lambda sizes: sum(sizes) <= _TILES)


@given(_SIZES, st.randoms(use_true_random=False), st.sampled_from(["all", "numbers", "offsets"]))
def test_parts_in_any_order(sizes: list[int], chance: Any, said: str) -> None:
    """Row 5: a concatenation's parts, by offset or by number, in any order, give each tile its part and frame."""
    sizes = [*sizes, _TILES - sum(sizes)] if sum(sizes) < _TILES else sizes
    parts = parts_of(instance("1.1", 320), sizes)
    tags = {"all": (), "numbers": ("00209228",), "offsets": ("00209162", "00209163")}[said]
    parts = [without(part, *tags) for part in parts]
    order = [(f"1.2.3.{part}", frame) for part, size in enumerate(sizes, 1) for frame in range(1, size + 1)]
    chance.shuffle(parts)
    assert _held(_only(*parts)) == dict(enumerate(order))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_parts_of_which_some_are_missing(sizes: list[int]) -> None:
    """Row 6: without some parts, what is there lies where it would lie, and what is not is absent, in whole runs."""
    drawn = [size + 1 for size in sizes]
    stops = [stop for stop in itertools.accumulate(drawn) if stop < _TILES]
    whole = np.diff([0, *stops, _TILES]).tolist()
    parts = parts_of(instance("1.1", 320), whole)
    kept = [part for number, part in enumerate(parts) if number % 2 == 0]
    starts = [0, *stops]
    there = {
        tile for number in range(0, len(parts), 2) for tile in range(starts[number], starts[number] + whole[number])
    }
    tiling = _only(*kept)
    assert set(_held(tiling)) == there
    absent = [tile for start, stop in tiling.absent for tile in range(start, stop)]
    assert absent == [tile for tile in range(_TILES) if tile not in there]
    assert all(stop < after for (_, stop), (after, _) in itertools.pairwise(tiling.absent))


_SPARSE = placed(instance("1.1", 320), [(tile, "", 0.0) for tile in range(_TILES)], _COLUMNS)


def _moved(column: Any, row: Any) -> Json:
    item = placed(instance("1.1", 320), [(tile, "", 0.0) for tile in range(_TILES)], _COLUMNS)
    position = item["52009230"]["Value"][7]["0048021A"]["Value"][0]
    position["0048021E"], position["0048021F"] = element("SL", column), element("SL", row)
    return item


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([having(instance("1.1", 320), "00280008", _TILES + 1)], "beyond its 25 places"),
        ([having(instance("1.1", 320), "00209228", -1)], "beyond its 25 places"),
        ([having(instance("1.1", 320), "00209228", 10**30)], "beyond its 25 places"),
        ([having(instance("1.1", 320), "00480303", 10**12)], "claims 1 optical paths of 1000000000000 focal planes"),
        ([having(instance("1.1", 320), "00480302", 10**12)], "claims 1000000000000 optical paths"),
        ([without(having(instance("1.1", 320), "00280008", 24), "00209311")], "do not say where they lie"),
        ([without(having(instance("1.1", 320), "00480303", 2), "00209311")], "do not say where they lie"),
        ([having(_SPARSE, "00280008", 24)], "do not say where they lie"),
        ([_moved(2, 1)], "off its grid"),
        ([_moved(1, 2)], "off its grid"),
        ([_moved(0, 0)], "off its grid"),
        ([_moved(321, 1)], "off its grid"),
        ([_moved(1, 385)], "off its grid"),
        ([_moved(None, None)], "off its grid"),
        ([_moved("far", -63)], "off its grid"),
        ([_moved(65, 1)], "several frames hold the same tile"),
        (parts_of(instance("1.1", 320), [10, 15])[:1] * 3, "beyond its 25 places"),
        (parts_of(instance("1.1", 320), [10, 15])[:1] * 2, "several frames hold the same tile"),
        (
            [having(part, "00280010", 32 * n) for n, part in enumerate(parts_of(instance("1.1", 320), [9, 16]), 1)],
            "sizes",
        ),
        ([without(part, "00209228") for part in parts_of(instance("1.1", 320), [5, 10, 10])[::2]], "is missing"),
        ([without(part, "00209228", "00209162") for part in parts_of(instance("1.1", 320), [9, 16])], "is missing"),
        ([having(having(instance("1.1", 1 << 21), "00480007", 1 << 21), "00280010", 1)], "its grid has"),
    ],
)
def test_frames_that_cannot_be_placed(parts: list[Json], why: str) -> None:
    """Rows 2, 6, 20 and 21: whatever leaves it open where a frame lies is told in words, never guessed."""
    with pytest.raises(Untileable, match=why):
        _tilings(*parts)


@pytest.mark.parametrize("claim", [("00280008", 1 << 24), ("00480302", 1 << 40), ("00209228", 1 << 40)])
def test_claims_take_no_memory(claim: tuple[str, int]) -> None:
    """Row 21: an instance that claims millions of frames costs no more than its grid."""
    item = having(instance("1.1", 320), *claim)
    tracemalloc.start()
    with pytest.raises(Untileable):
        _tilings(item)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("names", "count", "found"),
    [
        ((), None, ("1",)),
        ((), 2, ("1", "2")),
        (("HE", "DF"), 2, ("HE", "DF")),
        (("HE", "DF"), None, ("HE", "DF")),
        (("HE", "HE"), 2, ("1", "2")),
        (("HE", ""), 2, ("1", "2")),
        (("HE",), 2, ("1", "2")),
        (("HE",), -4, ("HE",)),
    ],
)
def test_optical_paths_without_a_name_of_their_own(names: tuple[str, ...], count: Any, found: tuple[str, ...]) -> None:
    """Paths go by their identifiers if each has one of its own, else by their place."""
    assert path_ids(having(_with_paths(instance("1.1"), *names), "00480302", count)) == found


@given(st.lists(st.integers(0, _TILES - 1), unique=True).map(sorted))
def test_places_come_in_the_order_asked(tiles: list[int]) -> None:
    """Tiles are given back in order, in runs of one instance, each with its frame."""
    tiling = _only(*parts_of(instance("1.1", 320), [7, 2, 16]))
    places = list(tiling.places(tiles))
    assert [tile for place in places for tile in place.tiles] == tiles
    expected = _held(tiling)
    given = [(place.instance_uid, number) for place in places for number in place.numbers]
    assert given == [expected[tile] for tile in tiles]
    assert all(one.instance_uid != other.instance_uid for one, other in itertools.pairwise(places))


def test_an_absent_tile_is_never_given() -> None:
    """Who asks for a tile that is not there made a mistake of ours: no other frame is given instead."""
    tiling = _only(parts_of(instance("1.1", 320), [7, 18])[1])
    with pytest.raises(KeyError, match="6"):
        list(tiling.places([6, 7]))


def test_digests_tell_tilings_apart() -> None:
    """Another frame, another instance or an absence is another digest; the same is the same."""
    zero, one = np.zeros(4, np.int32), np.arange(1, 5, dtype=np.int32)
    minus = np.asarray([0, 0, 0, -1], np.int32)
    tilings = [
        Tiling(("1.1",), zero, one),
        Tiling(("1.2",), zero, one),
        Tiling(("1.1",), zero, one[::-1].copy()),
        Tiling(("1.1",), minus, one),
        Tiling(("1.1", "1.2"), zero, one),
    ]
    assert len({tiling.digest for tiling in tilings}) == len(tilings)
    assert Tiling(("1.1",), zero.copy(), one.copy()).digest == tilings[0].digest


def test_a_grid_that_is_full() -> None:
    """Full is a frame for each tile of each view."""
    shape = shape_of(instance("1.1", 320))
    views = (("1", 0.0), ("2", 0.0))
    assert Frames(views, (0, 30), (30, 20)).fill(shape)
    assert not Frames(views, (0,), (_TILES,)).fill(shape)
    assert shape.width_px == TILE_PX * _COLUMNS
