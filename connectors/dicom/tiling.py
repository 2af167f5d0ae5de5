"""Which frame holds which tile: of TILED_FULL levels by count, of all others by their per-frame functional groups.

PS3.3 C.7.6.17.3: in TILED_FULL the frames run over the columns of a row of tiles, over the rows, over the focal planes
from the slide's surface upwards, over the optical paths; in anything else each frame says where it lies (Plane Position
(Slide), Optical Path Identification).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.dicom.attributes import Json, first_item, integer, items_of, number, text, value
from models.domain.slide import runs_of

_ORGANIZATION, _PER_FRAME, _SHARED = "00209311", "52009230", "52009229"
_PLANE_POSITION, _COLUMN, _ROW, _Z_OFFSET = "0048021A", "0048021E", "0048021F", "0040074A"
_PATH_IDENTIFICATION, _PATHS, _PATH_ID = "00480207", "00480105", "00480106"
_PATH_COUNT, _PLANE_COUNT = "00480302", "00480303"
_FRAME_COUNT, _OFFSET = "00280008", "00209228"
_PART_NUMBER, _ORIGIN = "00209162", "00480008"
_PIXEL_MEASURES, _PLANE_STEP = "00289110", "00180088"
_MOST_TILES = 1 << 24
_MOST_VIEWS = 4096
_MOST_UM = 1e6  # a metre above the slide is no focal plane

View = tuple[str, float]
"""Optical Path Identifier, and height of the focal plane (Z Offset, um: PS3.3 C.8.12.6.1)."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shape:
    """The grid of a level: pixels of its matrix and of its tiles."""

    width_px: int
    height_px: int
    frame_width_px: int
    frame_height_px: int

    @property
    def columns(self) -> int:
        """Tiles a row."""
        return -(-self.width_px // self.frame_width_px)

    @property
    def tiles(self) -> int:
        """Tiles of the whole grid."""
        return self.columns * -(-self.height_px // self.frame_height_px)


def shape_of(item: Json) -> Shape:
    """Return the grid of an instance's level."""
    return Shape(*(integer(item, tag) for tag in ("00480006", "00480007", "00280011", "00280010")))


class Untileable(ValueError):
    """The frames of a level cannot be assigned to its tiles; says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """Frames of one instance, and the tiles they hold.

    Parameters
    ----------
    instance_uid : str
    numbers : tuple of int
        1-based frame numbers within the instance, in the order of `tiles`.
    tiles : tuple of int
    """

    instance_uid: str
    numbers: tuple[int, ...]
    tiles: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """Where each tile of a level is, in one optical path and one focal plane.

    Parameters
    ----------
    uids : tuple of str
        The instances.
    instance : int32 array, shape (tiles,)
        Index into `uids`; -1 for an absent tile.
    number : int32 array, shape (tiles,)
        1-based frame number within the instance.
    optical_path : str
        Identifier of the path; "" if the slide does not name it.
    """

    uids: tuple[str, ...]
    instance: NDArray[np.int32]
    number: NDArray[np.int32]
    optical_path: str = ""

    def places(self, tiles: Sequence[int]) -> Iterator[Place]:
        """Yield where tiles are, in runs of one instance, in the order asked.

        Raises
        ------
        KeyError
            A tile is absent: it must not be asked for.
        """
        wanted = np.asarray(tiles, np.int64)
        if not len(wanted):
            return
        owner = self.instance[wanted]
        if (owner < 0).any():
            raise KeyError(int(wanted[np.flatnonzero(owner < 0)[0]]))
        cuts = np.flatnonzero(np.diff(owner)) + 1
        for run in np.split(np.arange(len(wanted)), cuts):
            numbers = self.number[wanted[run]]
            yield Place(self.uids[owner[run[0]]], tuple(numbers.tolist()), tuple(wanted[run].tolist()))

    @property
    def absent(self) -> tuple[tuple[int, int], ...]:
        """Runs (start, stop) of tiles that no frame holds."""
        return runs_of(self.instance < 0)

    @property
    def digest(self) -> str:
        """sha256 of which frame lies where."""
        state = hashlib.sha256("\n".join(self.uids).encode())
        state.update(self.instance.astype("<i4").tobytes())
        state.update(self.number.astype("<i4").tobytes())
        return state.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """What the frames of some instances, one instance after the other, show.

    Parameters
    ----------
    views : tuple of View
        What there is to choose from.
    offsets : tuple of int
        By instance: frames of the level that come before its first.
    counts : tuple of int
        By instance: its frames.
    said : (int64 array, int64 array) or None
        Tile and index into `views` of every frame, where each says so itself; None: they are counted.
    """

    views: tuple[View, ...]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    said: tuple[Numbers, Numbers] | None = None

    def fill(self, shape: Shape) -> bool:
        """Whether there is a frame for each tile of each view."""
        return sum(self.counts) == shape.tiles * len(self.views)

    def tiling(self, view: int, uids: tuple[str, ...], shape: Shape) -> Tiling:
        """Return where the tiles of one view are.

        Raises
        ------
        Untileable
            Two frames hold one tile.
        """
        instance, number = np.full(shape.tiles, -1, np.int32), np.zeros(shape.tiles, np.int32)
        frames = 0
        for part in range(len(uids)):
            tiles, numbers = self._held(part, view, shape)
            instance[tiles], number[tiles] = part, numbers
            frames += len(tiles)
        if np.count_nonzero(number) < frames:
            raise Untileable("several frames hold the same tile")
        return Tiling(uids, instance, number)

    def _held(self, part: int, view: int, shape: Shape) -> tuple[Numbers, Numbers]:
        """Return the tiles of a view that an instance holds, and the numbers of their frames."""
        if self.said is None:
            first = self.offsets[part] - view * shape.tiles
            tiles = np.arange(max(0, first), min(shape.tiles, first + self.counts[part]), dtype=np.int64)
            return tiles, tiles - first + 1
        before = sum(self.counts[:part])
        mine = slice(before, before + self.counts[part])
        chosen = np.flatnonzero(self.said[1][mine] == view)
        return self.said[0][mine][chosen], chosen + 1


def frames_of_parts(parts: Sequence[Json], shape: Shape) -> Frames:
    """Find out what the frames of a level's instances (the parts of a concatenation, or one) show.

    Nothing is made that is larger than the grid or the metadata themselves.

    Raises
    ------
    Untileable
    """
    if any(shape_of(part) != shape for part in parts):
        raise Untileable("the parts of its concatenation have tiles of different sizes")
    if shape.tiles > _MOST_TILES:
        raise Untileable(f"its grid has {shape.tiles} tiles")
    counts = tuple(max(1, integer(part, _FRAME_COUNT)) for part in parts)
    full = text(parts[0], _ORGANIZATION).upper() == "TILED_FULL"
    if not full and all(_say_positions(part, count) for part, count in zip(parts, counts, strict=True)):
        tiles, numbers, views = _by_groups(parts, shape)
        starts = (0, *np.cumsum(counts).tolist())
        return Frames(views, starts[:-1], counts, (tiles, numbers))
    frames = Frames(_counted_views(parts[0]), _offsets(parts, counts), counts)
    places = shape.tiles * len(frames.views)
    if sum(counts) > places or any(
        not 0 <= start <= places - count for start, count in zip(frames.offsets, counts, strict=True)
    ):
        raise Untileable(f"it has frames beyond its {places} places")
    if not full and not frames.fill(shape):
        raise Untileable("its frames do not say where they lie, and they are fewer or more than its tiles")
    return frames


def _offsets(parts: Sequence[Json], counts: Sequence[int]) -> tuple[int, ...]:
    """Return the frames that come before each part (0020,9228); where that is not said, by the parts' numbers."""
    if len(parts) == 1 or all(value(part, _OFFSET) is not None for part in parts):
        return tuple(integer(part, _OFFSET) for part in parts)
    numbers = [integer(part, _PART_NUMBER) for part in parts]
    if sorted(numbers) != list(range(1, len(parts) + 1)):
        raise Untileable("a part of its concatenation is missing, or the parts do not say in which order they come")
    starts = np.cumsum([0, *(count for _, count in sorted(zip(numbers, counts, strict=True)))]).tolist()
    return tuple(starts[number - 1] for number in numbers)


def _say_positions(part: Json, count: int) -> bool:
    groups = items_of(part, _PER_FRAME)
    position = first_item(groups[0], _PLANE_POSITION) if len(groups) == count else {}
    return value(position, _COLUMN) is not None and value(position, _ROW) is not None


def path_ids(item: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the Optical Path Identifiers of an instance, in the order of its sequence; their places if it has none."""
    paths = items_of(item, _PATHS)
    count = min(max(integer(item, _PATH_COUNT), len(paths), 1), _MOST_VIEWS)
    places = tuple(str(place) for place in range(1, count + 1))
    named = tuple(text(path, _PATH_ID) for path in paths)
    return named if len(named) == count and all(named) and len(set(named)) == count else places


def _height(position: Mapping[str, Any]) -> float | None:
    """Return a Z Offset; None if there is none."""
    if value(position, _Z_OFFSET) is None:
        return None
    found = number(position, _Z_OFFSET)
    return round(found, 3) if abs(found) <= _MOST_UM else 0.0


def _lowest(item: Mapping[str, Any]) -> float:
    """Return the height of an instance's only or lowest plane."""
    for position in (first_item(item, _SHARED, _PLANE_POSITION), first_item(item, _ORIGIN)):
        height = _height(position)
        if height is not None:
            return height
    return 0.0


def _counted_views(part: Json) -> tuple[View, ...]:
    """Return the paths and planes of an instance whose frames are counted: all planes of a path come together."""
    paths, planes = path_ids(part), max(1, integer(part, _PLANE_COUNT))
    claimed = max(integer(part, _PATH_COUNT), len(paths))
    if claimed * planes > _MOST_VIEWS:
        raise Untileable(f"it claims {claimed} optical paths of {planes} focal planes")
    said = number(first_item(part, _SHARED, _PIXEL_MEASURES), _PLANE_STEP) * 1000
    step, lowest = said if 0.001 <= said <= _MOST_UM else 1.0, _lowest(part)
    return tuple((path, round(lowest + plane * step, 3)) for path in paths for plane in range(planes))


def _by_groups(parts: Sequence[Json], shape: Shape) -> tuple[Numbers, Numbers, tuple[View, ...]]:
    """Return tile and view of each frame by what it says itself."""
    tiles: list[int] = []
    seen: list[View] = []
    for part in parts:
        only, lowest = path_ids(part)[0], _lowest(part)
        for group in items_of(part, _PER_FRAME):
            position = first_item(group, _PLANE_POSITION)
            path = text(first_item(group, _PATH_IDENTIFICATION), _PATH_ID)
            height = _height(position)
            tiles.append(_tile(integer(position, _COLUMN), integer(position, _ROW), shape))
            seen.append((path or only, lowest if height is None else height))
    held = np.asarray(tiles, np.int64)
    seen = _levelled(held, seen)
    views = tuple(dict.fromkeys(seen))
    if len(views) > _MOST_VIEWS:
        raise Untileable(f"it claims {len(views)} focal planes and optical paths")
    index = {view: place for place, view in enumerate(views)}
    return held, np.asarray([index[view] for view in seen], np.int64), views


def _levelled(tiles: Numbers, seen: list[View]) -> list[View]:
    """Take frames of an optical path for one plane if no two hold the same tile: each tile was focused by itself."""
    places: dict[str, list[int]] = {}
    for place, (path, _) in enumerate(seen):
        places.setdefault(path, []).append(place)
    lowest = {
        path: min(seen[place][1] for place in mine)
        for path, mine in places.items()
        if (np.diff(np.sort(tiles[mine])) > 0).all()
    }
    return [(path, lowest.get(path, height)) for path, height in seen]


def _tile(column: int, row: int, shape: Shape) -> int:
    """Return the number of the tile whose upper left pixel is at a 1-based column and row of the matrix."""
    across, beside = divmod(column - 1, shape.frame_width_px)
    down, below = divmod(row - 1, shape.frame_height_px)
    inside = 0 < column <= shape.width_px and 0 < row <= shape.height_px
    if beside or below or not inside:
        raise Untileable("a tile lies off its grid")
    return down * shape.columns + across
