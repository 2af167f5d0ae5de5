"""A heat map: the slide beside the cosine similarity of all its patches to one of them."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.domain.embedding import Embeddings
from models.domain.plan import Plan
from worker.report import sheet
from worker.report.overlay import Corners, Picture
from worker.report.picture import corners_of, draw_slide, paint_map, panel_size, resized

_NO_ANGLE = (170, 170, 170)
_BAR_PX = (240, 16)
_LEAST_RING_PX = 12
_INK, _CASING = (20, 20, 20), (255, 255, 255)
_FLATTEST = 1e-3  # of the scale: a slide of equal patches is not all noise


def draw_heat(
    thumbnail: Picture,
    plan: Plan,
    embeddings: Embeddings,
    similarity: NDArray[np.float32],
    row: int,
    share: float = 1.0,
) -> bytes:
    """Draw slide and heat map side by side, the chosen patch ringed in both, and the scale below.

    The colours (Cividis) read the same with any colour vision, and in grey.

    Parameters
    ----------
    thumbnail : uint8 array, shape (H, W, 3)
        Of the whole slide.
    plan : Plan
    embeddings : Embeddings
    similarity : float32 array, shape (N,)
        NaN where there is none: holes, which are hatched, and embeddings of length zero, which are grey.
    row : int
        The chosen patch.
    share : float
        Part of a patch's side that is painted, around its centre.

    Returns
    -------
    bytes
        PNG.
    """
    size = panel_size(thumbnail.shape[0], thumbnail.shape[1])
    low = scale_start(similarity)
    painted = paint_map(plan, embeddings, size, share, heat_colours(similarity[~embeddings.holes], low))
    slide = draw_slide(resized(thumbnail, size), plan, embeddings, share, None)
    place = corners_of(plan, embeddings, size, 1.0)[row]
    for picture in (slide, painted):
        _ring(picture, place)
    x, y = np.rint(embeddings.positions_px[row]).astype(int).tolist()
    finest = plan.slide.levels[0]
    drawn, top = sheet.lay_out(
        (
            sheet.Panel(slide, "Slide", f"{finest.width_px:,} x {finest.height_px:,} px; what was read is outlined"),
            sheet.Panel(painted, "Similarity", f"cosine to the embedding of the ringed patch, at {x:,}, {y:,} px"),
        )
    )
    gaps = "   hatched: hole" if embeddings.holes.any() else ""
    gaps += "   grey: no angle" if np.isnan(similarity[~embeddings.holes]).any() else ""
    _draw_scale(drawn, low, top, gaps)
    return sheet.to_png(drawn)


def scale_start(similarity: NDArray[np.float32]) -> float:
    """Return the similarity at which the colours begin, the first percentile; they end at 1."""
    there = similarity[np.isfinite(similarity)]
    return min(float(np.percentile(there, 1)), 1 - _FLATTEST) if len(there) else 0.0


def heat_colours(similarity: NDArray[np.float32], low: float) -> NDArray[np.uint8]:
    """Return a colour for each similarity, shape (N, 3): dark blue at `low` and below, yellow at 1; NaN is grey."""
    known = np.isfinite(similarity)
    spread = np.clip((np.where(known, similarity, low) - low) / (1 - low), 0, 1)
    colours = _cividis(np.rint(spread * 255).astype(np.uint8))
    colours[~known] = _NO_ANGLE
    return colours


def _cividis(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the colours of levels, shape (N,), as RGB, shape (N, 3)."""
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_CIVIDIS)
    return np.asarray(table[:, 0, ::-1][levels], np.uint8)


def _ring(picture: Picture, corners: Corners) -> None:
    """Draw a box, large enough to be seen, around a patch."""
    left, top, right, bottom = corners.tolist()
    across, down = (max(0, _LEAST_RING_PX - (right - left)) // 2, max(0, _LEAST_RING_PX - (bottom - top)) // 2)
    start, end = (left - across - 1, top - down - 1), (right + across, bottom + down)
    for ink, thickness in ((_CASING, 5), (_INK, 2)):
        cv2.rectangle(picture, start, end, ink, thickness)


def _draw_scale(drawn: Image.Image, low: float, top: int, gaps: str) -> None:
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(sheet.TEXT_PX)
    width, height = _BAR_PX
    first = f"{low:.2f}"
    left = sheet.MARGIN_PX + int(pen.textlength(first, font=font)) + 8
    bar = np.repeat(_cividis(np.linspace(0, 255, width).astype(np.uint8))[None], height, axis=0)
    pen.text((sheet.MARGIN_PX, top), first, fill=sheet.INK, font=font)
    drawn.paste(Image.fromarray(bar), (left, top))
    pen.text((left + width + 8, top), f"1.00   cosine similarity{gaps}", fill=sheet.INK, font=font)
