"""Parametric Maps (PS3.3 A.75) of any writer as embeddings: a pixel a patch, a component for each kind of plane."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from connectors.dicom.readback.binary_values import binary_values
from connectors.dicom.readback.foreign import ReadValues
from connectors.dicom.readback.part10 import is_big_endian
from connectors.dicom.readback.slide_levels import FindSlide, Placement, SlideLevel
from connectors.dicom.readback.stored import Origin, StoredEmbeddings
from models.domain.errors import ResultCorrupt, ResultNotFound

PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"

_PIXELS = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}
_MOST_EMPTY = 64  # places of the planes for one pixel that is there
_HEADER = ("ImageOrientationSlide", "TotalPixelMatrixOriginSequence", "SharedFunctionalGroupsSequence")


@dataclass(frozen=True, slots=True)
class _Plane:
    """What a frame's numbers are called, and what they stand for: ``number * slope + intercept``."""

    name: str
    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a frame goes: its plane, and its first column and row (0-based) in the total pixel matrix."""

    plane: _Plane
    column: int
    row: int


def read_map(dataset: Dataset, find_slide: FindSlide) -> StoredEmbeddings:
    """Return the pixels of a map that hold values, row by row, with a component for each of its planes.

    Planes are told apart by the LUT Label and the quantity of their Real World Value Mapping (PS3.3 C.7.6.16.2.11),
    and come in the order in which they first appear. A pixel with no value in any plane (NaN, or the Float Pixel
    Padding Value) is no patch, nor is one that has values in some planes only, as a note then says.

    Parameters
    ----------
    dataset : Dataset
        A whole instance.
    find_slide : callable
        For the place of the map on its slide; boxes are in its finest level then, else in pixels of the map.

    Raises
    ------
    ResultNotFound
        The map has no numbers in float32 or float64.
    ResultCorrupt
        It has fewer pixels than it says, or frames outside it.
    """
    size = _size(dataset)
    planes = _planes(dataset, size)
    columns = tuple(planes)
    stack = np.stack([planes[name] for name in columns], axis=-1)
    if np.isinf(stack).any():
        raise ResultCorrupt("The map holds infinity, or numbers beyond float32.")
    there = ~np.isnan(stack).any(axis=-1)
    rows, across = np.nonzero(there)
    matrix = np.ascontiguousarray(stack[there])
    gaps = int((~np.isnan(stack).all(axis=-1)).sum()) - len(matrix)
    notes = (f"{gaps} pixels have a value in some planes only: they were left out",) if gaps else ()
    origin = _origin(dataset)
    corners = np.stack([across, rows], axis=1).astype(np.float64)
    boxes, level = _placed(dataset, corners, SlideLevel.find(find_slide(origin.image_series_uid)))
    values = ReadValues(matrix, boxes, columns, ("", ""), origin, level, notes)
    return values.stored()


def _size(dataset: Dataset) -> tuple[int, int]:
    """Return columns and rows of the total pixel matrix; of an untiled map those of its frames."""
    if "TotalPixelMatrixColumns" in dataset:
        return int(dataset.TotalPixelMatrixColumns), int(dataset.TotalPixelMatrixRows)
    return int(dataset.Columns), int(dataset.Rows)


def _planes(dataset: Dataset, size: tuple[int, int]) -> dict[str, NDArray[np.float32]]:
    """Return each plane, shape (rows, columns), NaN where the map says nothing."""
    width, height = size
    frames, tiles = _frames(dataset), list(_places(dataset, size))
    if len(tiles) != len(frames):
        raise ResultCorrupt("The map says of fewer or more frames than it has where they lie.")
    names = dict.fromkeys(tile.plane.name for tile in tiles)
    if not 0 < width * height * len(names) <= _MOST_EMPTY * frames.size:
        raise ResultCorrupt("The map has no size, or nearly all of it is missing.")
    planes = {name: np.full((height, width), np.nan, np.float32) for name in names}
    for tile, frame in zip(tiles, frames, strict=True):
        if not (0 <= tile.column < width and 0 <= tile.row < height):
            raise ResultCorrupt("A frame of the map lies outside it.")
        plane = planes[tile.plane.name]
        part = plane[tile.row : tile.row + frame.shape[0], tile.column : tile.column + frame.shape[1]]
        kept = frame[: part.shape[0], : part.shape[1]]  # tiles at the edges reach beyond the map
        part[:] = kept * np.float32(tile.plane.slope) + np.float32(tile.plane.intercept)
    return planes


def _frames(dataset: Dataset) -> NDArray[np.float32]:
    """Return the frames as the numbers that they stand for: (frames, rows, columns)."""
    keyword = next((name for name in _PIXELS if name in dataset), None)
    if keyword is None:
        raise ResultNotFound("The map has no pixels in float32 or float64: it holds no embeddings.")
    order = ">" if is_big_endian(dataset) else "<"
    shape = (int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns))
    values = binary_values(
        dataset[keyword].value, f"{order}{_PIXELS[keyword]}", "pixels", int(np.prod(shape, dtype=object))
    )
    padding = dataset.get("FloatPixelPaddingValue", dataset.get("DoubleFloatPixelPaddingValue"))
    with np.errstate(over="ignore"):  # what float32 does not hold becomes infinity, and is refused
        frames = values.reshape(shape).astype(np.float32)
    if padding is not None:
        frames[values.reshape(shape) == float(padding)] = np.nan
    return frames


def _places(dataset: Dataset, size: tuple[int, int]) -> Iterator[_Frame]:
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if groups and "PlanePositionSlideSequence" in groups[0]:
        for group in groups:
            (position,) = group.PlanePositionSlideSequence
            column, row = position.ColumnPositionInTotalImagePixelMatrix, position.RowPositionInTotalImagePixelMatrix
            yield _Frame(_plane(group, shared), int(column) - 1, int(row) - 1)
        return
    yield from _in_turn(dataset, size, [_plane(group, shared) for group in groups], _plane(Dataset(), shared))


def _in_turn(dataset: Dataset, size: tuple[int, int], named: list[_Plane], shared: _Plane) -> Iterator[_Frame]:
    """Yield the places of frames that say none: tile after tile, plane after plane (PS3.3 C.7.6.17.3, TILED_FULL)."""
    width, height = int(dataset.Columns), int(dataset.Rows)
    across, down = -(-size[0] // width), -(-size[1] // height)
    count = int(dataset.get("NumberOfFrames") or 1)
    if across * down <= 0 or count % (across * down):
        raise ResultCorrupt("The map has fewer or more frames than cover it.")
    alike = count > across * down and len({plane.name for plane in named}) <= 1
    for index in range(count):
        number, tile = divmod(index, across * down)
        plane = named[index] if index < len(named) else shared
        plane = replace(plane, name=f"{plane.name} {number + 1}".strip()) if alike else plane
        yield _Frame(plane, tile % across * width, tile // across * height)


def _plane(group: Dataset, shared: Dataset) -> _Plane:
    """Return what a frame's numbers are: LUT Label and quantity, slope and intercept."""
    own, common = (item.get("RealWorldValueMappingSequence") for item in (group, shared))
    mapping = (own or common or [Dataset()])[0]
    quantity, label = _quantity(mapping), str(mapping.get("LUTLabel", "") or mapping.get("LUTExplanation", ""))
    name = f"{label} ({quantity})" if label and quantity and label != quantity else label or quantity
    slope, intercept = mapping.get("RealWorldValueSlope", 1.0), mapping.get("RealWorldValueIntercept", 0.0)
    return _Plane(name, float(slope), float(intercept))


def _quantity(mapping: Dataset) -> str:
    """Return the meaning of the code that the first Quantity Definition gives as a value, or of its name."""
    for item in mapping.get("QuantityDefinitionSequence") or []:
        for keyword in ("ConceptCodeSequence", "ConceptNameCodeSequence"):
            for code in item.get(keyword) or []:
                return str(code.get("CodeMeaning", ""))
    return ""


def _origin(dataset: Dataset) -> Origin:
    series = (dataset.get("ReferencedSeriesSequence") or [Dataset()])[0]
    image = (series.get("ReferencedInstanceSequence") or [Dataset()])[0]
    return Origin(
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.SOPInstanceUID),
        str(series.get("SeriesInstanceUID", "")),
        str(image.get("ReferencedSOPClassUID", "")),
        str(image.get("ReferencedSOPInstanceUID", "")),
    )


def _placed(
    dataset: Dataset, corners: NDArray[np.float64], finest: SlideLevel | None
) -> tuple[NDArray[np.float64], SlideLevel | None]:
    """Return the boxes of pixels, by their upper left corners: in the slide's finest level, or in the map itself."""
    own = Placement.of(_header(dataset))
    if finest is None or finest.placement is None or own is None:
        return np.hstack([corners, np.ones_like(corners)]), None
    low, high = (finest.placement.pixels(own.millimetres(points)) for points in (corners, corners + 1))
    return np.hstack([np.minimum(low, high), np.abs(high - low)]), finest


def _header(dataset: Dataset) -> Mapping[str, Any]:
    small = Dataset()
    for keyword in _HEADER:
        if keyword in dataset:
            small.add(dataset[keyword])
    found: dict[str, Any] = small.to_json_dict()
    return found
