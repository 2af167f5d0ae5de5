"""Regions drawn by hand: the polygons of a GeoJSON file (RFC 7946) in level-0 pixels, as QuPath exports them."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.domain.errors import TissueFileInvalid
from models.imaging.polygons import Ring, fill_polygons, filling_cost
from models.imaging.tissue import TissueMask

MOST_BYTES = 256_000_000
_MASK_PX_A_PATCH = 16  # mask pixels a patch's side: its share is then known to about one part in a hundred
_MOST_MASK_PX = 1 << 26
_MOST_WORK_PX = 1 << 32  # mask pixels under all polygons together; about a minute
_DEEPEST = 8  # collections in collections; QuPath needs 2
_FARTHEST_PX = 2.0**31
_WITHOUT_AREA = {"Point", "MultiPoint", "LineString", "MultiLineString"}

Polygon = list[Ring]


@dataclass(frozen=True, slots=True)
class _Found:
    polygons: list[Polygon]
    passed_over: int


def read_regions(path: Path, slide_px: tuple[int, int], patch_px: float) -> TissueMask:
    """Read polygons as a mask.

    Parameters
    ----------
    path : Path
        A FeatureCollection, Feature, GeometryCollection, Polygon or MultiPolygon, or a list of Features. Inside
        a polygon counts the even-odd rule, between polygons their union.
    slide_px : (int, int)
        Width and height of level 0, which the coordinates count in.
    patch_px : float
        Side of a patch in pixels of level 0; decides how fine the mask is.

    Raises
    ------
    TissueFileInvalid
        The file is no such GeoJSON, is larger than 256 MB, or none of its polygons touches the slide.
    """
    data = _bytes_of(path)
    try:
        found = _polygons(json.loads(data))
    except (ValueError, RecursionError) as exc:
        raise TissueFileInvalid("The regions are no JSON text: export them as GeoJSON.") from exc
    if not found.polygons:
        raise TissueFileInvalid("The regions hold no polygon: draw at least one area.")
    shape = _mask_shape(slide_px, patch_px)
    scale = (slide_px[0] / shape[1], slide_px[1] / shape[0])
    if filling_cost(found.polygons, shape, scale) > _MOST_WORK_PX:
        raise TissueFileInvalid(
            f"The {len(found.polygons):,} polygons of the regions cover the slide many times over: merge them."
        )
    mask = fill_polygons(found.polygons, shape, scale)
    if not mask.any():
        raise TissueFileInvalid(
            f"No polygon of the regions encloses anything of the slide ({slide_px[0]} x {slide_px[1]} px at level 0): "
            "coordinates are to be in pixels of level 0."
        )
    notes = (f"{found.passed_over} points and lines of the regions enclose nothing",) if found.passed_over else ()
    looked_at = f"{len(found.polygons):,} polygons of a file"
    return TissueMask(mask, "regions", hashlib.sha256(data).hexdigest(), looked_at, None, notes)


def _bytes_of(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise TissueFileInvalid("The regions have more than 256 MB: simplify the polygons.")
        return path.read_bytes()
    except OSError as exc:
        raise TissueFileInvalid(f"The regions cannot be read: {exc.strerror}.") from exc


def _mask_shape(slide_px: tuple[int, int], patch_px: float) -> tuple[int, int]:
    """Return rows and columns of a mask in which a patch is 16 px, or as many as memory allows."""
    area = slide_px[0] * slide_px[1]
    factor = min(1.0, _MASK_PX_A_PATCH / max(patch_px, 1.0), (_MOST_MASK_PX / area) ** 0.5)
    return max(1, round(slide_px[1] * factor)), max(1, round(slide_px[0] * factor))


def _polygons(data: Any) -> _Found:
    polygons: list[Polygon] = []
    passed_over = 0
    for geometry in _geometries(data, "FeatureCollection", _DEEPEST):
        kind, coordinates = geometry.get("type"), geometry.get("coordinates")
        if kind in _WITHOUT_AREA:
            passed_over += 1
            continue
        parts = [coordinates] if kind == "Polygon" else coordinates
        if not isinstance(parts, list):
            raise TissueFileInvalid(f"A {kind} of the regions has no list of coordinates.")
        for part in parts:
            if not isinstance(part, list):
                raise TissueFileInvalid(f"A {kind} of the regions has no list of rings.")
            if part:  # RFC 7946 3.1: an empty array is a geometry of nothing
                polygons.append([_ring(ring, len(polygons)) for ring in part])
    return _Found(polygons, passed_over)


def _geometries(item: Any, within: str, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the geometries of a GeoJSON object, however it is packed."""
    if isinstance(item, list) and depth == _DEEPEST:
        item = {"type": "FeatureCollection", "features": item}  # as QuPath once exported
    kind = item.get("type") if isinstance(item, dict) else None
    if not isinstance(kind, str) or depth < 0:
        raise TissueFileInvalid(f"A {within} of the regions holds what is no GeoJSON object, or is nested too deep.")
    if kind == "Feature":
        if item.get("geometry") is not None:  # RFC 7946 3.2: a feature may lie nowhere
            yield from _geometries(item["geometry"], kind, depth - 1)
    elif kind in {"FeatureCollection", "GeometryCollection"}:
        members = item.get("features" if kind == "FeatureCollection" else "geometries")
        if not isinstance(members, list):
            raise TissueFileInvalid(f"A {kind} of the regions has no list of members.")
        for member in members:
            yield from _geometries(member, kind, depth - 1)
    elif kind in {"Polygon", "MultiPolygon"} | _WITHOUT_AREA:
        yield item
    else:
        raise TissueFileInvalid("The regions hold an object that GeoJSON does not know.")


def _ring(points: Any, number: int) -> Ring:
    try:
        corners = np.asarray(points)
    except ValueError:
        corners = np.empty(0, object)
    if corners.ndim != 2 or corners.shape[1] not in {2, 3} or corners.dtype.kind not in "iuf" or len(corners) < 3:
        raise TissueFileInvalid(f"Polygon {number + 1} of the regions has an outline that is no list of points.")
    flat = corners[:, :2].astype(np.float64)
    if not np.isfinite(flat).all() or np.abs(flat).max() > _FARTHEST_PX:
        raise TissueFileInvalid(f"Polygon {number + 1} of the regions has corners that are no pixels of a slide.")
    return flat
