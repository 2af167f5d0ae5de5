"""The plan: the right level, the right boxes (EZ-WSI's), and a refusal where pixels would be invented."""

from dataclasses import replace

import numpy as np
import pytest
from ez_wsi_dicomweb import dicom_slide
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import (
    PatchOutsideSlide,
    RequestError,
    SlideIncomplete,
    SlideTooSmall,
    SpacingTooFine,
)
from models.domain.request import PatchSpec
from models.domain.slide import Slide
from models.imaging.tissue import tissue_fractions
from tests.services.memory_slide import make_level, make_slide
from tests.services.slides import SlideOnDisk
from worker.stages.plan import SPACING_TOLERANCE, plan_patches


def _slide() -> Slide:
    """Return levels of 0.25, 0.5 and 2 um/px."""
    levels = [make_level(1000 // factor, 800 // factor, (0.25 * factor, 0.25 * factor)) for factor in (1, 2, 8)]
    return make_slide(*levels, notes=("assumed",))


def _spec(spacing_um: float | None = 0.5, patch_px: int = 100, **more: object) -> PatchSpec:
    return replace(PatchSpec(patch_px=patch_px, spacing_um=spacing_um, tissue_fraction=None), **more)


def test_too_fine_a_spacing_is_refused() -> None:
    """Pixels finer than the finest level are not invented; the message says what there is."""
    with pytest.raises(SpacingTooFine, match=r"0\.25 um/px at best.*--spacing-um 0\.25"):
        plan_patches(_slide(), _spec(0.2), None, 4)


def test_too_large_an_image_is_refused() -> None:
    """Bringing the image to more pixels than it has is inventing too."""
    for size in ((1001, 800), (1000, 801)):
        with pytest.raises(SpacingTooFine):
            plan_patches(_slide(), _spec(image_px=size, coordinates=((0, 0),)), None, 4)


def test_a_slide_without_room_for_a_patch() -> None:
    """Not one patch fits: an error, not an empty result."""
    with pytest.raises(SlideTooSmall, match="500 x 400"):
        plan_patches(_slide(), _spec(0.5, 401), None, 4)


def test_an_endless_grid_is_refused() -> None:
    """A grid beyond all measure is refused before it is made."""
    huge = make_slide(make_level(1 << 20, 1 << 20, frame_px=4096))
    with pytest.raises(RequestError, match="raise stride"):
        plan_patches(huge, _spec(0.5, 10, stride_px=1), None, 4)


def test_the_level_that_is_needed_must_be_whole() -> None:
    """A broken level that is needed is an error with its reason; one that is not is no matter."""
    slide = _slide()
    broken = replace(slide.levels[1], problem="it has 3 of 9 frames")
    slide = replace(slide, levels=(slide.levels[0], broken, slide.levels[2]))
    with pytest.raises(SlideIncomplete, match="3 of 9 frames"):
        plan_patches(slide, _spec(0.5), None, 4)
    assert plan_patches(slide, _spec(0.25), None, 4).grid.level == 0


def test_patches_outside_the_slide_name_the_first() -> None:
    """The first of several patches that reach over the edge is named by number and place."""
    inside, right, above = (0, 0), (950, 0), (5, -1)
    with pytest.raises(PatchOutsideSlide, match=r"2 of 3 .*number 2, at \(950, 0\)"):
        plan_patches(_slide(), _spec(0.25, coordinates=(inside, right, above)), None, 4)


@pytest.mark.parametrize(("corner", "fits"), [((900, 700), True), ((901, 700), False), ((900, 701), False)])
def test_the_edge_belongs_to_the_slide(corner: tuple[int, int], fits: bool) -> None:  # noqa: FBT001 - parameter
    """A patch may touch the edge and not cross it."""
    spec = _spec(0.25, coordinates=(corner,))
    if fits:
        assert plan_patches(_slide(), spec, None, 4).grid.boxes.tolist() == [[*corner, 100, 100]]
    else:
        with pytest.raises(PatchOutsideSlide):
            plan_patches(_slide(), spec, None, 4)


def test_instances_of_several_levels_are_refused() -> None:
    """Coordinates in pixels of the named instances have no meaning if those are several levels."""
    with pytest.raises(RequestError, match="not one level"):
        plan_patches(_slide(), _spec(coordinate_space="instance", coordinates=((0, 0),)), None, 4)


@pytest.mark.parametrize(
    ("spacing_um", "level"), [(0.25, 0), (0.2501, 0), (0.48, 1), (0.5, 1), (0.52, 1), (1.95, 2), (2.09, 2)]
)
def test_a_level_within_tolerance_is_used_as_it_is(spacing_um: float, level: int) -> None:
    """Within 5 % the level's own pixels are read, at their own spacing, without a note."""
    found = plan_patches(_slide(), _spec(spacing_um, 20), None, 4)
    assert found.grid.level == level
    assert found.grid.spacing_um == _slide().levels[level].spacing_um
    assert (found.grid.boxes[:, 2:] == 20).all()
    assert found.notes == ("assumed",)


@pytest.mark.parametrize(("spacing_um", "level"), [(0.3, 0), (0.47, 0), (0.53, 1), (1.0, 1), (1.8, 1), (2.2, 2)])
def test_else_the_next_finer_level_is_resampled(spacing_um: float, level: int) -> None:
    """Beyond 5 % the patch is made from the next finer level, at the spacing asked for, and a note says so."""
    found = plan_patches(_slide(), _spec(spacing_um, 20), None, 4)
    assert found.grid.level == level
    assert found.grid.spacing_um == pytest.approx((spacing_um, spacing_um), rel=0.02)
    assert "resampled by area" in found.notes[1]
    side = 20 * spacing_um / _slide().levels[level].spacing_um[0]  # type: ignore[index]
    assert np.abs(found.grid.boxes[:, 2:] - side).max() <= 1.5


@given(st.floats(0.24, 3))
def test_the_tolerance_is_kept(spacing_um: float) -> None:
    """No plan reads pixels coarser than asked for by more than the tolerance."""
    found = plan_patches(_slide(), _spec(spacing_um, 8), None, 4)
    assert found.grid.spacing_um is not None
    assert found.grid.spacing_um[0] <= spacing_um * (1 + SPACING_TOLERANCE)
    assert (found.grid.boxes[:, 2:] >= 8).all()


@given(st.floats(0.02, 2), st.integers(1, 300), st.integers(1, 300))
def test_all_boxes_lie_in_the_level(spacing_um: float, patch_px: int, stride_px: int) -> None:
    """Whatever is asked for, what is read is inside the level, and the grid is in reading order."""
    slide = make_slide(make_level(997, 613, (0.0201, 0.0203)), make_level(331, 207, (0.0603, 0.0607)))
    try:
        found = plan_patches(slide, _spec(spacing_um, patch_px, stride_px=stride_px), None, 4)
    except (SlideTooSmall, SpacingTooFine):
        return
    boxes, level = found.grid.boxes, found.level
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] > 0).all()
    assert ((boxes[:, :2] + boxes[:, 2:]) <= (level.width_px, level.height_px)).all()
    assert found.grid_patches == len(boxes)
    assert sorted(found.grid.rows.tolist()) == list(range(len(boxes)))


@pytest.mark.parametrize("spacing_um", [0.61, 0.75, 1.3, 2.2, 3.3])
def test_boxes_are_those_of_ez_wsi(cmu_slide: SlideOnDisk, spacing_um: float) -> None:
    """What is read for a resampled patch is what EZ-WSI's ResizedLevel reads, to the pixel."""
    from ez_wsi_dicomweb import pixel_spacing, slide_level_map

    from connectors.dicom.metadata import slide_of
    from models.domain.slide import SlideRef

    opened = dicom_slide.LocalDicomSlide([str(path) for path in cmu_slide.levels])
    slide = slide_of(opened.levels, SlideRef("dicom-files", "x"), "slide", ())
    found = plan_patches(slide, _spec(spacing_um, 64, stride_px=50), None, 4)
    source = next(level for level in opened.levels if level.width == found.level.width_px)
    wanted = pixel_spacing.PixelSpacing(spacing_um / 1000, spacing_um / 1000)
    resized = slide_level_map.ResizedLevel(source, wanted)
    columns = (resized.width - 64) // 50 + 1
    assert len(found.grid) == columns * ((resized.height - 64) // 50 + 1)
    for number, box in enumerate(found.grid.boxes.tolist()):
        row, column = divmod(number, columns)
        inner = opened.get_patch(resized, column * 50, row * 50, 64, 64)._dcm_patch._resized_patch_source
        assert box == [inner.x, inner.y, inner.width, inner.height]


def test_native_reads_the_finest_level() -> None:
    """Without a spacing the source's own pixels are read."""
    found = plan_patches(_slide(), _spec(None), None, 4)
    assert (found.grid.level, found.grid.spacing_um, len(found.grid)) == (0, (0.25, 0.25), 80)
    assert found.notes == ("assumed",)


def test_unknown_spacing_falls_back_to_native() -> None:
    """If nobody knows the spacing, the pixels are read as they are, and that is noted."""
    found = plan_patches(make_slide(make_level(300, 200, None)), _spec(0.5), None, 4)
    assert (found.grid.level, found.grid.spacing_um) == (0, None)
    assert "spacing is unknown" in found.notes[0]


def test_the_grid_covers_the_level_in_reading_order() -> None:
    """Row by row, side by side; what does not fit at the right and bottom is left out."""
    found = plan_patches(_slide(), _spec(0.5, 150), None, 4)
    assert found.grid.boxes.tolist() == [[x, y, 150, 150] for y in (0, 150) for x in (0, 150, 300)]


def test_level_0_coordinates_are_brought_to_the_level() -> None:
    """Positions at level 0 become pixels of the level that is read, and rows keep the order asked for."""
    asked = ((600, 400), (3, 1), (0, 0))
    found = plan_patches(_slide(), _spec(0.5, 50, coordinates=asked), None, 4)
    by_row = {row: box[:2] for row, box in zip(found.grid.rows.tolist(), found.grid.boxes.tolist(), strict=True)}
    assert by_row == {0: [300, 200], 1: [2, 0], 2: [0, 0]}  # halves go to the even neighbour, as EZ-WSI rounds


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 700)), min_size=1, max_size=30))
def test_coordinates_are_read_row_of_frames_by_row(asked: list[tuple[int, int]]) -> None:
    """Listed patches are read in an order that keeps frames together, and every one of them once."""
    found = plan_patches(_slide(), _spec(0.25, coordinates=tuple(asked)), None, 4)
    keys = [(y // found.level.frame_height_px, x) for x, y, _, _ in found.grid.boxes.tolist()]
    assert keys == sorted(keys)
    back = np.argsort(found.grid.rows)
    assert [tuple(box) for box in found.grid.boxes[back, :2].tolist()] == asked


def test_instance_coordinates_are_pixels_of_the_instance() -> None:
    """Path Foundation's coordinates count in the pixels of the instances it names, whatever their spacing."""
    spec = _spec(0.1, 60, coordinates=((7, 9),), coordinate_space="instance")
    found = plan_patches(make_slide(_slide().levels[2]), spec, None, 4)  # 125 x 100 px
    assert found.grid.boxes.tolist() == [[7, 9, 60, 60]]
    spec = replace(spec, patch_px=20, image_px=(25, 50), coordinates=((3, 9),))
    resized = plan_patches(make_slide(_slide().levels[2]), spec, None, 4)
    # One pixel of the image that is asked for is 5 x 2 px of the level.
    assert resized.grid.boxes.tolist() == [[3 * 5, 9 * 2, 20 * 5, 20 * 2]]
    assert "25 x 50" in resized.notes[0]


def test_instance_coordinates_outside_the_resized_image() -> None:
    """Such coordinates are held against the resized image."""
    spec = _spec(0.1, 20, coordinates=((6, 0),), coordinate_space="instance", image_px=(25, 50))
    with pytest.raises(PatchOutsideSlide):
        plan_patches(make_slide(_slide().levels[2]), spec, None, 4)


@pytest.mark.parametrize("least", [0.0, 0.1, 0.5, 1.0])
def test_selection_by_tissue(least: float) -> None:
    """Patches with less tissue than asked for are left out, those with none always; the rest keep their order."""
    mask = np.random.default_rng(4).random((40, 50)) < np.linspace(0, 1.2, 50) - 0.1
    whole = plan_patches(_slide(), _spec(0.5, 50), None, 4)
    shares = tissue_fractions(mask, whole.grid.boxes, (10.0, 10.0))
    kept = (shares >= least) & (shares > 0)
    assert 0 < kept.sum() < len(kept)
    found = plan_patches(_slide(), _spec(0.5, 50, tissue_fraction=least), mask, 4)
    assert np.array_equal(found.grid.boxes, whole.grid.boxes[kept])
    assert found.grid.rows.tolist() == list(range(int(kept.sum())))
    assert found.grid_patches == len(whole.grid)


def test_no_tissue_no_patches() -> None:
    """A slide of glass has a plan of nothing, which is no error."""
    found = plan_patches(_slide(), _spec(0.5, 50, tissue_fraction=0.1), np.zeros((40, 50), bool), 4)
    assert (len(found.grid), found.shards(100)) == (0, ())
    assert found.grid_patches > 0


def test_coordinates_are_not_selected_from() -> None:
    """Who lists patches gets all of them, tissue or not."""
    spec = _spec(0.5, 50, coordinates=((0, 0),), tissue_fraction=0.9)
    assert len(plan_patches(_slide(), spec, np.zeros((4, 5), bool), 4).grid) == 1


def test_the_same_request_is_the_same_plan() -> None:
    """Nothing random goes into a plan."""
    one, other = (plan_patches(_slide(), _spec(0.7, 33), None, 4).to_bytes() for _ in range(2))
    assert one == other
