"""The plan: the right level, the right boxes (EZ-WSI's), and a refusal where pixels would be invented."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.errors import (
    PatchOutsideSlide,
    RequestError,
    SlideIncomplete,
    SlideTooSmall,
    SpacingTooFine,
)
from models.domain.plan import Plan
from models.domain.request import PatchSpec
from models.domain.slide import Slide, SlideRef
from models.imaging.resample import STRIPE_TILES, FrameUse
from models.imaging.tissue import TissueMask, tissue_fractions
from tests.services.memory_slide import make_level, make_slide, without_tiles
from tests.services.slides import SlideOnDisk
from worker.stages.plan import SPACING_TOLERANCE, plan_patches


def _slide() -> Slide:
    """Return levels of 0.25, 0.5 and 2 um/px."""
    levels = [make_level(1000 // factor, 800 // factor, (0.25 * factor, 0.25 * factor)) for factor in (1, 2, 8)]
    return make_slide(*levels, notes=("assumed",))


def _tissue(mask: NDArray[np.bool_]) -> TissueMask:
    return TissueMask(mask, "otsu", looked_at="level 2", notes=("looked twice",))


def _spec(spacing_um: float | None = 0.5, patch_px: int = 100, **more: object) -> PatchSpec:
    return replace(PatchSpec(patch_px=patch_px, spacing_um=spacing_um, tissue_fraction=None), **more)


def test_too_fine_a_spacing_is_refused() -> None:
    """Pixels finer than the finest level are not invented; the message says what there is."""
    with pytest.raises(SpacingTooFine, match=r"0\.25 um/px at best.*--spacing-um 0\.25.*--native.*--upsample"):
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


def test_absent_tiles_without_a_background_are_a_fault() -> None:
    """A level that lacks tiles for no known reason is refused, with how many it lacks and what could be done."""
    slide = make_slide(without_tiles(make_level(500, 400), {3, 4, 100}))
    with pytest.raises(SlideIncomplete, match=r"205 of 208 frames.*--missing mask"):
        plan_patches(slide, _spec(), None, 4)
    other = make_slide(*_slide().levels[:2], without_tiles(_slide().levels[2], {0}))
    assert plan_patches(other, _spec(0.25), None, 4).grid.level == 0  # not the one that is needed


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


@example(spacing_um=0.01, patch_px=1, stride_px=300, upsample=True)
@given(st.floats(0.01, 2), st.integers(1, 300), st.integers(1, 300), st.booleans())
def test_all_boxes_lie_in_the_level(spacing_um: float, patch_px: int, stride_px: int, upsample: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Whatever is asked for, what is read is inside the level, and every patch once."""
    slide = make_slide(make_level(997, 613, (0.0201, 0.0203)), make_level(331, 207, (0.0603, 0.0607)))
    try:
        found = plan_patches(slide, _spec(spacing_um, patch_px, stride_px=stride_px, upsample=upsample), None, 4)
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
    from ez_wsi_dicomweb import dicom_slide, pixel_spacing, slide_level_map

    from connectors.sources.dicom_files import DicomFilesSource

    slide = DicomFilesSource(SlideRef("dicom-files", str(cmu_slide.folder))).slide
    opened = dicom_slide.LocalDicomSlide([str(path) for path in cmu_slide.levels])
    side, stride = 64, 50
    found = plan_patches(slide, _spec(spacing_um, side, stride_px=stride), None, 4)
    source = next(level for level in opened.levels if level.width == found.level.width_px)
    wanted = pixel_spacing.PixelSpacing(spacing_um / 1000, spacing_um / 1000)
    resized = slide_level_map.ResizedLevel(source, wanted)
    columns = (resized.width - side) // stride + 1
    assert len(found.grid) == columns * ((resized.height - side) // stride + 1)
    for number, box in enumerate(found.grid.boxes.tolist()):
        row, column = divmod(number, columns)
        inner = opened.get_patch(resized, column * stride, row * stride, side, side)._dcm_patch._resized_patch_source
        assert box == [inner.x, inner.y, inner.width, inner.height]


@pytest.mark.parametrize(("spacing_um", "factor"), [(0.125, 2), (0.05, 5), (0.2, 1.25)])
def test_upsampling_is_done_if_it_is_asked_for(spacing_um: float, factor: float) -> None:
    """Fewer pixels of the finest level make up a patch, at the spacing asked for, and a note owns up to it."""
    found = plan_patches(_slide(), _spec(spacing_um, 100, upsample=True), None, 4)
    assert found.grid.level == 0
    assert found.grid.spacing_um == pytest.approx((spacing_um, spacing_um))
    assert found.notes[0] == "assumed"
    assert re.search(r"interpolated \(cubic\) from level 0 \(0\.25 um/px\)", found.notes[1])
    side = 100 / factor
    assert (found.grid.boxes[:, 2:] == side).all()
    across = int(1000 * factor) // 100
    assert len(found.grid) == across * (int(800 * factor) // 100)
    assert found.grid.boxes[:across, 0].tolist() == [column * side for column in range(across)]
    assert (found.grid.boxes[:across, 1] == 0).all()


def test_upsampling_changes_nothing_where_the_slide_is_fine_enough() -> None:
    """The permission to interpolate is not used where there are pixels."""
    for spacing_um in (0.24, 0.25, 0.3, 0.5, 3.0):
        asked = _spec(spacing_um, 20)
        plain, allowed = (plan_patches(_slide(), replace(asked, upsample=up), None, 4) for up in (False, True))
        assert plain.to_bytes() == allowed.to_bytes()


def test_upsampled_coordinates_are_level_0_pixels() -> None:
    """Positions count in pixels of level 0, whatever the spacing of the patch at them."""
    asked = ((0, 0), (900, 700), (950, 750))
    found = plan_patches(_slide(), _spec(0.125, 100, coordinates=asked, upsample=True), None, 4)
    back = np.argsort(found.grid.rows)
    assert found.grid.boxes[back].tolist() == [[x, y, 50, 50] for x, y in asked]
    with pytest.raises(PatchOutsideSlide):
        plan_patches(_slide(), _spec(0.125, 100, coordinates=((951, 0),), upsample=True), None, 4)


def test_an_image_may_be_interpolated_too() -> None:
    """An image brought to more pixels than it has: refused, unless it is asked for."""
    spec = _spec(None, 100, image_px=(2000, 1600), coordinates=((100, 200),), coordinate_space="instance")
    slide = make_slide(_slide().levels[0])
    found = plan_patches(slide, replace(spec, upsample=True), None, 4)
    assert found.grid.boxes.tolist() == [[50, 100, 50, 50]]
    assert "interpolated (cubic) to 2000 x 1600 px" in found.notes[-1]
    with pytest.raises(SpacingTooFine):
        plan_patches(slide, spec, None, 4)


def _sparse(background: tuple[int, int, int] | None) -> tuple[Slide, set[int]]:
    """Return a level of 10 x 8 tiles of 32 px that holds those in the middle, and what it does not hold."""
    held = {row * 10 + column for row in range(2, 6) for column in range(3, 7)}
    absent = set(range(80)) - held
    return make_slide(without_tiles(make_level(320, 256), absent, background)), absent


@given(st.integers(1, 80), st.integers(3, 80))
def test_patches_of_nothing_but_glass_are_passed_over(patch_px: int, stride_px: int) -> None:
    """On a sparse slide exactly the patches with a pixel in a held tile are planned; a note counts the rest."""
    slide, absent = _sparse((255, 255, 255))
    whole = plan_patches(make_slide(make_level(320, 256)), _spec(0.5, patch_px, stride_px=stride_px), None, 4)
    found = plan_patches(slide, _spec(0.5, patch_px, stride_px=stride_px), None, 4)
    held = np.ones((256, 320), bool)
    for tile in absent:
        row, column = divmod(tile, 10)
        held[row * 32 : (row + 1) * 32, column * 32 : (column + 1) * 32] = False
    kept = [held[y : y + height, x : x + width].any() for x, y, width, height in whole.grid.boxes.tolist()]
    assert found.grid.boxes.tolist() == whole.grid.boxes[kept].tolist()
    assert sorted(found.grid.rows.tolist()) == list(range(sum(kept)))
    assert found.grid_patches == len(whole.grid)
    passed_over = len(kept) - sum(kept)
    assert [note for note in found.notes if "passed over" in note] == (
        [f"{passed_over} patches that lie in tiles the slide leaves out were passed over"] if passed_over else []
    )


def test_a_sparse_slide_of_nothing_has_no_patches() -> None:
    """A level of which no tile is held is glass: a plan of nothing."""
    slide = make_slide(without_tiles(make_level(320, 256), range(80), (255, 255, 255)))
    found = plan_patches(slide, _spec(0.5, 64), None, 4)
    assert (len(found.grid), found.grid_patches) == (0, 20)


def test_listed_patches_are_kept_on_glass() -> None:
    """Who lists patches gets all of them, glass or not, and no note of others."""
    slide, _ = _sparse((255, 255, 255))
    found = plan_patches(slide, _spec(0.5, 32, coordinates=((0, 0), (100, 70))), None, 4)
    assert (len(found.grid), found.notes) == (2, ())


def test_holes_are_planned_where_they_are_allowed() -> None:
    """With --missing mask a level with absent tiles is read, all its patches are planned, and the plan says so."""
    slide, _ = _sparse(None)
    whole = plan_patches(make_slide(make_level(320, 256)), _spec(0.5, 64), None, 4)
    found = plan_patches(slide, _spec(0.5, 64, missing="mask"), None, 4)
    assert found.grid.boxes.tolist() == whole.grid.boxes.tolist()
    assert (found.missing, whole.missing) == ("mask", "error")


def test_tissue_and_glass_are_both_looked_at() -> None:
    """A patch that the tissue leaves out is not counted as glass."""
    slide, _ = _sparse((255, 255, 255))
    mask = np.zeros((8, 10), bool)
    mask[2, :] = True  # one row of tiles
    found = plan_patches(slide, _spec(0.5, 32, tissue_fraction=0.5), _tissue(mask), 4)
    assert found.grid.boxes.tolist() == [[32 * column, 64, 32, 32] for column in range(3, 7)]
    assert "10 of 80 patches kept" in found.notes[0]
    assert found.notes[-1] == "6 patches that lie in tiles the slide leaves out were passed over"


def test_the_colour_space_is_in_the_plan() -> None:
    """What the pixels are brought to is fixed with the patches."""
    assert plan_patches(_slide(), _spec(color_profile="srgb"), None, 4).color_profile == "srgb"
    assert plan_patches(_slide(), _spec(), None, 4).color_profile == "none"


def _held(found: Plan) -> int:
    """Return the most frames that are needed both by a patch and by an earlier one, or that one, at the same time."""
    _, first, last = FrameUse.of(found.level, found.grid.boxes).ends()
    change = np.zeros(len(found.grid) + 1, np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last + 1, -1)
    return int(np.cumsum(change).max())


@given(st.integers(1, 30), st.integers(2, 60), st.booleans())
def test_wide_levels_are_read_in_stripes(patch_px: int, stride_px: int, listed: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Stripe by stripe, each from top to bottom and left to right; rows give back the order asked for."""
    level = make_level(4 * 300, 90, frame_px=4)
    spec = _spec(None, patch_px, stride_px=stride_px)
    asked = [(x, y) for y in range(0, 90 - patch_px + 1, stride_px) for x in range(0, 1200 - patch_px + 1, stride_px)]
    if listed:
        spec = replace(spec, coordinates=tuple(asked))
    found = plan_patches(make_slide(level), spec, None, 4)
    row_px = 4 if listed else 1
    keys = [(x // (STRIPE_TILES * 4), y // row_px, x) for x, y, _, _ in found.grid.boxes.tolist()]
    assert keys == sorted(keys)
    assert len({key[0] for key in keys}) == (1200 - patch_px) // stride_px * stride_px // 512 + 1
    back = np.argsort(found.grid.rows)
    assert [tuple(box) for box in found.grid.boxes[back, :2].tolist()] == asked


def test_stripes_bound_what_is_held() -> None:
    """However wide a level, the frames that must be kept are about two rows of a stripe, and its edge."""
    for columns in (300, 3000):
        found = plan_patches(make_slide(make_level(4 * columns, 4 * 20, frame_px=4)), _spec(None, 6), None, 4)
        assert _held(found) <= 2 * (STRIPE_TILES + 2) + 2 * 20


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
    found = plan_patches(_slide(), _spec(0.5, 50, tissue_fraction=least), _tissue(mask), 4)
    assert np.array_equal(found.grid.boxes, whole.grid.boxes[kept])
    assert found.grid.rows.tolist() == list(range(int(kept.sum())))
    assert found.grid_patches == len(whole.grid)
    assert re.fullmatch(rf"tissue: otsu from level 2; {kept.sum()} of {len(kept)} patches kept .*", found.notes[1])
    assert found.notes[2:] == ("looked twice",)


def test_no_tissue_no_patches() -> None:
    """A slide of glass has a plan of nothing, which is no error."""
    found = plan_patches(_slide(), _spec(0.5, 50, tissue_fraction=0.1), _tissue(np.zeros((40, 50), bool)), 4)
    assert (len(found.grid), found.shards(100)) == (0, ())
    assert found.grid_patches > 0


def test_coordinates_are_not_selected_from() -> None:
    """Who lists patches gets all of them, tissue or not."""
    spec = _spec(0.5, 50, coordinates=((0, 0),), tissue_fraction=0.9)
    found = plan_patches(_slide(), spec, _tissue(np.zeros((4, 5), bool)), 4)
    assert (len(found.grid), found.notes) == (1, ("assumed",))


def test_the_same_request_is_the_same_plan() -> None:
    """Nothing random goes into a plan."""
    one, other = (plan_patches(_slide(), _spec(0.7, 33), None, 4).to_bytes() for _ in range(2))
    assert one == other
