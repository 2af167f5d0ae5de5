"""One picture: the slide and what was read of it, and its embeddings' first three principal components as colours."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.domain.embedding import Embeddings
from models.domain.plan import Plan
from models.imaging.principal import principal_components
from worker.report import overlay, sheet
from worker.report.overlay import Corners

PANEL_PX = 900
"""Longer side of a picture of a slide."""
_SAMPLE_PX = 26
_GLASS = (244, 244, 246)
_DARKEST = 20  # black would look like a hole


@dataclass(frozen=True, slots=True)
class _Key:
    """One entry of the legend: an outline, or a hatched field."""

    colour: tuple[int, int, int]
    text: str
    hatched: bool = False


def principal_colours(matrix: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a colour for each embedding: its first three principal components, each spread over 20..235.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)

    Returns
    -------
    uint8 array, shape (N, 3)
        Patches that the model finds alike have like colours. Grey throughout if there is nothing to spread.
    """
    return spread_colours(principal_components(matrix).values)


def spread_colours(parts: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the colours of `principal_colours` for the first three principal components, shape (N, 3)."""
    if len(parts) < 2:
        return np.full((len(parts), 3), 128, np.uint8)
    low, high = np.percentile(parts, [1, 99], axis=0)
    span = np.where(high - low > 1e-12, high - low, np.inf)
    spread = np.where(np.isinf(span), 0.5, (parts - low) / span)
    return np.asarray(np.clip(_DARKEST + spread * (255 - 2 * _DARKEST), _DARKEST, 255 - _DARKEST), np.uint8)


def paint_map(
    plan: Plan, embeddings: Embeddings, size: tuple[int, int], share: float, colours: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Paint each patch's colour where the patch lies; holes are hatched.

    Parameters
    ----------
    plan : Plan
    embeddings : Embeddings
    size : (int, int)
        Height and width of the picture in pixels.
    share : float
        Part of a patch's side that is painted, around its centre: stride over patch where patches overlap.
    colours : uint8 array, shape (N, 3), or None
        Of the patches that are no holes; None: `principal_colours`.

    Returns
    -------
    uint8 array, shape (height, width, 3)
    """
    canvas = np.empty((*size, 3), np.uint8)
    canvas[:] = _GLASS
    whole = ~embeddings.holes
    corners = corners_of(plan, embeddings, size, share)
    if colours is None:
        colours = principal_colours(embeddings.matrix[whole])
    for (left, top, right, bottom), colour in zip(corners[whole].tolist(), colours, strict=True):
        canvas[top:bottom, left:right] = colour
    overlay.hatch(canvas, corners[~whole])
    return canvas


def corners_of(plan: Plan, embeddings: Embeddings, size: tuple[int, int], share: float) -> Corners:
    """Return where the patches, or a share around their centres, lie in a picture of the slide: a pixel at least."""
    scale = np.asarray([size[1] / plan.level.width_px, size[0] / plan.level.height_px])
    margin = embeddings.boxes[:, 2:] * (1 - share) / 2
    start = np.rint((embeddings.boxes[:, :2] + margin) * scale).astype(np.int64)
    end = np.rint((embeddings.boxes[:, :2] + embeddings.boxes[:, 2:] - margin) * scale).astype(np.int64)
    return np.concatenate([start, np.maximum(end, start + 1)], axis=1)


def draw_picture(
    thumbnail: NDArray[np.uint8],
    plan: Plan,
    embeddings: Embeddings,
    share: float = 1.0,
    tissue: NDArray[np.bool_] | None = None,
) -> bytes:
    """Draw slide and map side by side, and a legend below.

    Parameters
    ----------
    thumbnail : uint8 array, shape (H, W, 3)
        Of the whole slide.
    plan : Plan
    embeddings : Embeddings
    share : float
        As for `paint_map`.
    tissue : bool array, shape (any, any), or None
        Mask over the whole slide; None: not drawn.

    Returns
    -------
    bytes
        PNG.
    """
    size = panel_size(thumbnail.shape[0], thumbnail.shape[1])
    slide = draw_slide(resized(thumbnail, size), plan, embeddings, share, tissue)
    mapped = paint_map(plan, embeddings, size, share)
    spacing = f"{min(plan.grid.spacing_um):.3g} um/px" if plan.grid.spacing_um else "spacing unknown"
    finest = plan.slide.levels[0]
    drawn, top = sheet.lay_out(
        (
            sheet.Panel(slide, "Slide", f"{finest.width_px:,} x {finest.height_px:,} px"),
            sheet.Panel(mapped, "Embeddings", f"{spacing}: principal components 1-3 as red, green, blue"),
        )
    )
    _draw_legend(drawn, _keys(plan, embeddings, tissue), top)
    return sheet.to_png(drawn)


def panel_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width in pixels of a picture of something of these proportions."""
    factor = PANEL_PX / max(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resized(thumbnail: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image at a size (height, width)."""
    smaller = size[0] < thumbnail.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(thumbnail, size[::-1], interpolation=how))


def draw_slide(
    picture: NDArray[np.uint8], plan: Plan, embeddings: Embeddings, share: float, tissue: NDArray[np.bool_] | None
) -> NDArray[np.uint8]:
    """Draw over the slide: what was not read is pale, patches and tissue are outlined, holes hatched."""
    size = picture.shape[0], picture.shape[1]
    corners = corners_of(plan, embeddings, size, 1.0)
    cells = corners_of(plan, embeddings, size, share)
    read = overlay.covered(corners, size)
    drawn = overlay.fade(picture, read)
    overlay.draw_cells(drawn, cells)
    if tissue is not None:
        overlay.draw_outline(drawn, overlay.smoothed(tissue, size), overlay.TISSUE_COLOUR, overlay.LEAST_AREA_PX)
    overlay.hatch(drawn, cells[embeddings.holes])
    overlay.draw_outline(drawn, read, overlay.PATCH_COLOUR)
    return drawn


def _keys(plan: Plan, embeddings: Embeddings, tissue: NDArray[np.bool_] | None) -> list[_Key]:
    holes = int(embeddings.holes.sum())
    read = f"{len(embeddings):,} patches"
    if plan.grid_patches > len(embeddings):
        read = f"{len(embeddings):,} of {plan.grid_patches:,} patches of the grid"
        read += f" ({100 * len(embeddings) / plan.grid_patches:.0f} %)"
    keys = [_Key(overlay.PATCH_COLOUR, read)]
    if tissue is not None:
        keys.append(_Key(overlay.TISSUE_COLOUR, f"tissue, {100 * tissue.mean():.0f} % of the slide"))
    if holes:
        keys.append(_Key(overlay.HOLE_COLOUR, f"{holes:,} of them holes: could not be read", hatched=True))
    return keys


def _draw_legend(drawn: Image.Image, keys: list[_Key], top: int) -> None:
    pen = ImageDraw.Draw(drawn)
    left = sheet.MARGIN_PX
    for key in keys:
        if key.hatched:
            sample = np.full((16, _SAMPLE_PX, 3), 255, np.uint8)
            overlay.hatch(sample, np.asarray([[0, 0, _SAMPLE_PX, 16]]))
            drawn.paste(Image.fromarray(sample), (left, top))
        else:
            pen.line((left, top + 8, left + _SAMPLE_PX, top + 8), fill=key.colour, width=3)
        font = ImageFont.load_default(sheet.TEXT_PX)
        pen.text((left + _SAMPLE_PX + 8, top), key.text, fill=sheet.INK, font=font)
        left += _SAMPLE_PX + 8 + int(pen.textlength(key.text, font=font)) + 28
