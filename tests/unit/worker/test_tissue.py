"""Tissue, as a request wants it found: EZ-WSI's patches, files of this slide only, frames that are not there."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ez_wsi_dicomweb import dicom_slide, local_dicom_file_interface, patch_generator
from numpy.typing import NDArray
from PIL import Image

from connectors.sources.dicom_files import DicomFilesSource
from models.domain.errors import FrameMissing, FrameUndecodable, SlideIncomplete, TissueFileInvalid
from models.domain.patch import EncodedFrame
from models.domain.request import PatchSpec
from models.domain.slide import Level, Slide, SlideRef
from models.imaging.tissue import kept_patches
from tests.services.memory_slide import MemorySource, make_level, make_slide, random_pixels
from tests.services.slides import SlideOnDisk
from worker.tissue import find_tissue, look_again, overview_level, read_overview, read_thumbnail

_OTSU = PatchSpec(32)


def _section(width_px: int, height_px: int) -> NDArray[np.uint8]:
    """Return white glass with a stained field in the upper left quarter."""
    pixels = np.full((height_px, width_px, 3), 245, np.uint8)
    pixels[: height_px // 2, : width_px // 2] = (170, 90, 160)
    return pixels


def _source(*sizes: tuple[int, int], spacing_um: float = 8.0) -> MemorySource:
    levels = [make_level(*size, (spacing_um * sizes[0][0] / size[0],) * 2) for size in sizes]
    return MemorySource(make_slide(*levels), *(_section(*size) for size in sizes))


class _Faulty(MemorySource):
    """A source that lacks some frames, and gives junk for others."""

    lost: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield what there is, up to the first frame that is missing."""
        for frame in super().frames(level, indices):
            if frame.index in self.lost:
                raise FrameMissing("It is not there.")
            yield replace(frame, data=b"junk") if frame.index in self.broken else frame


def _faulty(lost: set[int], broken: set[int]) -> _Faulty:
    pixels = random_pixels(128, 64)
    source = _Faulty(make_slide(make_level(128, 64)), pixels)
    source.lost, source.broken = frozenset(lost), frozenset(broken)
    return source


def test_no_level_can_be_read() -> None:
    """Without a readable level there is nothing to look at."""
    slide = make_slide(replace(make_level(64, 64), problem="it is upside down"))
    with pytest.raises(SlideIncomplete, match="upside down"):
        find_tissue(MemorySource(slide, _section(64, 64)), _OTSU)


@pytest.mark.parametrize(("lost", "broken", "error"), [({5}, set(), FrameMissing), (set(), {5}, FrameUndecodable)])
def test_frames_that_cannot_be_had_are_an_error(lost: set[int], broken: set[int], error: type[Exception]) -> None:
    """Unless holes are allowed, a frame that is missing or broken ends the search for tissue."""
    with pytest.raises(error):
        find_tissue(_faulty(lost, broken), _OTSU)


def test_frames_that_cannot_be_had_are_holes_if_allowed() -> None:
    """Where holes are allowed, all other frames are still looked at, and the number of holes is noted."""
    source = _faulty({2, 3}, {5})
    seen = read_overview(source, 0, allow_holes=True)
    assert seen.absent == 3
    assert (0,) not in source.requests, "what was given is not asked for again"
    whole = random_pixels(128, 64)
    for tile in range(8):
        row, column = divmod(tile, 4)
        part = (slice(row * 32, row * 32 + 32), slice(column * 32, column * 32 + 32))
        assert np.array_equal(seen.pixels[part], whole[part] if tile not in {2, 3, 5} else np.full((32, 32, 3), 255))
    found = find_tissue(source, PatchSpec(32, missing="mask"))
    assert "3 frames" in found.notes[0]
    assert read_thumbnail(source).shape == (64, 128, 3)


def test_absent_tiles_are_never_asked_for() -> None:
    """What a sparse level leaves out is its background."""
    level = replace(make_level(128, 64), absent=((1, 3), (7, 8)), background=(250, 240, 230))
    source = MemorySource(make_slide(level), random_pixels(128, 64))
    found = read_thumbnail(source)
    assert source.asked == [0, 3, 4, 5, 6]
    assert (found[:32, 32:96] == (250, 240, 230)).all()


def test_otsu() -> None:
    """The smallest level of 1024 px or more is looked at; the field is found, and nothing else."""
    source = _source((4096, 2048), (2048, 1024), (1024, 512), (512, 256))
    found = find_tissue(source, _OTSU)
    assert (found.method, found.digest, found.looked_at, found.notes) == ("otsu", "", "level 2", ())
    assert found.share == pytest.approx(0.25, abs=0.02)
    assert overview_level(source.slide) == 2


@pytest.mark.parametrize("method", ["mask", "regions"])
def test_files_are_read(tmp_path: Path, method: str) -> None:
    """A mask and regions say what is tissue, whatever the slide shows; not one frame is read."""
    source, path = _source((4096, 2048)), tmp_path / "drawn"
    if method == "mask":
        field = np.zeros((100, 200), np.uint8)
        field[50:] = 1
        Image.fromarray(field).save(path, "PNG")
    else:
        lower = [[0, 1024], [4096, 1024], [4096, 2048], [0, 2048]]
        path.write_text(json.dumps({"type": "Polygon", "coordinates": [lower]}))
    found = find_tissue(source, PatchSpec(256, spacing_um=8.0, tissue_method=method, tissue_file=str(path)))
    assert (found.method, len(found.digest)) == (method, 64)
    assert found.share == 0.5
    assert found.mask[-1].all()
    assert source.asked == []


def test_regions_are_as_fine_as_the_patches(tmp_path: Path) -> None:
    """The mask of regions has 16 pixels a patch, at whatever spacing the patches are."""
    path = tmp_path / "drawn"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [[[0, 0], [4096, 0], [0, 2048]]]}))
    for spacing_um, side in ((8.0, 4096 * 16 // 256), (16.0, 4096 * 16 // 512), (None, 4096 * 16 // 256)):
        spec = PatchSpec(256, spacing_um=spacing_um, tissue_method="regions", tissue_file=str(path))
        assert find_tissue(_source((4096, 2048)), spec).mask.shape[1] == side


@pytest.mark.parametrize("name", ["none.png", "none.dcm#Tumour", "drawn.png#Tumour"])
def test_files_that_do_not_fit(tmp_path: Path, name: str) -> None:
    """A mask that is not there, and a segment of what is no Segmentation, are refused."""
    Image.new("L", (200, 100), 1).save(tmp_path / "drawn.png")
    with pytest.raises(TissueFileInvalid):
        find_tissue(_source((4096, 2048)), PatchSpec(tissue_method="mask", tissue_file=str(tmp_path / name)))


@pytest.mark.parametrize(
    ("spacings", "wanted_um", "level"),
    [
        ((0.5, 2.0, 8.0, 32.0), 0.5, 2),  # the one at 1.25X
        ((0.5, 2.0, 7.0, 32.0), 0.5, 2),  # near enough, finer
        ((0.5, 2.0, 9.5, 32.0), 0.5, 2),  # near enough, coarser
        ((0.5, 2.0, 32.0), 0.5, 1),  # finer, by at most eight times
        ((8.0, 16.0, 32.0), 16.0, 1),  # coarser is asked for
    ],
)
def test_the_level_that_ez_wsi_looks_at(spacings: tuple[float, ...], wanted_um: float, level: int) -> None:
    """The level near 1.25X is looked at, or a finer one, or the one that is asked for if that is coarser."""
    sides = [round(2048 * spacings[0] / spacing) for spacing in spacings]
    source = _source(*((side, side) for side in sides), spacing_um=spacings[0])
    found = find_tissue(source, PatchSpec(32, spacing_um=wanted_um, tissue_method="ez-wsi"))
    assert found.looked_at == f"the luminance of level {level}"
    assert found.grey is not None
    assert found.grey.shape == (sides[level], sides[level])


def test_without_a_spacing_ez_wsis_method_looks_at_the_overview() -> None:
    """Where no level has a spacing, the overview stands in for 1.25X."""
    level = make_level(64, 64, None)
    found = find_tissue(MemorySource(make_slide(level), _section(64, 64)), PatchSpec(32, tissue_method="ez-wsi"))
    assert found.share == 0.25


def _grid(level: Level, patch_px: int, stride_px: int) -> NDArray[np.int32]:
    columns, rows = ((side - patch_px) // stride_px + 1 for side in (level.width_px, level.height_px))
    y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1) * stride_px
    return np.stack([x, y, np.full_like(x, patch_px), np.full_like(x, patch_px)], axis=1).astype(np.int32)


@pytest.mark.parametrize("spacing_um", [0.499, 0.998])
@pytest.mark.parametrize(("patch_px", "stride_px"), [(224, 224), (224, 112), (100, 33), (64, 64)])
def test_the_same_patches_as_ez_wsi(cmu_slide: SlideOnDisk, spacing_um: float, patch_px: int, stride_px: int) -> None:
    """On a real slide EZ-WSI's own generator yields exactly the patches that are kept here."""
    source = DicomFilesSource(SlideRef("dicom-files", str(cmu_slide.folder)))
    spec = PatchSpec(patch_px, stride_px, spacing_um, tissue_method="ez-wsi")
    index = round(spacing_um / 0.499) - 1
    level = source.slide.levels[index]
    boxes = _grid(level, patch_px, stride_px)
    kept = kept_patches(find_tissue(source, spec), boxes, level, spec, (level.width_px, level.height_px))
    source.close()
    paths = [str(path) for path in cmu_slide.levels]
    slide = dicom_slide.LocalDicomSlide(local_dicom_file_interface.LocalDicomFileInterface(paths))
    at = sorted(slide.levels, key=lambda one: -one.width)[index]
    generator = patch_generator.DicomPatchGenerator(slide, at, patch_px, stride_size=stride_px)
    # A local patch of EZ-WSI's counts from its own corner, so its place is asked for by its strides.
    strides = [patch_generator.StrideCoordinate(y, x) for y, x in np.argwhere(generator.normalized_tissue_mask)]
    bounds = [generator.strides_to_patch_bounds(stride) for stride in strides]
    assert len(bounds) == len(generator)
    theirs = [(bound.x_origin, bound.y_origin) for bound in bounds]
    assert 0 < len(theirs) < len(boxes)
    assert [(int(x), int(y)) for x, y in boxes[kept][:, :2]] == theirs


def test_a_level_too_large_to_look_at_is_brought_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """What EZ-WSI would read whole is bounded here, and said to be."""
    monkeypatch.setattr("worker.tissue._GREY_PX", 100)
    found = find_tissue(_source((512, 256)), PatchSpec(32, spacing_um=8.0, tissue_method="ez-wsi"))
    assert found.mask.shape == (43, 86)
    assert found.share == pytest.approx(0.25, abs=0.03)
    assert "brought down by 6" in found.notes[0]


def test_a_slide_of_a_problem_level_is_still_seen() -> None:
    """A level that cannot be read is passed over for the next."""
    broken = replace(make_level(1024, 1024), problem="it is upside down")
    slide = Slide(SlideRef("image", "x"), (make_level(2048, 2048), broken), "x")
    assert overview_level(slide) == 0


def test_a_picture_looks_again(tmp_path: Path) -> None:
    """For a picture the tissue is what it was: a file that has changed or gone since leaves it out."""
    source, path = _source((4096, 2048), (1024, 512)), tmp_path / "mask.png"
    thumbnail, mask = look_again(source, _OTSU, ())
    assert thumbnail.shape == (512, 1024, 3)
    assert mask is not None
    assert mask.mean() == pytest.approx(0.25, abs=0.02)
    for spec in (PatchSpec(32, tissue_fraction=None), PatchSpec(32, coordinates=((0, 0),))):
        assert look_again(source, spec, ())[1] is None
    Image.new("L", (200, 100), 1).save(path)
    spec = PatchSpec(32, tissue_method="mask", tissue_file=str(path))
    notes = find_tissue(source, spec).report(1, 2)
    again = look_again(source, spec, notes)[1]
    assert again is not None
    assert again.all()
    Image.new("L", (200, 100), 2).save(path)
    assert look_again(source, spec, notes)[1] is None
    path.unlink()
    assert look_again(source, spec, notes)[1] is None
