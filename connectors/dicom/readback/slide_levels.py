"""The slide that stored coordinates count in: which of its levels an image is, and where it lies on the glass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from connectors.dicom.attributes import Json, first_item, integer, number, numbers, text
from connectors.dicom.metadata import SOP_INSTANCE, select_slide
from connectors.dicom.spacing import Pair, spacing_of
from models.domain.errors import SourceError

FindSlide = Callable[[str], Sequence[Mapping[str, Any]]]
"""Gives the DICOM JSON (PS3.18 F) of a series' instances by its UID; nothing if the series cannot be had."""

_MATRIX_COLUMNS, _MATRIX_ROWS = "00480006", "00480007"
_ORIGIN, _X_OFFSET, _Y_OFFSET = "00480008", "0040072A", "0040073A"
_ORIENTATION = "00480102"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a total pixel matrix lies in the slide coordinate system (PS3.3 C.8.12.2.1).

    Parameters
    ----------
    origin_mm : (float, float)
        Centre of the first pixel (x, y).
    across, down : (float, float)
        Millimetres (x, y) from a pixel to the next in its row, and in its column.
    """

    origin_mm: Pair
    across: Pair
    down: Pair

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Self | None:
        """Return the placement of an instance, from its DICOM JSON; None if it does not say."""
        origin, cosines = first_item(item, _ORIGIN), numbers(item, _ORIENTATION)
        spacing = spacing_of(item).um
        if _X_OFFSET not in origin or _Y_OFFSET not in origin or len(cosines) != 6 or spacing is None:
            return None
        across, down = (part / 1000 for part in spacing)
        placed = cls(
            (number(origin, _X_OFFSET), number(origin, _Y_OFFSET)),
            (cosines[0] * across, cosines[1] * across),
            (cosines[3] * down, cosines[4] * down),
        )
        return placed if abs(np.linalg.det(placed._steps())) > 1e-12 else None  # mm^2

    def _steps(self) -> NDArray[np.float64]:
        return np.array([self.across, self.down]).T

    def pixels(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points (x, y), shape (N, 2), in pixels from the upper left corner of the first pixel."""
        offsets = np.linalg.solve(self._steps(), (points_mm - np.array(self.origin_mm)).T).T
        return np.asarray(offsets + 0.5)  # the origin is a pixel's centre, coordinates count from its corner

    def millimetres(self, points_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return points in pixels from the upper left corner, shape (N, 2), on the glass."""
        return np.asarray((points_px - 0.5) @ self._steps().T + np.array(self.origin_mm))


@dataclass(frozen=True, slots=True)
class SlideLevel:
    """One image of a slide beside the slide's finest.

    Parameters
    ----------
    index : int
        0 the finest.
    scale : (float, float)
        Pixels of level 0 for one pixel of this image (x, y).
    finest_px : (int, int)
        Width and height of level 0.
    finest_spacing_um, spacing_um : (float, float) or None
        Micrometres per pixel (x, y) of level 0, and of this image.
    placement : Placement or None
        Of this image.
    """

    index: int
    scale: Pair
    finest_px: tuple[int, int]
    finest_spacing_um: Pair | None
    spacing_um: Pair | None
    placement: Placement | None

    @classmethod
    def find(cls, series: Sequence[Mapping[str, Any]], image_uid: str = "") -> Self | None:
        """Return the image of that UID, or the finest, among the instances of a series; None if there is none such."""
        try:
            items = select_slide(series).instances if series else ()
            sizes = sorted({_size(item) for item in items}, reverse=True)
            found = next((item for item in items if text(item, SOP_INSTANCE) == image_uid), None)
            if not image_uid and items:
                found = max(items, key=_size)
            if found is None:
                return None
            finest = next(item for item in items if _size(item) == sizes[0])
            size = _size(found)
            return cls(
                sizes.index(size),
                (sizes[0][0] / size[0], sizes[0][1] / size[1]),
                sizes[0],
                spacing_of(finest).um,
                spacing_of(found).um,
                Placement.of(found),
            )
        except SourceError:  # no slide, or one that contradicts itself: it cannot help
            return None


def _size(item: Json) -> tuple[int, int]:
    return integer(item, _MATRIX_COLUMNS), integer(item, _MATRIX_ROWS)
