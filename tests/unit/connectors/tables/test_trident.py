"""TRIDENT's layout, read as TRIDENT reads it; the reader is `tests.reference.layouts.trident`."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectors.tables.trident import TABLE
from models.domain.errors import ResultError
from tests.reference.layouts import trident
from tests.unit.connectors.tables.contents import (
    files_of,
    laid_out,
    make_content,
    told,
    upper_left,
    with_fallbacks,
    with_holes,
)

RUN = "20x_224px_0px_overlap"


def test_unknown_spacing_is_refused() -> None:
    """TRIDENT has no magnification without a spacing, so the error says what else to take."""
    with pytest.raises(ResultError, match="spacing is unknown: take the layout clam"):
        files_of(TABLE, told(make_content(2), level_0_spacing_um=None))


def test_patches_of_two_sizes_are_refused() -> None:
    """A run has one patch size, which is in its name."""
    content = make_content(3)
    boxes = content.embeddings.boxes.copy()
    boxes[1, 2:] = 300
    with pytest.raises(ResultError, match="from 224 to 300 px: take the layout parquet"):
        files_of(TABLE, replace(content, embeddings=replace(content.embeddings, boxes=boxes)))


@pytest.mark.parametrize("count", [0, 1, 30])
def test_patches_are_read_back(tmp_path: Path, count: int) -> None:
    """Corners are whole pixels of level 0; what TRIDENT would read for a patch is the size that was embedded."""
    content = make_content(count)
    run = laid_out(TABLE, content, tmp_path) / RUN
    attributes, coords = trident.read_coords(run, "S-1")
    assert (coords.dtype, coords.shape) == (np.int64, (count, 2))
    assert np.array_equal(coords, upper_left(content.embeddings))
    assert trident.run_name(attributes) == RUN
    assert trident.region_px(attributes) == attributes["patch_size_level0"] == 896
    assert {name: attributes[name] for name in ("name", "overlap", "level0_width", "level0_height")} == {
        "name": "S-1",
        "overlap": 0,
        "level0_width": 50000,
        "level0_height": 40000,
    }


@pytest.mark.parametrize("count", [0, 1, 30])
def test_features_are_read_back(tmp_path: Path, count: int) -> None:
    """A slide encoder is given every value to the bit, with the corner of its patch and its size at level 0."""
    content = make_content(count)
    batch = trident.slide_batch(laid_out(TABLE, content, tmp_path) / RUN, "efficientnet-lite0", "S-1")
    assert batch["features"].shape == (1, count, 5)
    assert batch["features"].tobytes() == content.embeddings.matrix.tobytes()
    assert np.array_equal(batch["coords"][0], upper_left(content.embeddings))
    assert batch["attributes"]["patch_size_level0"] == 896


def test_holes_are_left_out_of_both_files(tmp_path: Path) -> None:
    """Features and patches stay row by row the same."""
    content = with_fallbacks(with_holes(make_content(9), [0, 4]), [4, 5])
    run = laid_out(TABLE, content, tmp_path) / RUN
    whole = content.embeddings.whole()
    batch = trident.slide_batch(run, "efficientnet-lite0", "S-1")
    assert batch["features"].tobytes() == whole.matrix.tobytes()
    assert np.array_equal(batch["coords"][0], trident.read_coords(run, "S-1")[1])
    assert np.array_equal(batch["coords"][0], upper_left(whole))


@pytest.mark.parametrize(
    ("spacing_um", "scale", "stride_px", "run"),
    [
        (0.25, 1.0, 224, "40x_224px_0px_overlap"),
        (0.2527, 2.0001, 112, "20x_224px_112px_overlap"),
        (0.499, 1.0, 224, "20x_224px_0px_overlap"),
        (0.12475, 4.0, 256, "80x_224px_-32px_overlap"),
        (0.5, 8.0, 224, "2.5x_224px_0px_overlap"),
        (0.262, 1.0, 224, "40x_224px_0px_overlap"),
        (4.0, 1.0, 224, "2.5x_224px_0px_overlap"),
    ],
)
def test_runs_are_named_as_there(spacing_um: float, scale: float, stride_px: int, run: str) -> None:
    """Magnifications are those that TRIDENT sorts slides into, and say nothing more exact than it would."""
    facts = {"level_0_spacing_um": (spacing_um, spacing_um), "level_scale": (scale, scale), "stride_px": stride_px}
    if run.startswith("80x"):
        facts["level_scale"] = (1.0, 1.0)
    paths = files_of(TABLE, told(make_content(2), **facts))
    assert {path.split("/")[1] for path in paths} == {run}


def test_unknown_extent_is_the_text_none(tmp_path: Path) -> None:
    """What TRIDENT does not know it writes as a text, and so do we."""
    run = laid_out(TABLE, told(make_content(2), slide_px=None), tmp_path) / RUN
    assert trident.read_coords(run, "S-1")[0]["level0_width"] == "None"
