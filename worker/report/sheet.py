"""A sheet: pictures of one size side by side, a title above each, and room for a legend below."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worker.report.overlay import Picture

MARGIN_PX: Final = 28
INK: Final = (40, 44, 52)
TEXT_PX: Final = 14
_TITLE_PX = 64
_LEGEND_PX = 46
_GAP_PX = 14
_PAPER = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture, its title, and a line about it."""

    picture: Picture
    title: str
    line: str


def lay_out(panels: Sequence[Panel]) -> tuple[Image.Image, int]:
    """Return the sheet, and the row of its pixels at which the legend begins.

    Parameters
    ----------
    panels : sequence of Panel
        One at least; their pictures are of one size.
    """
    height, width = panels[0].picture.shape[:2]
    across = len(panels) * (width + MARGIN_PX) + MARGIN_PX
    sheet = Image.new("RGB", (across, _TITLE_PX + height + _LEGEND_PX + MARGIN_PX // 2), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, panel in enumerate(panels):
        left = MARGIN_PX + number * (width + MARGIN_PX)
        pen.text((left, 12), panel.title, fill=INK, font=ImageFont.load_default(20))
        pen.text((left, 38), _fitted(pen, panel.line, width), fill=INK, font=ImageFont.load_default(TEXT_PX))
        sheet.paste(Image.fromarray(np.ascontiguousarray(panel.picture)), (left, _TITLE_PX))
    return sheet, _TITLE_PX + height + _GAP_PX


def to_png(sheet: Image.Image) -> bytes:
    """Return a sheet as a PNG; the same for the same pixels."""
    buffer = BytesIO()
    sheet.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def _fitted(pen: ImageDraw.ImageDraw, line: str, width: int) -> str:
    font = ImageFont.load_default(TEXT_PX)
    while line and pen.textlength(line, font=font) > width:
        line = line[:-1]
    return line
