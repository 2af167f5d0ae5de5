"""Slides of every structure, sound and broken: what is said of their completeness is what can be read of them."""

import re
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import pytest
from pydicom.dataset import FileDataset

from connectors.dicom.completeness import completeness_of
from connectors.dicom.traits import traits_of
from models.domain.errors import NotASlide, SlideAmbiguous, SlidewireError, SpacingContradictory
from tests.rows import structures
from tests.rows.structures import TILES, picture

_PIXELS = picture(40, 64, 64)  # a level of four tiles
_SPARSE = picture(41)


def _json(dataset: FileDataset) -> dict[str, Any]:
    """Return an instance as a server gives its metadata: without its pixels."""
    return dict(dataset.to_json_dict(bulk_data_threshold=1024, bulk_data_element_handler=lambda _: "bulk"))


def _changed(**attributes: Any) -> FileDataset:
    """Return a level of four tiles with other attributes; None: without them."""
    dataset = structures.level(_PIXELS)
    for name, value in attributes.items():
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def _gaps(*, declared: bool) -> FileDataset:
    dataset = structures.sparse(_SPARSE, range(TILES - 1))
    if not declared:
        del dataset.DimensionOrganizationType
    return dataset


def _parts(*kept: int, sparse: bool = False, total: bool = True) -> list[FileDataset]:
    """Return parts of a concatenation of three."""
    if sparse:
        parts = [structures.sparse(_SPARSE, tiles) for tiles in ([4, 2, 9], [0, 19], [7])]
        for number, (part, before) in enumerate(zip(parts, (0, 3, 5), strict=True), 1):
            part.ConcatenationUID, part.InConcatenationNumber, part.InConcatenationTotalNumber = "1.2.3", number, 3
            part.ConcatenationFrameOffsetNumber = before
    else:
        parts = structures.concatenation(_SPARSE, [0, 3, 11])
    for part in parts:
        if not total:
            del part.InConcatenationTotalNumber
    return [parts[one] for one in kept]


def _paths() -> FileDataset:
    dataset = structures.level(_PIXELS, structures.tiles_of(_PIXELS) * 2)
    structures.optical_paths(dataset, {"HE": "brightfield", "DF": "dark field"})
    return dataset


def _planes() -> FileDataset:
    dataset = structures.level(_PIXELS, structures.tiles_of(_PIXELS) * 3)
    dataset.TotalPixelMatrixFocalPlanes = 3
    return dataset


def _kind(kind: str) -> FileDataset:
    return _changed(ImageType=["ORIGINAL", "PRIMARY", kind, "NONE"])


def _contradictory() -> FileDataset:
    dataset = structures.level(_PIXELS)
    dataset.ImagedVolumeWidth *= 2
    return dataset


_TORN = structures.tiles_of(_PIXELS)[:3]
_ROWS: dict[str, tuple[Callable[[], list[FileDataset]], str | type[SlidewireError]]] = {
    "01 tiled sparse": (lambda: [_gaps(declared=True)], ""),
    "02 nobody says that a gap is glass": (lambda: [_gaps(declared=False)], "19 of 20 tiles"),
    "02 no type, a full grid": (lambda: [_changed(DimensionOrganizationType=None)], ""),
    "05 concatenation": (lambda: _parts(2, 0, 1), ""),
    "05 concatenation without total": (lambda: _parts(0, 1, 2, total=False), ""),
    "05 sparse concatenation": (lambda: _parts(1, 0, 2, sparse=True), ""),
    "05 sparse, nobody says how many": (lambda: _parts(0, 1, 2, sparse=True, total=False), "6 of 20 tiles"),
    "06 the first part missing": (lambda: _parts(1, 2), "17 of 20 tiles are there, missing of the 3 parts .*: 1$"),
    "06 a middle part missing": (lambda: _parts(0, 2), "12 of 20 tiles are there, missing of the 3 parts .*: 2$"),
    "06 the last part missing": (lambda: _parts(0, 1), "11 of 20 tiles are there, missing of the 3 parts .*: 3$"),
    "06 missing, without total": (lambda: _parts(0, 2, total=False), "12 of 20 tiles"),
    "06 a sparse part missing": (lambda: _parts(0, 2, sparse=True), "missing of the 3 parts .*: 2$"),
    "06 of a level below": (lambda: [structures.level(_PIXELS), *_parts(0, 1)], "level 0 .* 11 of 20 tiles"),
    "11 optical paths": (lambda: [_paths()], SlideAmbiguous),
    "12 focal planes": (lambda: [_planes()], SlideAmbiguous),
    "13 no imaged volume": (lambda: [_changed(ImagedVolumeWidth=None, ImagedVolumeHeight=None)], ""),
    "15 two spacings": (lambda: [_contradictory()], SpacingContradictory),
    "20 too few frames": (lambda: [structures.level(_PIXELS, _TORN)], "3 of 4 tiles"),
    "20 no number of frames": (lambda: [_changed(NumberOfFrames=None)], "1 of 4 tiles"),
    "20 too many frames": (lambda: [_changed(NumberOfFrames=9)], "frames beyond its 4 places"),
    "21 no matrix": (lambda: [_changed(TotalPixelMatrixColumns=0)], NotASlide),
    "21 a senseless matrix": (lambda: [_changed(TotalPixelMatrixColumns=1 << 31)], NotASlide),
    "24 label, overview, thumbnail": (
        lambda: [_kind("LABEL"), _kind("LABEL"), _kind("OVERVIEW"), _kind("THUMBNAIL"), structures.level(_PIXELS)],
        "",
    ),
    "24 label alone": (lambda: [_kind("LABEL")], "there is no level, but a label"),
    "25 annotations": (lambda: [_changed(SOPClassUID="1.2.840.10008.5.1.4.1.1.91.1")], NotASlide),
    "25 annotations beside a slide": (
        lambda: [_changed(SOPClassUID="1.2.840.10008.5.1.4.1.1.91.1"), structures.level(_PIXELS)],
        "",
    ),
    "28 level twice": (lambda: [structures.level(_PIXELS), structures.level(_PIXELS)], ""),
    "28 level twice, one torn": (lambda: [structures.level(_PIXELS, _TORN), structures.level(_PIXELS)], ""),
    "29 one bad instance": (lambda: [structures.level(_PIXELS), _changed(TotalPixelMatrixRows=None)], ""),
    "29 a bad instance alone": (lambda: [_changed(ImageType=None)], NotASlide),
    "32 sixteen bits": (lambda: [_changed(BitsAllocated=16)], NotASlide),
}


def _said(metadata: Sequence[Any]) -> str:
    """Return the digest of a set and what it lacks, or the name of the error."""
    try:
        found = completeness_of(metadata)
    except SlidewireError as exc:
        return type(exc).__name__
    return f"{found.set_sha256} {found.missing}"


@pytest.mark.parametrize("row", _ROWS)
def test_rows(row: str) -> None:
    """Each row is whole, lacks what it lacks, or is refused with its error; in any order, and listed twice."""
    build, expected = _ROWS[row]
    metadata = [_json(dataset) for dataset in build()]
    traits_of("pacs", metadata)
    if isinstance(expected, str):
        found = completeness_of(metadata)
        assert found.whole == (not expected), found.missing
        assert found.instances == len(metadata)
        if expected:
            [missing] = found.missing
            assert re.search(expected, missing), missing
    else:
        with pytest.raises(expected):
            completeness_of(metadata)
    said = _said(metadata)
    assert {_said(order) for order in list(permutations(metadata))[:24]} == {said}
    assert _said([*metadata, *metadata]) == said
