"""Slides of every structure, sound and broken: each gives the right pixels or is refused, from files and from a PACS.

The rows are those of docs/slides.md.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import generate_uid

from models.domain.errors import (
    NotASlide,
    PatchOutsideSlide,
    SlideAmbiguous,
    SlideIncomplete,
    SlidewireError,
    SourceUnreadable,
    SpacingContradictory,
)
from models.domain.request import PatchSpec
from models.domain.slide import Reading
from tests.rows import structures
from tests.rows.structures import PATCH_PX, STRIDE_PX, TILE_PX, TILES, Open, Pixels, Structure, painted, picture, read
from tests.services.command import Slidewire
from tests.services.hostile import Answer, Asked, hostile_server, passed_on
from tests.services.orthanc import Orthanc
from tests.services.slides import SlideOnDisk

_ANY = Reading()
_HOLES = PatchSpec(PATCH_PX, STRIDE_PX, spacing_um=None, tissue_fraction=None, missing="mask")
_ANNOTATIONS = "1.2.840.10008.5.1.4.1.1.91.1"


@pytest.fixture(params=["files", "pacs"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Open a slide from its files, and again from a real Orthanc that it was loaded into."""
    if request.param == "files":
        return structures.open_files
    orthanc: Orthanc = request.getfixturevalue("orthanc")

    def load_and_open(slide: Structure, reading: Reading) -> Any:
        orthanc.load(slide.folder)
        return structures.open_pacs(orthanc.dicomweb, slide, reading)

    return load_and_open


def _half(pixels: Pixels) -> Pixels:
    return np.ascontiguousarray(pixels[::2, ::2])


def _pyramid(pixels: Pixels) -> list[FileDataset]:
    """Return two levels."""
    below = structures.level(_half(pixels), spacing_um=1.0)
    below.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    return [structures.level(pixels), below]


def _at(spacing_um: float | None, **more: Any) -> PatchSpec:
    return PatchSpec(PATCH_PX, STRIDE_PX, spacing_um=spacing_um, tissue_fraction=None, **more)


def _refused(opened: Open, slide: Structure, error: type[SlidewireError], words: str) -> None:
    with pytest.raises(error, match=words):
        read(opened(slide, _ANY))


def test_row_01_tiled_sparse(opened: Open, tmp_path: Path) -> None:
    """Frames lie where they say, in whatever order; what is left out is glass, and nothing is made of glass alone."""
    pixels, absent = picture(1), (6, 7, 12, 19)
    held = [tile for tile in np.random.default_rng(1).permutation(TILES).tolist() if tile not in absent]
    slide = Structure.write(tmp_path / "slide", structures.sparse(pixels, held))
    found = read(opened(slide, _ANY), _at(None))
    found.assert_shows(painted(pixels, absent))
    assert not found.holes.any()
    glass = painted(pixels, absent) == 255
    assert not any(glass[y : y + high, x : x + wide].all() for x, y, wide, high in found.boxes)
    assert any(glass[y : y + high, x : x + wide].any() for x, y, wide, high in found.boxes)
    passed_over = found.plan.grid_patches - len(found.boxes)
    assert passed_over > 0
    assert any(note.startswith(f"{passed_over} patches") for note in found.plan.notes)


def test_row_01_absent_tiles_of_another_colour(opened: Open, tmp_path: Path) -> None:
    """A recommended colour for absent tiles is what they are, to the level of an 8-bit sample."""
    pixels = picture(2)
    dataset = structures.sparse(pixels, [tile for tile in range(TILES) if tile != 7])
    lightness = 80.0
    dataset.RecommendedAbsentPixelCIELabValue = [round(lightness / 100 * 65535), 0x8080, 0x8080]
    luminance = ((lightness + 16) / 116) ** 3  # CIE 15, and the sRGB curve of IEC 61966-2-1
    grey = round((1.055 * luminance ** (1 / 2.4) - 0.055) * 255)
    found = read(opened(Structure.write(tmp_path / "slide", dataset), _ANY))
    found.assert_shows(painted(pixels, [7], (grey, grey, grey)))


def test_row_02_organization_type_absent(opened: Open, tmp_path: Path) -> None:
    """Without a Dimension Organization Type the frames' own places count; without those, a full grid by rows."""
    pixels = picture(3)
    said, full = structures.sparse(pixels, list(reversed(range(TILES)))), structures.level(pixels)
    for place, dataset in enumerate((said, full)):
        del dataset.DimensionOrganizationType
        read(opened(Structure.write(tmp_path / str(place), dataset), _ANY)).assert_shows(pixels)


def test_row_02_neither_type_nor_places(opened: Open, tmp_path: Path) -> None:
    """Fewer frames than the grid has, and nothing that says where they lie: refused."""
    pixels = picture(3)
    dataset = structures.level(pixels, structures.tiles_of(pixels)[:-1])
    del dataset.DimensionOrganizationType
    slide = Structure.write(tmp_path / "slide", dataset)
    _refused(opened, slide, SlideIncomplete, "do not say where they lie")
    gaps = structures.sparse(pixels, list(range(TILES - 1)))
    del gaps.DimensionOrganizationType  # so nobody says that the gap is glass
    _refused(opened, Structure.write(tmp_path / "gaps", gaps), SlideIncomplete, "19 of 20 frames")


def _without_offsets(part: FileDataset) -> None:
    del part.ConcatenationFrameOffsetNumber


def _without_uid(part: FileDataset) -> None:
    del part.ConcatenationUID


@pytest.mark.parametrize("change", [lambda _: None, _without_offsets, _without_uid], ids=["whole", "offsets", "uid"])
def test_row_05_concatenation(opened: Open, tmp_path: Path, change: Callable[[FileDataset], None]) -> None:
    """Parts in any order are one level, also if they lack their offsets or the UID of the whole."""
    pixels = picture(5)
    parts = structures.concatenation(pixels, [0, 3, 11])
    for part in parts:
        change(part)
    source = opened(Structure.write(tmp_path / "slide", parts[2], parts[0], parts[1]), _ANY)
    [level] = source.slide.levels
    assert [(part.frame_offset, part.frame_count) for part in level.instances] == [(0, 3), (3, 8), (11, 9)]
    read(source).assert_shows(pixels)


def test_row_05_sparse_concatenation(opened: Open, tmp_path: Path) -> None:
    """Parts whose frames say where they lie are one sparse level; if not all are sure to be there, it has no glass."""
    pixels, orders = picture(5), ([4, 2, 9], [0, 19, 1, 3])
    parts = [structures.sparse(pixels, order) for order in orders]
    for number, part in enumerate(parts, 1):
        part.ConcatenationUID, part.InConcatenationNumber, part.InConcatenationTotalNumber = "1.2.3", number, 2
        part.ConcatenationFrameOffsetNumber = 0 if number == 1 else len(orders[0])
    absent = set(range(TILES)) - {tile for order in orders for tile in order}
    whole = Structure.write(tmp_path / "whole", *reversed(parts))
    read(opened(whole, _ANY)).assert_shows(painted(pixels, sorted(absent)))
    for part in parts:
        del part.InConcatenationTotalNumber
        part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    _refused(opened, Structure.write(tmp_path / "parts", *parts), SlideIncomplete, "7 of 20 frames")


def _lost_patches(boxes: Sequence[tuple[int, int, int, int]], lost: range) -> list[bool]:
    """Say for each patch, tile by tile, whether it needs one that is lost."""
    columns = structures.COLUMNS
    return [
        any(
            row * columns + column in lost
            for row in range(y // TILE_PX, (y + high - 1) // TILE_PX + 1)
            for column in range(x // TILE_PX, (x + wide - 1) // TILE_PX + 1)
        )
        for x, y, wide, high in boxes
    ]


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_row_06_part_missing(opened: Open, tmp_path: Path, missing: int) -> None:
    """A missing part is an error; where holes are allowed, they are exactly the patches that need it."""
    pixels, starts = picture(6), [0, 6, 13]
    parts = structures.concatenation(pixels, starts)
    del parts[missing]
    slide = Structure.write(tmp_path / "slide", *parts)
    lost = range(starts[missing], [*starts, TILES][missing + 1])
    _refused(opened, slide, SlideIncomplete, f"{TILES - len(lost)} of 20 frames")
    found = read(opened(slide, _ANY), _HOLES)
    assert found.holes.tolist() == _lost_patches(found.boxes, lost)
    assert found.plan.grid_patches == len(found.boxes)
    found.assert_shows(pixels)


def test_row_06_part_missing_of_the_smallest_level(opened: Open, tmp_path: Path) -> None:
    """Levels that are not needed may lack what they like."""
    pixels = picture(6)
    below = structures.concatenation(_half(pixels), [0, 2])
    slide = Structure.write(tmp_path / "slide", structures.level(pixels), below[1])
    read(opened(slide, _ANY)).assert_shows(pixels)
    with pytest.raises(SlideIncomplete, match="4 of 6 frames"):
        read(opened(slide, _ANY), _at(1.0))


def test_row_06_part_missing_and_no_offsets(opened: Open, tmp_path: Path) -> None:
    """If nothing says what the other parts are, holes cannot be told either."""
    parts = structures.concatenation(picture(6), [0, 6, 13])
    for part in parts:
        del part.ConcatenationFrameOffsetNumber
    slide = Structure.write(tmp_path / "slide", parts[0], parts[2])
    for spec in (_at(None), _HOLES):
        with pytest.raises(SlideIncomplete, match="a part of its concatenation is missing"):
            read(opened(slide, _ANY), spec)


def _shows_magenta(patch: Pixels) -> bool:
    return bool((patch == structures.MAGENTA).all(axis=2).any())


def test_row_10_edge_tiles(opened: Open, tmp_path: Path) -> None:
    """The grid goes as far as the matrix lets it, a patch over the edge is refused, padding is in none of them."""
    pixels = picture(10)
    slide = Structure.write(tmp_path / "slide", structures.level(pixels))
    high, wide = pixels.shape[:2]
    for stride in (1, STRIDE_PX, 31):
        found = read(opened(slide, _ANY), PatchSpec(PATCH_PX, stride, spacing_um=None, tissue_fraction=None))
        found.assert_shows(pixels)
        assert not any(map(_shows_magenta, found.patches))
        right, bottom = np.max([(x + w, y + h) for x, y, w, h in found.boxes], axis=0)
        assert wide - stride < right <= wide
        assert high - stride < bottom <= high
    corner = (wide - PATCH_PX, high - PATCH_PX)
    read(opened(slide, _ANY), _at(None, coordinates=(corner,))).assert_shows(pixels)
    with pytest.raises(PatchOutsideSlide):
        read(opened(slide, _ANY), _at(None, coordinates=((corner[0] + 1, corner[1]),)))


def test_row_10_edge_tiles_resampled(opened: Open, tmp_path: Path) -> None:
    """A resampled patch at the edge takes in nothing from beyond it."""
    pixels = np.full((100, 150, 3), 100, np.uint8)
    slide = Structure.write(tmp_path / "slide", structures.level(pixels))
    found = read(opened(slide, _ANY), PatchSpec(PATCH_PX, 1, spacing_um=0.83, tissue_fraction=None))
    assert max(x + wide for x, _, wide, _ in found.boxes) > 4 * TILE_PX
    assert all((patch == 100).all() for patch in found.patches)


def test_row_11_optical_paths(opened: Open, tmp_path: Path) -> None:
    """Two optical paths are refused by name; each is read when it is chosen, by identifier or description."""
    pictures = {"HE": picture(11), "DF": picture(111)}
    frames = [tile for pixels in pictures.values() for tile in structures.tiles_of(pixels)]
    dataset = structures.level(pictures["HE"], frames)
    structures.optical_paths(dataset, {"HE": "brightfield", "DF": "dark field"})
    slide = Structure.write(tmp_path / "slide", dataset)
    _refused(opened, slide, SlideAmbiguous, "2 optical paths: choose HE, DF with --optical-path")
    with pytest.raises(SlideAmbiguous, match="no optical path DAPI: the slide has HE, DF"):
        opened(slide, Reading(optical_path="DAPI"))
    for wanted, path in {"HE": "HE", "DF": "DF", "dark field": "DF"}.items():
        found = read(opened(slide, Reading(optical_path=wanted)))
        found.assert_shows(pictures[path])
        assert f"optical path {path} was read, of HE, DF" in found.plan.notes


def test_row_11_sparse_optical_paths(opened: Open, tmp_path: Path) -> None:
    """The same where each frame names its path."""
    pictures = {"HE": picture(11), "DF": picture(111)}
    places = [(tile, path, 0.0) for tile in reversed(range(TILES)) for path in ("DF", "HE")]
    cut = {path: structures.tiles_of(pixels) for path, pixels in pictures.items()}
    dataset = structures.level(pictures["HE"], [cut[path][tile] for tile, path, _ in places])
    structures.optical_paths(dataset, {"HE": "brightfield", "DF": "dark field"})
    dataset.DimensionOrganizationType = "TILED_SPARSE"
    structures.place_frames(dataset, places)
    slide = Structure.write(tmp_path / "slide", dataset)
    _refused(opened, slide, SlideAmbiguous, "2 optical paths")
    for path, pixels in pictures.items():
        read(opened(slide, Reading(optical_path=path))).assert_shows(pixels)


def _three_planes(pictures: Sequence[Pixels]) -> FileDataset:
    dataset = structures.level(pictures[0], [tile for pixels in pictures for tile in structures.tiles_of(pixels)])
    dataset.TotalPixelMatrixFocalPlanes = 3
    dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = "0.0015"
    return dataset


def test_row_12_focal_planes(opened: Open, tmp_path: Path) -> None:
    """Three focal planes are refused with their number; each is read when it is chosen, and so is the middle one."""
    pictures = [picture(seed) for seed in (12, 112, 212)]
    below = structures.level(_half(pictures[1]), spacing_um=1.0)
    slide = Structure.write(tmp_path / "slide", _three_planes(pictures), below)
    _refused(opened, slide, SlideAmbiguous, "3 focal planes: choose with --focal-plane 1 to 3, or middle")
    for wrong in ("4", "0", "-1", "1.0", "top"):
        with pytest.raises(SlideAmbiguous, match="the slide has 1 to 3"):
            opened(slide, Reading(focal_plane=wrong))
    for wanted, plane in {"1": 0, "2": 1, "3": 2, "middle": 1}.items():
        found = read(opened(slide, Reading(focal_plane=wanted)))
        found.assert_shows(pictures[plane])
        assert f"focal plane {plane + 1} of 3 was read" in found.plan.notes
        # The level below has one plane, and that is what it shows.
        read(opened(slide, Reading(focal_plane=wanted)), _at(1.0)).assert_shows(_half(pictures[1]))


def test_row_12_sparse_focal_planes(opened: Open, tmp_path: Path) -> None:
    """The same where each frame says its height, from the top down; one plane may be in an instance of its own."""
    pictures = [picture(seed) for seed in (12, 112, 212)]
    cut = [structures.tiles_of(pixels) for pixels in pictures]
    places = [(tile, "1", 1.5 * plane) for plane in (2, 0) for tile in reversed(range(TILES))]
    two = structures.level(pictures[0], [cut[round(height / 1.5)][tile] for tile, _, height in places])
    two.DimensionOrganizationType = "TILED_SPARSE"
    structures.place_frames(two, places)
    one = structures.level(pictures[1])
    one.TotalPixelMatrixOriginSequence[0].ZOffsetInSlideCoordinateSystem = "1.5"
    slide = Structure.write(tmp_path / "slide", two, one)
    for plane, pixels in enumerate(pictures, 1):
        read(opened(slide, Reading(focal_plane=str(plane)))).assert_shows(pixels)


def test_row_12_tiles_focused_one_by_one(opened: Open, tmp_path: Path) -> None:
    """Frames at many heights, and no tile twice: that is one plane, for each tile was focused by itself."""
    pixels = picture(12)
    dataset = structures.sparse(pixels, list(range(TILES)))
    structures.place_frames(dataset, [(tile, "1", tile % 7 * 0.5) for tile in range(TILES)])
    found = read(opened(Structure.write(tmp_path / "slide", dataset), _ANY))
    found.assert_shows(pixels)
    assert found.plan.notes == ()


def test_row_13_no_imaged_volume(opened: Open, tmp_path: Path) -> None:
    """Pixel Spacing alone is enough, with a note: levels are found by it."""
    pixels = picture(13)
    levels = _pyramid(pixels)
    for dataset in levels:
        del dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight
    found = read(opened(Structure.write(tmp_path / "slide", *levels), _ANY), _at(1.0))
    found.assert_shows(_half(pixels))
    assert found.plan.grid.spacing_um == pytest.approx((1.0, 1.0), rel=1e-12)
    assert "spacing is from Pixel Spacing, the Imaged Volume is absent" in found.plan.notes


def test_row_14_no_pixel_measures(opened: Open, tmp_path: Path) -> None:
    """The Imaged Volume alone is enough, with a note."""
    pixels = picture(14)
    levels = _pyramid(pixels)
    for dataset in levels:
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    found = read(opened(Structure.write(tmp_path / "slide", *levels), _ANY), _at(1.0))
    found.assert_shows(_half(pixels))
    assert found.plan.grid.spacing_um == pytest.approx((1.0, 1.0), rel=1e-6)  # a volume is a 32-bit number
    assert "spacing is from the Imaged Volume, Pixel Spacing is absent" in found.plan.notes


def test_row_15_volume_contradicts_pixel_spacing(opened: Open, tmp_path: Path) -> None:
    """A slide that says two things is refused with both; either is believed on request, and noted."""
    pixels = picture(15)
    levels = _pyramid(pixels)
    for dataset in levels:  # half as fine as Pixel Spacing says
        dataset.ImagedVolumeWidth *= 2
        dataset.ImagedVolumeHeight *= 2
    slide = Structure.write(tmp_path / "slide", *levels)
    both = r"Imaged Volume says 1 um/px, Pixel Spacing says 0\.5 um/px"
    _refused(opened, slide, SpacingContradictory, both)
    by_measures = read(opened(slide, Reading(spacing_from="pixel-spacing")), _at(1.0))
    by_measures.assert_shows(_half(pixels))
    by_volume = read(opened(slide, Reading(spacing_from="imaged-volume")), _at(1.0))
    by_volume.assert_shows(pixels)
    for found, believed in ((by_measures, "pixel-spacing"), (by_volume, "imaged-volume")):
        assert any(note.endswith(f"{believed} was believed, as asked") for note in found.plan.notes)


def test_row_20_too_few_frames(opened: Open, tmp_path: Path) -> None:
    """Fewer frames than the grid has tiles are an error before a frame is read, or holes where those are allowed."""
    pixels = picture(20)
    slide = Structure.write(tmp_path / "slide", structures.level(pixels, structures.tiles_of(pixels)[:12]))
    _refused(opened, slide, SlideIncomplete, "12 of 20 frames")
    found = read(opened(slide, _ANY), _HOLES)
    assert found.holes.tolist() == _lost_patches(found.boxes, range(12, TILES))
    found.assert_shows(pixels)


@pytest.mark.parametrize("said", [12, None], ids=["too-small", "missing"])
def test_row_20_number_of_frames(opened: Open, tmp_path: Path, said: int | None) -> None:
    """A number of frames that is too small for grid and pixels, or is not there, is an error before one is read."""
    dataset = structures.level(picture(20))
    dataset.NumberOfFrames = said
    if said is None:
        del dataset.NumberOfFrames
    slide = Structure.write(tmp_path / "slide", dataset)
    with pytest.raises((SlideIncomplete, SourceUnreadable), match=f"{said or 1} (of 20 )?frames"):
        read(opened(slide, _ANY))


@pytest.mark.parametrize("sides", [(0, 0), (1 << 31, 1 << 31), (1 << 21, 1 << 21), (150, (1 << 32) - 1)])
def test_row_21_senseless_matrix(opened: Open, tmp_path: Path, sides: tuple[int, int]) -> None:
    """A matrix of nothing or of more than there can be is refused at once; the other levels are of use."""
    pixels = picture(21)
    senseless = structures.level(pixels)
    senseless.TotalPixelMatrixColumns, senseless.TotalPixelMatrixRows = sides
    slide = Structure.write(tmp_path / "alone", senseless)
    _refused(opened, slide, (NotASlide, SlideIncomplete), "matrix|tiles")  # type: ignore[arg-type]
    senseless.SOPInstanceUID = senseless.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    below = structures.level(_half(pixels), spacing_um=1.0)
    found = read(opened(Structure.write(tmp_path / "slide", senseless, below), _ANY), _at(1.0))
    found.assert_shows(_half(pixels))


def _flavoured(kind: str, frames: int = 1) -> FileDataset:
    """Return a label, overview or thumbnail: other pixels, by their sizes in the way of the pyramid."""
    pixels = picture(24, TILE_PX * frames, TILE_PX)
    dataset = structures.level(pixels)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
    dataset.SpecimenLabelInImage = "YES"
    return dataset


def test_row_24_labels_are_never_fetched(orthanc: Orthanc, tmp_path: Path) -> None:
    """Two labels, a tiled overview and a tiled thumbnail change nothing, and no pixel of theirs is asked for."""
    pixels = picture(124)
    others = [_flavoured("LABEL"), _flavoured("LABEL"), _flavoured("OVERVIEW", 4), _flavoured("THUMBNAIL", 9)]
    slide = Structure.write(tmp_path / "slide", *others, *_pyramid(pixels))
    read(structures.open_files(slide, _ANY)).assert_shows(pixels)
    orthanc.load(slide.folder)
    with hostile_server(lambda _: None, orthanc.dicomweb) as server:
        found = read(structures.open_pacs(server.url, slide, _ANY))
        found.assert_shows(pixels)
        asked = [one.path for one in server.asked]
    assert found.plan.notes == ()
    assert any("/frames/" in path for path in asked)
    uids = [str(other.SOPInstanceUID) for other in others]
    assert not [path for path in asked if any(uid in path for uid in uids)]


def test_row_25_other_objects_in_the_series(opened: Open, tmp_path: Path) -> None:
    """Annotations beside a slide are passed over; alone they are no slide."""
    other = structures.level(picture(25))
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = _ANNOTATIONS
    other.Modality = "ANN"
    pixels = picture(125)
    read(opened(Structure.write(tmp_path / "both", other, *_pyramid(pixels)), _ANY)).assert_shows(pixels)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    _refused(opened, Structure.write(tmp_path / "alone", other), NotASlide, "no whole-slide image")


def _edited(edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], upstream: str) -> Callable[[Asked], Any]:
    """Return an answer that changes the metadata on their way, and passes everything else on."""

    def answer(asked: Asked) -> Answer | None:
        if not asked.path.endswith("/metadata"):
            return None
        given = passed_on(asked, upstream)
        return Answer(given.status, json.dumps(edit(json.loads(given.body))).encode(), given.headers)

    return answer


def test_row_27_instance_listed_twice(orthanc: Orthanc, tmp_path: Path) -> None:
    """A server that lists instances twice, and a folder that holds a file twice, have one slide, and a note."""
    pixels = picture(27)
    slide = Structure.write(tmp_path / "slide", *_pyramid(pixels))
    orthanc.load(slide.folder)
    with hostile_server(_edited(lambda found: [*found, *found], orthanc.dicomweb), orthanc.dicomweb) as server:
        in_pacs = read(structures.open_pacs(server.url, slide, _ANY))
    (slide.folder / "copy.dcm").write_bytes((slide.folder / "0.dcm").read_bytes())
    in_files = read(structures.open_files(slide, _ANY))
    for found, repeated in ((in_pacs, 2), (in_files, 1)):
        found.assert_shows(pixels)
        assert f"{repeated} repeated or nameless instances were passed over" in found.plan.notes


def test_row_28_level_twice(opened: Open, tmp_path: Path) -> None:
    """Of a level that is there twice ORIGINAL comes before DERIVED, then the newest; that is noted."""
    older, newer, encoded = picture(28), picture(128), picture(228)
    levels = [structures.level(pixels) for pixels in (encoded, newer, older)]
    levels[0].ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    for dataset, date in zip(levels, ("20260301", "20260201", "20260101"), strict=True):
        dataset.AcquisitionDateTime = f"{date}120000"
    for place, order in enumerate(([0, 1, 2], [2, 1, 0], [1, 2, 0])):
        for dataset in levels:
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        slide = Structure.write(tmp_path / str(place), *(levels[one] for one in order))
        found = read(opened(slide, _ANY))
        found.assert_shows(newer)
        [note] = found.plan.notes
        assert "twice" in note


def test_row_28_whole_before_original(opened: Open, tmp_path: Path) -> None:
    """A copy that is whole is read before an original that is not."""
    pixels = picture(28)
    whole = structures.level(pixels)
    whole.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    torn = structures.level(pixels, structures.tiles_of(pixels)[:-3])
    read(opened(Structure.write(tmp_path / "slide", torn, whole), _ANY)).assert_shows(pixels)


@pytest.mark.parametrize("name", ["TotalPixelMatrixRows", "ImageType"])
def test_row_29_one_bad_instance(opened: Open, tmp_path: Path, name: str) -> None:
    """An instance that lacks what is needed is passed over with a note; alone it is no slide."""
    pixels = picture(29)
    bad = structures.level(picture(129))
    delattr(bad, name)
    slide = Structure.write(tmp_path / "slide", *_pyramid(pixels), bad)
    found = read(opened(slide, _ANY))
    found.assert_shows(pixels)
    tag = f"{pydicom.datadict.tag_for_keyword(name):08X}"
    assert f"an instance was passed over: attribute {tag} is missing" in found.plan.notes
    bad.SOPInstanceUID = bad.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    _refused(opened, Structure.write(tmp_path / "alone", bad), NotASlide, tag)


def _without_syntax(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{tag: given for tag, given in item.items() if tag not in {"00020010", "00083002"}} for item in found]


def test_row_30_no_transfer_syntax(orthanc: Orthanc, tmp_path: Path) -> None:
    """A server that does not say the transfer syntax is read all the same, and is not asked by QIDO."""
    pixels = picture(30)
    slide = Structure.write(tmp_path / "slide", *_pyramid(pixels))
    orthanc.load(slide.folder)
    with hostile_server(_edited(_without_syntax, orthanc.dicomweb), orthanc.dicomweb) as server:
        read(structures.open_pacs(server.url, slide, _ANY)).assert_shows(pixels)
        assert all("/metadata" in asked.path or "/frames/" in asked.path for asked in server.asked)


def test_files_and_pacs_open_alike(orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """JSON of Orthanc and of pydicom give the same levels, notes and digests; an ordinary slide's are EZ-WSI's."""
    pixels = picture(31)
    planes = structures.level(pixels, structures.tiles_of(pixels) * 3)
    planes.TotalPixelMatrixFocalPlanes = 3
    gaps = structures.sparse(pixels, [9, 2, 4])
    gaps.RecommendedAbsentPixelCIELabValue = [60000, 0x8080, 0x8080]
    slides = [
        Structure.write(tmp_path / "planes", planes),
        Structure.write(tmp_path / "gaps", gaps, *structures.concatenation(_half(pixels), [0, 4])),
        Structure(cmu_slide.folder, cmu_slide.study_uid, cmu_slide.series_uid),
    ]
    reading = Reading(focal_plane="middle")
    for slide in slides:
        orthanc.load(slide.folder)
        files, pacs = structures.open_files(slide, reading), structures.open_pacs(orthanc.dicomweb, slide, reading)
        assert files.slide.levels == pacs.slide.levels
        assert files.slide.notes == pacs.slide.notes
        if slide is slides[2]:
            theirs = [(level.width, level.pixel_spacing.column_spacing_mm * 1000) for level in pacs.ez_wsi.levels]
            ours = [(level.width_px, level.spacing_um and level.spacing_um[0]) for level in pacs.slide.levels]
            assert ours == theirs
        files.close()
        pacs.close()


def test_the_command_refuses_and_takes_the_choice(slidewire: Slidewire, orthanc: Orthanc, tmp_path: Path) -> None:
    """What the message of a refusal says to do is what the command takes."""
    planes = _three_planes([picture(seed) for seed in (12, 112, 212)])
    two = structures.level(picture(15))
    two.ImagedVolumeWidth *= 2
    two.ImagedVolumeHeight *= 2
    parts = structures.concatenation(picture(6), [0, 6, 13])[:2]
    embed = ("--encoder", "pixel-grid", "--native", "--all-patches", "--patch-px", "32", "--out", "out")
    for code, datasets, choice in (
        ("SLIDE_AMBIGUOUS", [planes], ("--focal-plane", "middle")),
        ("SPACING_CONTRADICTORY", [two], ("--spacing-from", "pixel-spacing")),
        ("SLIDE_INCOMPLETE", parts, ("--missing", "mask")),
    ):
        slide = Structure.write(tmp_path / code, *datasets)
        orthanc.load(slide.folder)
        url = f"{orthanc.dicomweb}/studies/{slide.study_uid}/series/{slide.series_uid}"
        for source in (slide.folder, url):
            said = slidewire.failed(code, "embed", source, *embed)
            assert choice[0] in said.json["error"]["message"]
            assert slide.series_uid not in said.stderr
            if code != "SLIDE_INCOMPLETE":
                slidewire.done("embed", source, *embed, *choice)
