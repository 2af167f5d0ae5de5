"""The pixel spacing of a TIFF slide: Aperio's description, OME-XML, or the resolution tags."""

import math
import re

from connectors.tiff.directory import Directory

DESCRIPTION = 270
_X_RESOLUTION, _Y_RESOLUTION, _UNIT = 282, 283, 296
_APERIO_MPP = re.compile(r"\|\s*MPP\s*=\s*([0-9]+(?:\.[0-9]+)?)")
_PIXELS = re.compile(r"<(?:\w+:)?Pixels\b([^<>]*)>")
_ATTRIBUTE = re.compile(r"\b(\w+)\s*=\s*[\"']([^\"'<>]*)[\"']")
# OME schema 2016-06, UnitsLength; micrometre if the file names none. Both signs for micro are in use.
_OME_UM = {
    "nm": 1e-3, "\u00b5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0,
}  # fmt: skip
_UNIT_UM = {2: 25400.0, 3: 10000.0}  # TIFF 6.0: inch, centimetre
_PLAUSIBLE_UM = (0.05, 50.0)

Spacing = tuple[float, float] | None


def is_aperio(description: str) -> bool:
    """Whether a description is that of an SVS file."""
    return description.startswith("Aperio")


def spacing_of(directory: Directory, description: str, size: tuple[int, int]) -> tuple[Spacing, str]:
    """Return the spacing (x, y) of an image in micrometres, and a note on where it is from if that is no firm place.

    Parameters
    ----------
    directory : Directory
        Of the finest level.
    description : str
        ImageDescription of the file's first image.
    size : (int, int)
        Of the finest level in pixels: an OME file may describe several images.
    """
    if is_aperio(description):
        found = _APERIO_MPP.search(description)
        spacing = _checked(float(found[1]), float(found[1])) if found else None
        if spacing:
            return spacing, ""
    ome = _ome(description, size)
    if ome:
        return ome, ""
    unit_um = _UNIT_UM.get(directory.number(_UNIT, 2), 0.0)  # inch is the default (TIFF 6.0 page 38)
    x, y = (_first(directory, tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    spacing = _checked(unit_um / x, unit_um / y) if x > 0 and y > 0 else None
    if spacing:
        return spacing, "the spacing is from the TIFF resolution tags"
    return None, "the file does not say its pixel spacing"


def _first(directory: Directory, tag: int) -> float:
    values = directory.numbers(tag)
    return float(values[0]) if len(values) and math.isfinite(values[0]) else 0.0


def _checked(x_um: float, y_um: float) -> Spacing:
    """Return a spacing if a slide can have it: a default of 72 dots per inch, say, is none."""
    low, high = _PLAUSIBLE_UM
    return (x_um, y_um) if low <= x_um <= high and low <= y_um <= high else None


def _ome(description: str, size: tuple[int, int]) -> Spacing:
    """Read PhysicalSize of the `Pixels` element that has the level's size.

    Nothing is parsed as XML: two numbers and their units are all that is wanted, from a stranger's file.
    """
    for found in _PIXELS.finditer(description):
        values = dict(_ATTRIBUTE.findall(found[1]))
        if (values.get("SizeX"), values.get("SizeY")) != (str(size[0]), str(size[1])):
            continue
        sides = []
        for axis in ("X", "Y"):
            unit = (
                values.get(f"PhysicalSize{axis}Unit", "\u00b5m").replace("&#181;", "\u00b5").replace("&#xB5;", "\u00b5")
            )
            try:
                sides.append(float(values.get(f"PhysicalSize{axis}", "nan")) * _OME_UM.get(unit, math.nan))
            except ValueError:
                return None
        return _checked(sides[0], sides[1])
    return None
