"""Regions: GeoJSON in every packing, and every way to get one wrong."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import regions
from connectors.regions import MOST_BYTES, read_regions
from models.domain.errors import TissueFileInvalid
from models.imaging.tissue import TissueMask, tissue_fractions

_SLIDE = (2000, 1000)
_PATCH = 100.0
_SQUARE = [[100, 100], [500, 100], [500, 500], [100, 500], [100, 100]]
_HOLE = [[200, 200], [300, 200], [300, 300], [200, 300], [200, 200]]
_POLYGON = {"type": "Polygon", "coordinates": [_SQUARE]}

Read = Callable[[Any], TissueMask]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write a value as GeoJSON, and read it."""

    def written(data: Any) -> TissueMask:
        path = tmp_path / "regions.geojson"
        path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
        return read_regions(path, _SLIDE, _PATCH)

    return written


def _feature(geometry: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": "Tumor"}}}


def _collection(*geometries: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [_feature(geometry) for geometry in geometries]}


def _nested(depth: int) -> dict[str, Any]:
    item: dict[str, Any] = _POLYGON
    for _ in range(depth):
        item = {"type": "GeometryCollection", "geometries": [item]}
    return item


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000])
def test_no_json(read: Read, data: bytes) -> None:
    """An empty file, broken text and nesting without end are no regions."""
    with pytest.raises(TissueFileInvalid, match=r"no JSON|no GeoJSON"):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        None,
        7,
        "Polygon",
        {},
        {"type": 7},
        {"type": "Circle", "coordinates": [1, 2]},
        {"type": "FeatureCollection"},
        {"type": "FeatureCollection", "features": {"a": 1}},
        {"type": "FeatureCollection", "features": [None]},
        [_feature(_POLYGON), 7],
        [[_feature(_POLYGON)]],
        {"type": "Feature", "geometry": 7},
        {"type": "GeometryCollection", "geometries": [_feature("x")]},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": "x"},
        {"type": "Polygon", "coordinates": [7]},
        {"type": "MultiPolygon", "coordinates": [_SQUARE]},
        {"type": "MultiPolygon", "coordinates": [7]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]},
        {"type": "Polygon", "coordinates": [[[1], [2], [3]]]},
        {"type": "Polygon", "coordinates": [[["1", "2"], ["3", "4"], ["5", "6"]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, None], [5, 6]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, 4, 5], [5, 6]]]},
        {"type": "Polygon", "coordinates": [[[1, 2, 3, 4]] * 4]},
        {"type": "Polygon", "coordinates": [[[True, False]] * 4]},
        _nested(50),
    ],
)
def test_no_geojson(read: Read, data: Any) -> None:
    """JSON that is something else is refused, in one line that quotes nothing of it."""
    with pytest.raises(TissueFileInvalid, match="regions") as caught:
        read(data)
    assert "\n" not in str(caught.value)
    assert "Tumor" not in str(caught.value)


@pytest.mark.parametrize("corner", [float("nan"), float("inf"), 1e300, 2**40, 10**30])
def test_corners_that_are_no_pixels(read: Read, corner: float) -> None:
    """NaN, infinity and numbers beyond any slide are not clipped into something else."""
    with pytest.raises(TissueFileInvalid, match="Polygon 2"):
        read(_collection(_POLYGON, {"type": "Polygon", "coordinates": [[[0, 0], [corner, 0], [5, 5]]]}))


@pytest.mark.parametrize(
    "data",
    [
        {"type": "FeatureCollection", "features": []},
        [],
        _feature(None),
        {"type": "Polygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": []},
        {"type": "Point", "coordinates": [1, 2]},
    ],
)
def test_no_polygon(read: Read, data: Any) -> None:
    """A file without one area cannot say where tissue is."""
    with pytest.raises(TissueFileInvalid, match="hold no polygon"):
        read(data)


def test_polygons_beside_the_slide(read: Read) -> None:
    """Regions of another slide, or in micrometres, do not silently select nothing."""
    with pytest.raises(TissueFileInvalid, match="2000 x 1000 px at level 0"):
        read({"type": "Polygon", "coordinates": [[[3000, 0], [4000, 0], [4000, 500]]]})


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder and one of more than 256 MB are refused before a byte is parsed."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(TissueFileInvalid, match="cannot be read"):
            read_regions(path, _SLIDE, _PATCH)
    huge = tmp_path / "huge.geojson"
    with huge.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # sparse
    with pytest.raises(TissueFileInvalid, match="256 MB"):
        read_regions(huge, _SLIDE, _PATCH)


def test_polygons_over_and_over(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is bounded: polygons that cover the slide many times over are refused before they are drawn."""
    monkeypatch.setattr(regions, "_MOST_WORK_PX", 100_000)
    cover = {"type": "Polygon", "coordinates": [[[0, 0], [2000, 0], [2000, 1000], [0, 1000]]]}
    assert read(cover).share == 1
    with pytest.raises(TissueFileInvalid, match="merge"):
        read(_collection(cover, cover, cover))


@pytest.mark.parametrize(
    "data",
    [
        _POLYGON,
        _feature(_POLYGON),
        _collection(_POLYGON),
        [_feature(_POLYGON)],
        _nested(3),
        {"type": "MultiPolygon", "coordinates": [[_SQUARE]]},
        _collection(None, _POLYGON, {"type": "Polygon", "coordinates": []}),
        {"type": "Polygon", "coordinates": [_SQUARE[:-1]]},
        {"type": "Polygon", "coordinates": [[[x, y, 0.0] for x, y in _SQUARE]]},
        _POLYGON | {"bbox": [0, 0, 9, 9], "crs": None},
    ],
)
def test_every_packing(read: Read, data: Any) -> None:
    """The same square, however it is packed, covers the same share: 400 x 400 of 2000 x 1000 px."""
    assert read(data).share == pytest.approx(0.08, abs=0.002)


def test_holes_and_several_polygons(read: Read) -> None:
    """Holes are left out; overlapping polygons are united."""
    holed = {"type": "Polygon", "coordinates": [_SQUARE, _HOLE]}
    assert read(holed).share == pytest.approx(0.075, abs=0.002)
    assert read(_collection(holed, _POLYGON)).share == pytest.approx(0.08, abs=0.002)
    other = [[x + 1000, y] for x, y in _SQUARE]
    assert read({"type": "MultiPolygon", "coordinates": [[_SQUARE, _HOLE], [other]]}).share == pytest.approx(
        0.155, abs=0.003
    )


def test_a_polygon_over_the_edge(read: Read) -> None:
    """What lies outside the slide is clipped."""
    assert read(
        {"type": "Polygon", "coordinates": [[[-900, -900], [200, -900], [200, 100], [-900, 100]]]}
    ).share == pytest.approx(0.01, abs=0.001)


def test_points_and_lines_are_noted(read: Read) -> None:
    """What encloses nothing is passed over, and said to be; the digest is the file's."""
    data = _collection(_POLYGON, {"type": "Point", "coordinates": [1, 2]}, {"type": "LineString", "coordinates": []})
    found = read(data)
    assert found.notes == ("2 points and lines of the regions enclose nothing",)
    assert found.digest == hashlib.sha256(json.dumps(data).encode()).hexdigest()
    assert (found.method, found.looked_at) == ("regions", "1 polygons of a file")


def test_shares_of_patches_are_true(read: Read) -> None:
    """A triangle's share of each 100 px patch is right to a few parts in a hundred."""
    found = read({"type": "Polygon", "coordinates": [[[0, 0], [1000, 0], [0, 1000]]]})
    boxes = np.asarray([[x, y, 100, 100] for y in range(0, 1000, 100) for x in range(0, 2000, 100)], np.int32)
    scale = (_SLIDE[0] / found.mask.shape[1], _SLIDE[1] / found.mask.shape[0])
    shares = tissue_fractions(found.mask, boxes, scale).reshape(10, 20)
    for row in range(10):
        for column in range(20):
            true = 1.0 if row + column < 9 else 0.5 if row + column == 9 else 0.0
            assert shares[row, column] == pytest.approx(true, abs=0.04)


def test_the_mask_stays_bounded(tmp_path: Path) -> None:
    """On the largest slides, and for the smallest patches, the mask has at most 2^26 pixels, and at least one."""
    path = tmp_path / "regions.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1]]]}))
    assert regions._mask_shape((200_000, 100_000), 448)[0] == round(100_000 * 16 / 448)
    for slide_px in ((2_000_000, 2_000_000), (2_000_000, 10)):
        rows, columns = regions._mask_shape(slide_px, 8)
        assert 1 <= rows * columns <= (1 << 26) + rows + columns
    assert read_regions(path, (1, 1), 224).mask.shape == (1, 1)


_JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.sampled_from(["Polygon", "Feature", "MultiPolygon", "Point"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "coordinates", "features", "geometry", "geometries"]), inner, max_size=3
        )
    ),
    max_leaves=15,
)


@given(_JSON)
def test_junk_is_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, junk: Any) -> None:
    """Whatever JSON there is, it is a mask or one error of ours."""
    path = tmp_path_factory.getbasetemp() / "junk.geojson"
    path.write_text(json.dumps([junk, _collection(junk)] if isinstance(junk, int) else junk))
    with suppress(TissueFileInvalid):
        assert read_regions(path, _SLIDE, _PATCH).mask.any()
