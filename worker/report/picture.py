"""One picture: the slide, and beside it its embeddings' first three principal components as colours."""

from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.domain.embedding import Embeddings
from models.domain.plan import Plan

_PANEL_PX = 900
_MARGIN_PX = 28
_TITLE_PX = 64
_GLASS = (244, 244, 246)
_INK = (40, 44, 52)
_MOST_ROWS = 20_000  # enough to find three axes


def principal_colours(matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a colour for each embedding: its first three principal components, each spread over 0..255.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)

    Returns
    -------
    uint8 array, shape (N, 3)
        Patches that the model finds alike have like colours. Grey throughout if there is nothing to spread.
    """
    if len(matrix) < 2:
        return np.full((len(matrix), 3), 128, np.uint8)
    centred = matrix.astype(np.float64) - matrix.mean(axis=0, dtype=np.float64)
    every = max(1, len(matrix) // _MOST_ROWS)
    _, _, axes = np.linalg.svd(centred[::every], full_matrices=False)
    axes = axes[:3] * np.sign(axes[:3].sum(axis=1, keepdims=True) + 1e-30)  # the same signs every time
    parts = centred @ axes.T
    parts = np.pad(parts, ((0, 0), (0, 3 - parts.shape[1])))
    low, high = np.percentile(parts, [1, 99], axis=0)
    span = np.where(high - low > 1e-12, high - low, np.inf)
    spread = np.where(np.isinf(span), 0.5, (parts - low) / span)
    return np.asarray(np.clip(spread * 255, 0, 255), np.uint8)


def paint_map(plan: Plan, embeddings: Embeddings, size: tuple[int, int], share: float) -> NDArray[np.uint8]:
    """Paint each patch's colour where the patch lies.

    Parameters
    ----------
    plan : Plan
    embeddings : Embeddings
    size : (int, int)
        Height and width of the picture in pixels.
    share : float
        Part of a patch's side that is painted, around its centre: stride over patch where patches overlap.

    Returns
    -------
    uint8 array, shape (height, width, 3)
    """
    canvas = np.empty((*size, 3), np.uint8)
    canvas[:] = _GLASS
    scale = np.asarray([size[1] / plan.level.width_px, size[0] / plan.level.height_px])
    colours = principal_colours(embeddings.matrix)
    margin = embeddings.boxes[:, 2:] * (1 - share) / 2
    start = np.rint((embeddings.boxes[:, :2] + margin) * scale).astype(int)
    end = np.rint((embeddings.boxes[:, :2] + embeddings.boxes[:, 2:] - margin) * scale).astype(int)
    end = np.maximum(end, start + 1)
    for (x0, y0), (x1, y1), colour in zip(start, end, colours, strict=True):
        canvas[y0:y1, x0:x1] = colour
    return canvas


def draw_picture(thumbnail: NDArray[np.uint8], plan: Plan, embeddings: Embeddings, share: float = 1.0) -> bytes:
    """Draw slide and map side by side.

    Parameters
    ----------
    thumbnail : uint8 array, shape (H, W, 3)
        Of the whole slide.
    plan : Plan
    embeddings : Embeddings
    share : float
        As for `paint_map`.

    Returns
    -------
    bytes
        PNG.
    """
    height, width = thumbnail.shape[:2]
    factor = _PANEL_PX / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    slide = cv2.resize(thumbnail, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    mapped = paint_map(plan, embeddings, (size[1], size[0]), share)
    sheet = Image.new("RGB", (2 * size[0] + 3 * _MARGIN_PX, size[1] + _TITLE_PX + _MARGIN_PX), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    spacing = f"{min(plan.grid.spacing_um):.3g} um/px" if plan.grid.spacing_um else "spacing unknown"
    titles = (
        (slide, "Slide", f"{plan.slide.levels[0].width_px} x {plan.slide.levels[0].height_px} px"),
        (mapped, "Embeddings", f"{len(embeddings)} patches, {spacing}: principal components 1-3 as red, green, blue"),
    )
    for number, (panel, title, line) in enumerate(titles):
        left = _MARGIN_PX + number * (size[0] + _MARGIN_PX)
        pen.text((left, 12), title, fill=_INK, font=ImageFont.load_default(20))
        pen.text((left, 38), _fitted(pen, line, size[0]), fill=_INK, font=ImageFont.load_default(14))
        sheet.paste(Image.fromarray(np.ascontiguousarray(panel)), (left, _TITLE_PX))
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def _fitted(pen: ImageDraw.ImageDraw, line: str, width: int) -> str:
    font = ImageFont.load_default(14)
    while line and pen.textlength(line, font=font) > width:
        line = line[:-1]
    return line
