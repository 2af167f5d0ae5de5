"""The grid of a result's patches: a cell a patch, and where the cells lie on the glass."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from connectors.dicom.attributes import first_item, integer, numbers, text
from connectors.dicom.spacing import Pair, placing_spacing_mm
from connectors.protocols import Result
from models.domain.errors import ResultError

_FRAME_OF_REFERENCE = "00200052"
_MATRIX_COLUMNS, _MATRIX_ROWS, _ORIGIN, _ORIENTATION = "00480006", "00480007", "00480008", "00480102"
_OFFSETS = ("0040072A", "0040073A", "0040074A")
_MOST_CELLS = 5_000_000  # as many as a plan has patches
_MOST_A_SIDE = 65_535  # Rows and Columns are US
_UNIT = 1e-4  # how far cosines may be off; scanners write six digits
_ROUNDING_PX = 0.5 + 1e-6  # boxes of patches that are resampled are rounded to whole pixels


class _Frame(NamedTuple):
    """Where the image that was read lies (PS3.3 C.8.12.2.1): the centre of its first pixel, in millimetres."""

    origin_mm: NDArray[np.float64]
    across: NDArray[np.float64]
    down: NDArray[np.float64]
    spacing_mm: Pair


@dataclass(frozen=True, eq=False)
class CellGrid:
    """A result's patches as pixels of a small image.

    A cell is as wide as the step from patch to patch, and its centre is the patch's, also where patches overlap.

    Parameters
    ----------
    columns, rows : int
        Of the whole grid, with the cells that no patch was embedded for.
    cells : int64 array, shape (N, 2)
        Row and column of each patch, 0-based.
    step_px : (float, float)
        Side of a cell in pixels of the image that was read (x, y).
    first_px : (float, float)
        Centre of the first cell in the same pixels, from the upper left corner of the first.
    origin_mm : (float, float, float)
        The same point in the slide coordinate system (x, y, z).
    orientation : tuple of 6 float
        Image Orientation (Slide) (0048,0102), the source's.
    spacing_mm : (float, float)
        Millimetres from cell to cell along a row (x) and along a column (y).
    """

    columns: int
    rows: int
    cells: NDArray[np.int64]
    step_px: Pair
    first_px: Pair
    origin_mm: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing_mm: Pair

    @classmethod
    def of(cls, result: Result) -> Self:
        """Return the grid of a result.

        Raises
        ------
        ResultError
            The slide does not say where it lies, or the patches lie on no grid.
        """
        header, provenance = result.header or {}, result.provenance
        frame = _frame(header)
        if result.step_px is None:
            raise ResultError("the distance between the patches is unknown")
        step_x, step_y = result.step_px
        share = provenance.patch_px / provenance.stride_px
        columns = _cells_along(integer(header, _MATRIX_COLUMNS), step_x, share)
        rows = _cells_along(integer(header, _MATRIX_ROWS), step_y, share)
        if columns * rows > _MOST_CELLS or max(columns, rows) > _MOST_A_SIDE:
            raise ResultError(f"the grid of {columns} x {rows} patches is too large for a map")
        cells = _cells(result.embeddings.boxes, result.step_px, (columns, rows))
        first_px = step_x * share / 2, step_y * share / 2
        # The origin is a pixel's centre, boxes count from its corner.
        origin = frame.origin_mm + frame.across * (first_px[0] - 0.5) * frame.spacing_mm[0]
        origin = origin + frame.down * (first_px[1] - 0.5) * frame.spacing_mm[1]
        x, y, z = origin.tolist()
        spacing = step_x * frame.spacing_mm[0], step_y * frame.spacing_mm[1]
        orientation = (*frame.across.tolist(), *frame.down.tolist())
        return cls(columns, rows, cells, result.step_px, first_px, (x, y, z), orientation, spacing)

    def plane(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the values of the patches, shape (N,), at their cells: shape (rows, columns), NaN elsewhere."""
        plane = np.full((self.rows, self.columns), np.nan, np.float32)
        plane[self.cells[:, 0], self.cells[:, 1]] = values
        return plane

    def boxes(self) -> NDArray[np.int32]:
        """Return all cells, row by row: x, y, width, height in whole pixels of the image, shape (rows * columns, 4)."""
        row, column = np.divmod(np.arange(self.rows * self.columns), self.columns)
        corner = np.stack([column, row], axis=1) * np.asarray(self.step_px)
        corner += np.asarray(self.first_px) - np.asarray(self.step_px) / 2
        start, end = np.rint(corner), np.rint(corner + np.asarray(self.step_px))
        return np.concatenate([start, np.maximum(end - start, 1)], axis=1).astype(np.int32)


def _frame(header: Mapping[str, Any]) -> _Frame:
    """Return where the image lies; every attribute of this is type 1 in a slide (PS3.3 C.7.4.1, C.8.12.14)."""
    cosines = np.asarray(numbers(header, _ORIENTATION))
    corner = first_item(header, _ORIGIN)
    x, y, z = (next(iter(numbers(corner, tag)), None) for tag in _OFFSETS)
    spacing = placing_spacing_mm(header)
    if spacing is None or x is None or y is None:
        raise ResultError(f"the slide has no {'Pixel Spacing' if spacing is None else 'Total Pixel Matrix Origin'}")
    if not text(header, _FRAME_OF_REFERENCE):
        raise ResultError("the slide has no Frame of Reference UID")
    if cosines.size != 6 or not _is_rotation(cosines[:3], cosines[3:]):
        raise ResultError("the slide has no usable Image Orientation (Slide)")
    return _Frame(np.asarray([x, y, z or 0.0]), cosines[:3], cosines[3:], spacing)


def _is_rotation(across: NDArray[np.float64], down: NDArray[np.float64]) -> bool:
    products = (across @ across, down @ down, across @ down + 1)
    return all(math.isclose(product, 1, abs_tol=_UNIT) for product in products)


def _cells_along(side_px: int, step_px: float, share: float) -> int:
    """Return how many patches are laid along a side (`worker.stages.plan`): those that fit whole."""
    return max(0, math.floor(side_px / step_px - share + 1e-9) + 1)


def _cells(boxes: NDArray[np.int32], step_px: Pair, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return row and column of each patch, if each has a cell of its own."""
    steps = boxes[:, :2] / np.asarray(step_px)
    cells = np.rint(steps).astype(np.int64)
    inside = (cells >= 0) & (cells < np.asarray(size))
    if not inside.all() or (np.abs(steps - cells) * np.asarray(step_px) > _ROUNDING_PX).any():
        raise ResultError("the patches lie on no grid")
    if len(np.unique(cells, axis=0)) != len(cells):
        raise ResultError("two patches lie at one place")
    return np.ascontiguousarray(cells[:, ::-1])
