"""The grid of the patches: each in its cell, each cell where the slide has it; what lies nowhere is refused."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from highdicom.spatial import PixelToReferenceTransformer
from pydicom.dataset import Dataset

from connectors.dicom.result.cell_grid import CellGrid
from models.domain.errors import ResultError
from models.domain.patch import PatchGrid
from models.domain.plan import Plan
from models.domain.request import PatchSpec
from models.domain.slide import Level, Slide, SlideRef
from tests.unit.connectors.dicom.placed import SIZE_PX, TILTED, TURNED, UPRIGHT, on_grid, placed_header, placed_slide
from worker.stages.plan import plan_patches

CELLS = [(0, 0), (3, 1), (20, 11), (7, 8)]


@pytest.mark.parametrize("orientation", [UPRIGHT, TURNED, TILTED])
@pytest.mark.parametrize("spacing_mm", [(0.0005, 0.0005), (0.00050123456789, 0.00075)])
@pytest.mark.parametrize(
    ("stride_px", "scale"), [(224, (1.0, 1.0)), (100, (1.0, 1.0)), (300, (1.0, 1.0)), (224, (1.0023, 1.0011))]
)
def test_a_patch_and_its_cell_are_at_the_same_place_on_the_glass(
    orientation: tuple[float, ...], spacing_mm: tuple[float, float], stride_px: int, scale: tuple[float, float]
) -> None:
    """The centre of a patch in the slide and that of its cell in the map are one point, within a picometre."""
    source = placed_slide(orientation, spacing_mm)
    cells = [cell for cell in CELLS if max(cell) * stride_px * max(scale) < 2500]
    grid = CellGrid.of(on_grid(cells, source.to_json_dict(), stride_px=stride_px, scale=scale))
    origin = source.TotalPixelMatrixOriginSequence[0]
    place = (float(origin.XOffsetInSlideCoordinateSystem), float(origin.YOffsetInSlideCoordinateSystem), 0.0)
    of_slide = PixelToReferenceTransformer(place, orientation, spacing_mm[::-1])
    of_map = PixelToReferenceTransformer(grid.origin_mm, grid.orientation, grid.spacing_mm[::-1])
    # As asked for, before boxes were rounded to whole pixels; a pixel's index is that of its centre.
    centres = (np.asarray(cells) * stride_px + 112) * np.asarray(scale) - 0.5
    whole = np.asarray(cells, int)
    assert np.array_equal(grid.cells, whole[:, ::-1])
    expected = _transformed(of_slide, centres)
    assert np.allclose(_transformed(of_map, whole), expected, rtol=0, atol=1e-9)


def _transformed(transformer: PixelToReferenceTransformer, points: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Return points in millimetres; the transformer takes whole pixels only, and is linear."""
    corners = transformer(np.asarray([[0, 0], [1, 0], [0, 1]]))
    return np.asarray(corners[0] + points @ (corners[1:] - corners[0]))


@pytest.mark.parametrize("spacing_um", [0.5, 0.8, 1.3, None])
@pytest.mark.parametrize("stride_px", [None, 100, 224, 333])
def test_every_grid_of_a_plan_fits(spacing_um: float | None, stride_px: int | None) -> None:
    """However the planner resamples and rounds, each of its patches has the cell of its number, and no cell is left."""
    width, height = 9973, 7919
    level = Level(width, height, 256, 256, (0.5, 0.4999), "RGB", ())
    slide = Slide(SlideRef("image", "x"), (level,), "x")
    spec = PatchSpec(spacing_um=spacing_um, stride_px=stride_px, tissue_fraction=None)
    plan = plan_patches(slide, spec, None, 8)
    header = placed_header(spacing_mm=(0.0005, 0.0004999), size_px=(width, height))
    result = on_grid([(0, 0)] * len(plan.grid), header)
    provenance = replace(result.provenance, stride_px=spec.step_px)
    embeddings = replace(result.embeddings, boxes=_in_asked_order(plan.grid))
    grid = CellGrid.of(
        replace(result, embeddings=embeddings, provenance=provenance, step_px=plan.step_px(spec.step_px))
    )
    assert grid.columns * grid.rows == len(plan.grid)
    assert np.array_equal(grid.cells, np.stack(np.divmod(np.arange(len(plan.grid)), grid.columns), axis=1))


def _in_asked_order(grid: PatchGrid) -> np.ndarray:  # type: ignore[type-arg]
    return grid.boxes[np.argsort(grid.rows)]


@pytest.mark.parametrize("width", [9973, 10007, 4999, 65521])
def test_a_row_of_patches_that_just_fits(width: int) -> None:
    """A slide that is so many patches wide, and not a pixel wider, has so many columns, whatever the scale."""
    for columns in range(1, 45):
        scale = width / (columns * 224)
        header = placed_header(size_px=(width, 3000))
        assert CellGrid.of(on_grid([(0, 0)], header, scale=(scale, 1.0))).columns == columns


def test_without_a_spacing_the_step_is_unknown() -> None:
    """A plan without micrometres has no step."""
    level = Level(1000, 1000, 256, 256, None, "RGB", ())
    plan = plan_patches(Slide(SlideRef("image", "x"), (level,), "x"), PatchSpec(tissue_fraction=None), None, 8)
    assert isinstance(plan, Plan)
    assert plan.step_px(224) is None


def test_boxes_cover_the_slide_cell_by_cell() -> None:
    """Cells side by side have the boxes of their patches; of overlapping ones the middle, a step wide."""
    grid = CellGrid.of(on_grid([(0, 0), (1, 0)]))
    assert (grid.columns, grid.rows) == (SIZE_PX[0] // 224, SIZE_PX[1] // 224)
    boxes = grid.boxes()
    assert boxes[:2].tolist() == [[0, 0, 224, 224], [224, 0, 224, 224]]
    assert boxes[grid.columns].tolist() == [0, 224, 224, 224]
    assert CellGrid.of(on_grid([(0, 0)], stride_px=100)).boxes()[1].tolist() == [162, 62, 100, 100]


def _without(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


def _set(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: setattr(dataset, keyword, value)


def _no_measures(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def _no_offset(dataset: Dataset) -> None:
    del dataset.TotalPixelMatrixOriginSequence[0].YOffsetInSlideCoordinateSystem


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_without("FrameOfReferenceUID"), "Frame of Reference"),
        (_set("FrameOfReferenceUID", ""), "Frame of Reference"),
        (_without("ImageOrientationSlide"), "Orientation"),
        (_set("ImageOrientationSlide", ["1", "0", "0", "1", "0", "0"]), "Orientation"),
        (_set("ImageOrientationSlide", ["0", "0", "0", "0", "0", "0"]), "Orientation"),
        (_set("ImageOrientationSlide", ["1", "0", "0"]), "Orientation"),
        (_without("TotalPixelMatrixOriginSequence"), "Origin"),
        (_no_offset, "Origin"),
        (_no_measures, "Pixel Spacing"),
        (_without("TotalPixelMatrixColumns"), "no grid"),
    ],
)
def test_a_slide_that_does_not_say_where_it_lies(spoil: Callable[[Dataset], None], said: str) -> None:
    """What has no place is refused, and what is lacking is named."""
    source = placed_slide()
    spoil(source)
    with pytest.raises(ResultError, match=said):
        CellGrid.of(on_grid(CELLS, source.to_json_dict()))


def test_the_imaged_volume_will_do() -> None:
    """Without Pixel Spacing the Imaged Volume says how large a pixel is."""
    source = placed_slide()
    _no_measures(source)
    source.ImagedVolumeWidth, source.ImagedVolumeHeight = SIZE_PX[0] * 0.0005, SIZE_PX[1] * 0.00075
    grid = CellGrid.of(on_grid(CELLS, source.to_json_dict()))
    assert grid.spacing_mm == pytest.approx((0.112, 0.168), rel=1e-6)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([672, 224, 224, 224], "two patches"),
        ([100, 0, 224, 224], "no grid"),
        ([0, 226, 224, 224], "no grid"),
        ([-224, 0, 224, 224], "no grid"),
        ([5040, 0, 224, 224], "no grid"),
    ],
)
def test_patches_chosen_by_hand(box: list[int], said: str) -> None:
    """Patches beside the grid, outside it, or twice at one place make no map."""
    result = on_grid(CELLS)
    result.embeddings.boxes[0] = box
    with pytest.raises(ResultError, match=said):
        CellGrid.of(result)


def test_a_step_that_is_unknown_or_too_fine() -> None:
    """Without the distance from patch to patch there is no grid; with one of a pixel it is too large."""
    with pytest.raises(ResultError, match="unknown"):
        CellGrid.of(replace(on_grid(CELLS), step_px=None))
    with pytest.raises(ResultError, match="too large"):
        CellGrid.of(on_grid(CELLS, stride_px=1))
