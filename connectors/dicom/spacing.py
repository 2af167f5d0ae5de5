"""Pixel spacing of a level: Imaged Volume over the matrix, or Pixel Spacing; where they disagree, somebody decides."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.dicom.attributes import Json, first_item, integer, number, numbers, values_of
from models.domain.errors import SpacingContradictory
from models.domain.slide import SpacingFrom

_VOLUME_WIDTH, _VOLUME_HEIGHT = "00480001", "00480002"
_MATRIX_COLUMNS, _MATRIX_ROWS = "00480006", "00480007"
_GROUPS = ("52009229", "52009230")  # shared, per frame
_PIXEL_MEASURES, _PIXEL_SPACING = "00289110", "00280030"
_IMAGE_TYPE = "00080008"
_TOLERANCE = 0.05
_ROUNDING_PX = 1.5  # a level whose side was rounded keeps the extent of the one above it
_LEAST_MM, _MOST_MM = 1e-6, 10.0  # a nanometre, a centimetre: beyond that no pixel lies

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Spacing:
    """What a level says of its spacing.

    Parameters
    ----------
    um : (float, float) or None
        Micrometres per pixel (x, y).
    note : str
        How that came about, if it is not what everybody would expect.
    by_volume : bool
        The Imaged Volume says so.
    """

    um: Pair | None
    note: str = ""
    by_volume: bool = True


def _by_volume(item: Mapping[str, Any]) -> Pair | None:
    """Return millimetres per pixel from Imaged Volume Width and Height (PS3.3 C.8.12.4)."""
    columns, rows = integer(item, _MATRIX_COLUMNS), integer(item, _MATRIX_ROWS)
    width, height = number(item, _VOLUME_WIDTH), number(item, _VOLUME_HEIGHT)
    return _sound((width / columns, height / rows)) if columns > 0 and rows > 0 else None


def _by_measures(item: Mapping[str, Any]) -> Pair | None:
    """Return millimetres per pixel from Pixel Spacing, which comes as row spacing (y), column spacing (x)."""
    for groups in _GROUPS:
        spacing = numbers(first_item(item, groups, _PIXEL_MEASURES), _PIXEL_SPACING)
        if len(spacing) == 2:
            return _sound((spacing[1], spacing[0]))
    return None


def placing_spacing_mm(item: Mapping[str, Any]) -> Pair | None:
    """Return the millimetres per pixel (x, y) by which pixels are placed on the glass; None if they are unknown.

    PS3.3 C.8.12.2.1 places by Pixel Spacing, whatever else says how large a pixel is; without it by Imaged Volume.
    """
    return _by_measures(item) or _by_volume(item)


def _sound(pair: Pair) -> Pair | None:
    return pair if all(_LEAST_MM <= part <= _MOST_MM for part in pair) else None


def _agree(item: Mapping[str, Any], volume: Pair, measures: Pair) -> bool:
    sides = (integer(item, _MATRIX_COLUMNS), integer(item, _MATRIX_ROWS))
    return all(
        abs(one / other - 1) * side <= max(_TOLERANCE * side, _ROUNDING_PX)
        for one, other, side in zip(volume, measures, sides, strict=True)
    )


def spacing_of(item: Mapping[str, Any], believe: SpacingFrom = "") -> Spacing:
    """Return a level's spacing.

    Parameters
    ----------
    item : DICOM JSON of an instance
    believe : str
        What to go by if Imaged Volume and Pixel Spacing contradict each other.

    Raises
    ------
    SpacingContradictory
        They do, by more than 5 % and more than the rounding of the level's sides, and nobody decided.
    """
    volume, measures = _by_volume(item), _by_measures(item)
    if volume and measures:
        return _agreed(item, volume, measures, believe)
    if volume:
        return Spacing(_um(volume), "spacing is from the Imaged Volume, Pixel Spacing is absent")
    if measures:
        return Spacing(_um(measures), "spacing is from Pixel Spacing, the Imaged Volume is absent", by_volume=False)
    return Spacing(None, "the spacing is unknown: neither Imaged Volume nor Pixel Spacing", by_volume=False)


def _agreed(item: Mapping[str, Any], volume: Pair, measures: Pair, believe: SpacingFrom) -> Spacing:
    if _agree(item, volume, measures):
        return Spacing(_um(volume))
    said = f"Imaged Volume says {_shown(volume)} um/px, Pixel Spacing says {_shown(measures)} um/px"
    if not believe:
        raise SpacingContradictory(
            f"The slide contradicts itself: {said}. Say which to believe with --spacing-from imaged-volume or "
            "--spacing-from pixel-spacing."
        )
    by_volume = believe == "imaged-volume"
    return Spacing(_um(volume if by_volume else measures), f"{said}: {believe} was believed, as asked", by_volume)


def _shown(pair: Pair) -> str:
    across, down = (f"{part * 1000:.4g}" for part in pair)
    return across if across == down else f"{across} x {down}"


def _um(pair: Pair) -> Pair:
    return pair[0] * 1000, pair[1] * 1000


def with_spacing(item: Json, spacing: Spacing) -> Json:
    """Return an instance as EZ-WSI reads its spacing: from the Imaged Volume alone, which it insists on."""
    if spacing.by_volume:
        return item
    completed = dict(item)
    if spacing.um:
        completed[_VOLUME_WIDTH] = _millimetres(spacing.um[0] * integer(item, _MATRIX_COLUMNS) / 1000)
        completed[_VOLUME_HEIGHT] = _millimetres(spacing.um[1] * integer(item, _MATRIX_ROWS) / 1000)
        return completed
    # Without VOLUME in the Image Type, EZ-WSI takes a level whose spacing is undefined.
    kept = [part for part in values_of(item, _IMAGE_TYPE) if str(part).upper() != "VOLUME"]
    completed[_IMAGE_TYPE] = {"vr": "CS", "Value": kept or ["ORIGINAL", "PRIMARY"]}
    for tag in (_VOLUME_WIDTH, _VOLUME_HEIGHT):
        completed.pop(tag, None)
    return completed


def _millimetres(length: float) -> Json:
    return {"vr": "FL", "Value": [length]}
