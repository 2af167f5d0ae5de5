"""Results that a map can be made of: a slide that says where it lies, and patches on a grid of it."""

from dataclasses import replace
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from connectors.protocols import Result
from models.domain.embedding import Embeddings
from tests.unit.connectors.dicom.results import make_result, slide

UPRIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TURNED = (0.0, -1.0, 0.0, -1.0, 0.0, 0.0)
TILTED = (0.6, 0.8, 0.0, -0.8, 0.6, 0.0)
SIZE_PX = (5000, 3000)
Pair = tuple[float, float]


def placed_slide(
    orientation: tuple[float, ...] = TURNED, spacing_mm: Pair = (0.0005, 0.00075), size_px: tuple[int, int] = SIZE_PX
) -> Dataset:
    """Return a level that lies somewhere on the glass; `spacing_mm` is (x, y)."""
    dataset = slide()
    dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = size_px
    dataset.ImageOrientationSlide = [str(part) for part in orientation]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = "20.125", "41.5"
    dataset.TotalPixelMatrixOriginSequence = [origin]
    measures = Dataset()
    measures.PixelSpacing = [str(spacing_mm[1]), str(spacing_mm[0])]
    measures.SliceThickness = "0.004"
    groups = Dataset()
    groups.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [groups]
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionRatio = "23.5"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"
    return dataset


def placed_header(**changes: Any) -> dict[str, Any]:
    """Return it as DICOM JSON."""
    header: dict[str, Any] = placed_slide(**changes).to_json_dict()
    return header


def on_grid(
    cells: list[tuple[int, int]],
    header: dict[str, Any] | None = None,
    *,
    stride_px: int = 224,
    scale: Pair = (1.0, 1.0),
    dimension: int = 6,
) -> Result:
    """Return a result with a patch of 224 px in each of some cells (column, row), cut as `stages.plan` cuts.

    `scale` is pixels of the level for one pixel of a patch; `stride_px` counts in the latter.
    """
    result = make_result(len(cells), dimension, placed_header() if header is None else header)
    origins = np.asarray(cells, np.float64).reshape(-1, 2) * stride_px
    start, end = np.rint(origins * np.asarray(scale)), np.rint((origins + 224) * np.asarray(scale))
    boxes = np.hstack([start, end - start]).astype(np.int32)
    embeddings = Embeddings(result.embeddings.matrix, boxes, start, None)
    step_px = (stride_px * scale[0], stride_px * scale[1])
    provenance = replace(result.provenance, stride_px=stride_px)
    return replace(result, embeddings=embeddings, provenance=provenance, step_px=step_px)
