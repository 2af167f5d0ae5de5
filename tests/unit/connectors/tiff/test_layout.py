"""Which images of a TIFF file are levels, and what a pixel measures: SVS, OME-TIFF, and other writers' pyramids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from models.domain.errors import PixelsUnsupported, SlideAmbiguous, SourceUnreadable
from models.domain.slide import Slide
from tests.services.tiffs import KINDS, Pixels, halved, open_tiff, texture, write_level, write_pyramid, write_svs

_RAW = KINDS["uncompressed"]
_FINEST = texture(700, 530)
_LEVELS = [_FINEST, halved(_FINEST), halved(halved(_FINEST))]
_OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels ID="Pixels:0" SizeX="{size[0]}" SizeY="{size[1]}" SizeZ="1" SizeC="3" SizeT="1" Type="uint8" '
    'DimensionOrder="XYCZT" {more}/></Image></OME>'
)


def _slide(path: Path) -> Slide:
    source = open_tiff(path)
    source.close()
    return source.slide


def _sizes(slide: Slide) -> list[tuple[int, int]]:
    return [(level.width_px, level.height_px) for level in slide.levels]


def _write(path: Path, *images: tuple[Pixels, dict[str, object]]) -> Path:
    with tifffile.TiffWriter(path) as file:
        for pixels, more in images:
            write_level(file, pixels, _RAW, **more)
    return path


def _pixels_of(shape: tuple[int, ...], kind: type = np.uint8) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
    return np.zeros(shape, kind)


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (_pixels_of((300, 400), np.uint8), {"photometric": "minisblack"}),
        (_pixels_of((300, 400, 3), np.uint16), {"photometric": "rgb"}),
        (_pixels_of((300, 400, 4), np.uint8), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (_pixels_of((3, 300, 400), np.uint8), {"photometric": "rgb", "planarconfig": "separate"}),
        (_pixels_of((300, 400, 3), np.uint8), {"photometric": "rgb", "compression": "webp"}),
        (_pixels_of((300, 400, 3), np.uint8), {"photometric": "cielab"}),
        (_pixels_of((300, 400, 3), np.uint8), {"photometric": "rgb", "software": "Philips DP v1.0"}),
        (_pixels_of((300, 400, 3), np.uint8), {"photometric": "rgb", "software": "MedScan 3"}),
        (_pixels_of((300, 400, 3), np.uint8), {"photometric": "rgb", "extratags": [(700, 1, 8, b"<iScan />", True)]}),
        (_pixels_of((300, 400, 3), np.uint8), {"photometric": "rgb", "extratags": [(65420, 3, 1, 1, True)]}),
    ],
)
def test_unsupported(pixels: Pixels, options: dict[str, object], tmp_path: Path) -> None:
    """Pixels that are no interleaved 8-bit RGB, and scanners' own layouts, are refused by name."""
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, tile=(128, 128), metadata=None, **options)
    with pytest.raises(PixelsUnsupported) as caught:
        _slide(path)
    assert "x.tif" in str(caught.value)


def test_two_planes(tmp_path: Path) -> None:
    """Several images of the slide's size are planes or channels: which one is meant, the user must say."""
    with pytest.raises(SlideAmbiguous):
        _slide(_write(tmp_path / "stack.tif", (_FINEST, {}), (_FINEST, {}), (_LEVELS[1], {})))


def test_large_image_without_tiles(tmp_path: Path) -> None:
    """An image in strips of more than 64 million pixels is not read through a straw."""
    path = tmp_path / "big.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((8100, 8000, 3), np.uint8), photometric="rgb", metadata=None, compression="zstd")
    with pytest.raises(PixelsUnsupported):
        _slide(path)


@pytest.mark.parametrize(("tag", "value"), [(256, 1 << 31), (257, 0), (322, 1 << 20), (322, 0), (256, 7000)])
def test_absurd_sizes(tag: int, value: int, tmp_path: Path) -> None:
    """Sides of 2^31 pixels, of none, or other than the tiles make up are damage, found before anything is allocated."""
    path = _write(tmp_path / "x.tif", (_FINEST, {}))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[tag].overwrite(value, dtype=4)  # type: ignore[union-attr]
    with pytest.raises(SourceUnreadable):
        _slide(path)


def test_svs(tmp_path: Path) -> None:
    """Of an SVS file the tiled images are levels; thumbnail, label and macro are left alone, and that is said."""
    slide = _slide(write_svs(tmp_path / "a.svs", _LEVELS, KINDS["jpeg-rgb-tables"]))
    assert _sizes(slide) == [(700, 530), (350, 265), (175, 132)]
    assert slide.levels[0].spacing_um == (0.25, 0.25)
    assert slide.levels[2].spacing_um == pytest.approx((1.0, 0.25 * 530 / 132))
    assert slide.notes == ("3 other pictures in the file (label, overview, thumbnail) are not read",)


def test_real_svs(cmu_svs: Path) -> None:
    """The published Aperio file has one level of 0.499 um, and three other pictures."""
    slide = _slide(cmu_svs)
    assert _sizes(slide) == [(2220, 2967)]
    assert slide.levels[0].spacing_um == (0.499, 0.499)
    assert (slide.levels[0].frame_width_px, slide.levels[0].photometric) == (240, "RGB")


def test_pictures_of_another_shape_are_no_levels(tmp_path: Path) -> None:
    """A tiled overview among the pages has another shape than the slide, and is left out with a note."""
    slide = _slide(_write(tmp_path / "x.tif", (_FINEST, {}), (_LEVELS[1], {}), (texture(300, 120), {})))
    assert _sizes(slide) == [(700, 530), (350, 265)]
    assert any("another shape" in note for note in slide.notes)


def test_level_that_cannot_be_read(tmp_path: Path) -> None:
    """A coarse level of unreadable pixels is left out with a note; the others serve."""
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as file:
        write_level(file, _FINEST, _RAW)
        file.write(_LEVELS[1].astype(np.uint16), tile=(128, 128), photometric="rgb", metadata=None, subfiletype=1)
        write_level(file, _LEVELS[2], _RAW, subfiletype=1)
    slide = _slide(path)
    assert _sizes(slide) == [(700, 530), (175, 132)]
    assert any("350 x 265" in note and "PIXELS_UNSUPPORTED" in note for note in slide.notes)


def test_order_of_pages_does_not_matter(tmp_path: Path) -> None:
    """Levels are found by their size, wherever in the file they are."""
    slide = _slide(_write(tmp_path / "x.tif", (_LEVELS[2], {}), (_FINEST, {}), (_LEVELS[1], {})))
    assert _sizes(slide) == [(700, 530), (350, 265), (175, 132)]


def test_ome_with_tifffiles_own_metadata(tmp_path: Path) -> None:
    """An OME-TIFF as tifffile writes it, pyramid in SubIFDs, has its spacing from the XML."""
    path = tmp_path / "x.ome.tif"
    about = {
        "axes": "YXS",
        "PhysicalSizeX": 0.5,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.4,
        "PhysicalSizeYUnit": "µm",
    }
    with tifffile.TiffWriter(path, ome=True) as file:
        options: dict[str, object] = {"tile": (128, 128), "photometric": "rgb"}
        file.write(_FINEST, subifds=2, metadata=about, **options)
        for level in _LEVELS[1:]:
            file.write(level, subfiletype=1, **options)
    slide = _slide(path)
    assert _sizes(slide) == [(700, 530), (350, 265), (175, 132)]
    assert slide.levels[0].spacing_um == (0.5, 0.4)
    assert slide.levels[1].spacing_um == (1.0, 0.8)
    assert slide.notes == ()
    assert slide.name == "x"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ('PhysicalSizeX="0.25" PhysicalSizeY="0.5"', (0.25, 0.5)),
        ('PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="2.5E-4" PhysicalSizeYUnit="mm"', (0.25, 0.25)),
        (
            'PhysicalSizeX="0.25" PhysicalSizeXUnit="\u03bcm" PhysicalSizeY="0.25" PhysicalSizeYUnit="&#181;m"',
            (0.25, 0.25),
        ),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel" PhysicalSizeY="1" PhysicalSizeYUnit="pixel"', None),
        ('PhysicalSizeX="0.25"', None),
        ('PhysicalSizeX="x" PhysicalSizeY="0.25"', None),
        ('PhysicalSizeX="1e9" PhysicalSizeY="1e9"', None),
        ('PhysicalSizeX="-1" PhysicalSizeY="-1"', None),
    ],
)
def test_ome_units(more: str, expected: tuple[float, float] | None, tmp_path: Path) -> None:
    """PhysicalSize is read in any unit of length; what is no length, or none a slide can have, is unknown."""
    xml = _OME.format(size=(700, 530), more=more).encode()
    slide = _slide(_write(tmp_path / "x.ome.tif", (_FINEST, {"description": xml})))
    found = slide.levels[0].spacing_um
    assert found == (pytest.approx(expected) if expected else None)
    assert bool(slide.notes) == (expected is None)


def test_ome_of_several_images(tmp_path: Path) -> None:
    """The spacing is that of the image with the slide's size, not of its label."""
    label = _OME.format(size=(300, 200), more='PhysicalSizeX="20" PhysicalSizeY="20"')
    both = label + _OME.format(size=(700, 530), more='PhysicalSizeX="0.3" PhysicalSizeY="0.3"')
    slide = _slide(_write(tmp_path / "x.ome.tif", (texture(300, 200), {"description": both.encode()}), (_FINEST, {})))
    assert slide.levels[0].spacing_um == (0.3, 0.3)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((40000, 20000), 3, (0.25, 0.5)),
        ((50800, 50800), 2, (0.5, 0.5)),
        ((72, 72), 2, None),  # a default of 72 dots per inch is none of a slide
        ((40000, 40000), 1, None),  # no unit
        ((0, 0), 3, None),
    ],
)
def test_resolution_tags(
    resolution: tuple[int, int], unit: int, expected: tuple[float, float] | None, tmp_path: Path
) -> None:
    """The resolution tags count if they have a unit and are plausible, and that they were used is said."""
    path = _write(tmp_path / "x.tif", (_FINEST, {"resolution": resolution, "resolutionunit": unit}))
    slide = _slide(path)
    assert slide.levels[0].spacing_um == expected
    assert slide.notes == (
        ("the spacing is from the TIFF resolution tags",) if expected else ("the file does not say its pixel spacing",)
    )


def test_halving_that_rounds_either_way(tmp_path: Path) -> None:
    """Levels rounded up or down at each step are levels; one that misses by more is another picture."""
    odd = texture(701, 533)
    for size, level in (((350, 266), True), ((351, 267), True), ((175, 133), True), ((350, 280), False)):
        slide = _slide(_write(tmp_path / "x.tif", (odd, {}), (texture(*size), {})))
        assert (len(slide.levels) == 2) == level, size


def test_dead_links_do_not_hide_the_finest(tmp_path: Path) -> None:
    """Of two levels of one size the first is read, and the second is named."""
    slide = _slide(_write(tmp_path / "x.tif", (_FINEST, {}), (_LEVELS[1], {}), (_LEVELS[1], {})))
    assert _sizes(slide) == [(700, 530), (350, 265)]
    assert any("second level" in note for note in slide.notes)


_WRITERS: dict[str, Callable[..., Path]] = {"svs": write_svs, "pages": write_pyramid}


@pytest.mark.parametrize("writer", _WRITERS)
def test_every_kind_has_its_levels(writer: str, tmp_path: Path) -> None:
    """However tiles are compressed, the levels are the same."""
    for name, kind in KINDS.items():
        slide = _slide(_WRITERS[writer](tmp_path / f"{name}.tif", _LEVELS[1:], kind))
        assert _sizes(slide) == [(350, 265), (175, 132)], name
