"""CLAM's layout, read as CLAM reads it; the reader is `tests.reference.layouts.clam`."""

from pathlib import Path

import numpy as np
import pytest

from connectors.tables.clam import TABLE
from tests.reference.layouts import clam
from tests.unit.connectors.tables.contents import (
    foreign,
    laid_out,
    make_content,
    upper_left,
    with_fallbacks,
    with_holes,
)


@pytest.mark.parametrize("count", [0, 1, 30])
def test_both_files_hold_the_same(tmp_path: Path, count: int) -> None:
    """Trainers that load tensors and those that load HDF5 are given the same features, to the bit."""
    content = make_content(count)
    folder = laid_out(TABLE, content, tmp_path)
    features, coords = clam.load_h5(folder, "S-1")
    assert features.numpy().tobytes() == content.embeddings.matrix.tobytes()
    assert clam.load_pt(folder, "S-1").equal(features)
    assert coords.dtype == np.int32
    assert np.array_equal(coords, upper_left(content.embeddings))


def test_patches_can_be_read_again(tmp_path: Path) -> None:
    """Size and level are those of the patch, so that a reader of CLAM's patch files finds the same pixels."""
    assert clam.patcher_settings(laid_out(TABLE, make_content(2), tmp_path), "S-1") == (224, 1, 1)


def test_holes_are_left_out(tmp_path: Path) -> None:
    """No row is NaN in either file."""
    content = with_fallbacks(with_holes(make_content(9), [0, 4]), [4, 5])
    folder = laid_out(TABLE, content, tmp_path)
    assert clam.load_pt(folder, "S-1").numpy().tobytes() == content.embeddings.whole().matrix.tobytes()
    assert np.array_equal(clam.load_h5(folder, "S-1")[1], upper_left(content.embeddings.whole()))


def test_a_slide_without_spacing_is_no_matter(tmp_path: Path) -> None:
    """CLAM counts in pixels."""
    assert clam.load_pt(laid_out(TABLE, foreign(), tmp_path), "foreign").shape == (4, 5)


def test_the_tensor_comes_last() -> None:
    """CLAM skips slides that have a tensor: it is there only when the other file is."""
    assert [file.path.rpartition(".")[2] for file in TABLE.write(make_content(2))] == ["h5", "pt"]
