"""The graphics of an annotation group (PS3.3 C.37.1.2) as boxes, whatever they are and count in."""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from connectors.dicom.readback.binary_values import binary_values
from connectors.dicom.readback.slide_levels import Placement
from models.domain.errors import ResultCorrupt, ResultNotFound

_POINTS = {"POINT": 1, "RECTANGLE": 4, "ELLIPSE": 4}  # points an annotation
_VARIABLE = {"POLYGON", "POLYLINE"}
_MOST_PX = 2**31


def boxes_of(group: Dataset, order: str, placement: Placement | None, *, solid: bool) -> NDArray[np.float64]:
    """Return x, y, width, height of each annotation in pixels of the image: float64, shape (N, 4).

    Points are boxes without extent; ellipses, polygons and lines are the boxes around them.

    Parameters
    ----------
    group : Dataset
        Item of Annotation Group Sequence.
    order : str
        Byte order of binary values, ``<`` or ``>``.
    placement : Placement or None
        Where the image lies, for coordinates in millimetres.
    solid : bool
        Whether the Annotation Coordinate Type is 3D.

    Raises
    ------
    ResultNotFound
        The coordinates are of a kind that has no boxes, or in millimetres and the image is not to be had.
    ResultCorrupt
        There are more or fewer than the group says, or they are no pixels.
    """
    kind, count = str(group.get("GraphicType", "")), int(group.NumberOfAnnotations)
    if kind not in _POINTS and kind not in _VARIABLE:
        raise ResultNotFound("The annotations are drawn in a way that PS3.3 C.37.1.2 does not know.")
    width = 3 if solid and "CommonZCoordinateValue" not in group else 2
    flat = _coordinates(group, order)
    starts = _starts(group, order, kind, (count, width, len(flat)))
    points = flat.reshape(-1, width)[:, :2].astype(np.float64)
    if solid:
        points = _placed(points, placement)
    if not np.isfinite(points).all() or np.abs(points).max(initial=0) >= _MOST_PX:
        raise ResultCorrupt("The coordinates of the stored embeddings are no pixels.")
    low, high = _ellipses(points) if kind == "ELLIPSE" else _extents(points, starts)
    return np.hstack([low, high - low])


def _coordinates(group: Dataset, order: str) -> NDArray[np.float32] | NDArray[np.float64]:
    double = "DoublePointCoordinatesData" in group
    data = group.get("DoublePointCoordinatesData" if double else "PointCoordinatesData")
    return binary_values(data, f"{order}f8" if double else f"{order}f4", "coordinates")


def _starts(group: Dataset, order: str, kind: str, shape: tuple[int, int, int]) -> NDArray[np.int64]:
    """Return the index of each annotation's first point; `shape` is annotations, numbers a point, numbers."""
    count, width, numbers = shape
    if kind in _POINTS:
        expected = count * _POINTS[kind] * width
        if numbers != expected:
            raise ResultCorrupt(
                f"The stored embeddings hold {numbers} coordinates instead of {expected}: "
                "fetch the whole instance, not its metadata."
            )
        return np.arange(count, dtype=np.int64) * _POINTS[kind]
    # 1-based, and counted in numbers, not in points.
    data = group.get("LongPrimitivePointIndexList")
    starts = binary_values(data, f"{order}u4", "point indices", count).astype(np.int64) - 1
    sound = numbers % width == 0 and not (starts % width).any() and (np.diff(starts) > 0).all()
    if not sound or (count and (starts[0] != 0 or starts[-1] >= numbers)) or (numbers and not count):
        raise ResultCorrupt("The point indices of the stored annotations do not divide their coordinates.")
    return starts // width


def _placed(points: NDArray[np.float64], placement: Placement | None) -> NDArray[np.float64]:
    if placement is None:
        raise ResultNotFound(
            "The annotations lie in millimetres on the glass, and the slide that they lie on is not to be had: "
            "read them from the archive that holds both, or from a folder with the slide's files."
        )
    return placement.pixels(points)


def _extents(points: NDArray[np.float64], starts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and the greatest x, y of each run of points."""
    if not len(starts):
        return np.empty((0, 2)), np.empty((0, 2))
    return np.minimum.reduceat(points, starts, axis=0), np.maximum.reduceat(points, starts, axis=0)


def _ellipses(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the extents of ellipses, given by the ends of their major and their minor axis (PS3.3 C.37.1.2)."""
    ends = points.reshape(-1, 2, 2, 2)  # ellipse, axis, end, coordinate
    reach = np.linalg.norm((ends[:, :, 1] - ends[:, :, 0]) / 2, axis=1)
    centre = ends.mean(axis=(1, 2))
    return centre - reach, centre + reach
