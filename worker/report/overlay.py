"""What is drawn over a picture of a slide: where tissue was found, what was read, where the holes are."""

import cv2
import numpy as np
from numpy.typing import NDArray

# Okabe and Ito's colours, which all eyes tell apart; each line lies on a white casing, so that it shows on any stain.
TISSUE_COLOUR = (0, 114, 178)
PATCH_COLOUR = (213, 94, 0)
HOLE_COLOUR = (20, 20, 20)
_CASING = (255, 255, 255)
_HATCH_PX = 7
_BRUSH = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (17, 17))
_SMOOTH_PX = 4.0
LEAST_AREA_PX = 250.0
_FADE = 0.45  # of what was not read, towards white
_SMALLEST_CELL_PX = 9.0  # below it the outlines of single patches would hide the tissue
_MARK_PX = 11
_BADGE_PX = 11
_LABELS = 3
_LEAST_DEPTH_PX = 5.0
_GRID_SHARE = 0.22  # how much of a pixel an outline of a single patch takes

Picture = NDArray[np.uint8]
Corners = NDArray[np.int64]
"""Left, top, right and bottom (exclusive) in pixels of the picture, shape (N, 4)."""


def covered(corners: Corners, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return what a list of boxes covers: bool, shape `size` (height, width)."""
    mask = np.zeros(size, np.bool_)
    for left, top, right, bottom in corners.tolist():
        mask[top:bottom, left:right] = True
    return mask


def fade(picture: Picture, kept: NDArray[np.bool_]) -> Picture:
    """Return the picture with all but what is kept brought nearer to white."""
    pale = 255 - (255 - picture.astype(np.float32)) * (1 - _FADE)
    return np.where(kept[..., None], picture, np.rint(pale).astype(np.uint8))


def draw_cells(picture: Picture, corners: Corners) -> None:
    """Draw the outlines of single patches, lightly; not where they would lie too close."""
    if not len(corners) or np.median(corners[:, 2:] - corners[:, :2]) < _SMALLEST_CELL_PX:
        return
    lines = np.zeros(picture.shape[:2], np.bool_)
    for left, top, right, bottom in corners.tolist():
        lines[[top, bottom - 1], left:right] = True
        lines[top:bottom, [left, right - 1]] = True
    drawn = picture[lines].astype(np.float32)
    ink = np.asarray(PATCH_COLOUR, np.float32)
    picture[lines] = np.rint(drawn * (1 - _GRID_SHARE) + ink * _GRID_SHARE).astype(np.uint8)


def smoothed(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return a mask at the size (height, width) of a picture, without gaps, islands and bays of a few of its pixels.

    Their outlines would hide the tissue.
    """
    how = cv2.INTER_AREA if mask.shape[0] > size[0] else cv2.INTER_LINEAR
    fine = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=how) >= 0.5
    joined = cv2.morphologyEx(fine.astype(np.uint8), cv2.MORPH_CLOSE, _BRUSH)
    return np.asarray(cv2.GaussianBlur(joined.astype(np.float32), (0, 0), _SMOOTH_PX) >= 0.5)


def draw_outline(picture: Picture, mask: NDArray[np.bool_], colour: tuple[int, int, int], least_px: float = 0) -> None:
    """Draw the outlines of a mask of the picture's size, but for those around less than `least_px` pixels."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    large = [contour for contour in contours if cv2.contourArea(contour) >= least_px]
    for ink, thickness in ((_CASING, 4), (colour, 2)):
        cv2.polylines(picture, large, isClosed=True, color=ink, thickness=thickness, lineType=cv2.LINE_AA)


def hatch(picture: Picture, corners: Corners) -> None:
    """Hatch boxes, and draw a line around each."""
    height, width = picture.shape[:2]
    rows, columns = np.ogrid[:height, :width]
    stripes = (rows + columns) % _HATCH_PX < 2
    for left, top, right, bottom in corners.tolist():
        inside = picture[top:bottom, left:right]
        inside[:] = _CASING
        inside[stripes[top:bottom, left:right]] = HOLE_COLOUR
        cv2.rectangle(picture, (left, top), (right - 1, bottom - 1), HOLE_COLOUR, 1)


def mark(picture: Picture, corners: Corners) -> None:
    """Draw a small diamond in the middle of boxes."""
    for left, top, right, bottom in corners.tolist():
        size = max(5, min(right - left, bottom - top, _MARK_PX))
        for ink, thickness in ((_CASING, 3), (HOLE_COLOUR, 1)):
            centre = ((left + right) // 2, (top + bottom) // 2)
            cv2.drawMarker(picture, centre, ink, cv2.MARKER_DIAMOND, size, thickness)


def number(picture: Picture, mask: NDArray[np.bool_], text: str) -> None:
    """Write a number into the largest parts of a mask of the picture's size, three at most, where they are widest."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    for part in (1 + np.argsort(-areas, kind="stable")[:_LABELS]).tolist():
        depth = cv2.distanceTransform(np.pad(labels == part, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        if depth[row, column] < _LEAST_DEPTH_PX:
            continue
        cv2.circle(picture, (int(column), int(row)), _BADGE_PX, _CASING, -1, cv2.LINE_AA)
        cv2.circle(picture, (int(column), int(row)), _BADGE_PX, HOLE_COLOUR, 1, cv2.LINE_AA)
        place = (int(column) - 6, int(row) + 6)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, HOLE_COLOUR, 2, cv2.LINE_AA)
