"""Slidewire's tables read back: to the bit with their provenance, or an error."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import PurePath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.protocols import Result
from connectors.stored_table import read_table
from connectors.tables.protocol import TableContent, TableFile
from connectors.tables.registry import find_table
from models.domain.errors import ResultCorrupt, ResultNotFound
from tests.unit.connectors.dicom.results import make_result

LAYOUTS = [("parquet", ".parquet"), ("numpy", ".npz")]


def marked(count: int = 30) -> Result:
    """Return a result of which some patches fell back."""
    result = make_result(count, 5, None)
    return replace(result, embeddings=replace(result.embeddings, fallbacks=np.arange(count) % 4 == 1))


def table(layout: str, result: Result) -> bytes:
    """Return the only file of a layout."""
    [made] = find_table(layout).write(TableContent("name", result.embeddings, result.provenance))
    assert isinstance(made, TableFile)
    return made.content


@pytest.mark.parametrize(("layout", "suffix"), LAYOUTS)
@pytest.mark.parametrize("count", [30, 0])
def test_all_comes_back(layout: str, suffix: str, count: int) -> None:
    """Values, boxes, exact positions, fallbacks and provenance; of a slide without patches, too."""
    result = marked(count)
    read = read_table(table(layout, result), PurePath(f"x{suffix}"))
    assert np.array_equal(read.matrix, result.embeddings.matrix)
    assert np.array_equal(read.boxes, result.embeddings.boxes)
    assert np.array_equal(read.positions_px, result.embeddings.positions_px)
    assert np.array_equal(read.positions_um, result.embeddings.positions_um)  # type: ignore[arg-type]
    assert np.array_equal(read.fallbacks, result.embeddings.fallbacks)  # type: ignore[arg-type]
    assert (read.provenance, read.digest_verified) == (result.provenance, True)


def test_holes_stay_holes_where_the_table_has_them() -> None:
    """Parquet keeps the place of a hole, and its digest is the same."""
    result = make_result(12, 5, None)
    result.embeddings.matrix[[2, 7]] = np.nan
    result = replace(result, embeddings=replace(result.embeddings))
    read = read_table(table("parquet", result), PurePath("x.parquet"))
    assert np.flatnonzero(read.embeddings.holes).tolist() == [2, 7]
    assert len(read_table(table("numpy", result), PurePath("x.npz"))) == 10


@pytest.mark.parametrize(("layout", "suffix"), LAYOUTS)
def test_a_file_that_is_cut_or_changed_is_corrupt(layout: str, suffix: str) -> None:
    """Half a file, nothing, text, and one number changed."""
    whole = table(layout, marked())
    for content in (whole[: len(whole) // 2], b"", b"slide,x,y\n"):
        with pytest.raises(ResultCorrupt):
            read_table(content, PurePath(f"x{suffix}"))


def _changed_parquet() -> bytes:
    read = pq.read_table(BytesIO(table("parquet", marked())))
    column = read.column_names.index("level_x")
    moved = pa.array(np.asarray(read["level_x"].to_numpy()) + 1, pa.int32())
    buffer = BytesIO()
    pq.write_table(read.set_column(column, "level_x", moved), buffer)
    return buffer.getvalue()


def _changed_npz() -> bytes:
    with np.load(BytesIO(table("numpy", marked()))) as arrays:
        held = {name: arrays[name].copy() for name in arrays}
    held["features"][3, 2] += 1
    buffer = BytesIO()
    np.savez(buffer, **held)
    return buffer.getvalue()


@pytest.mark.parametrize(("change", "suffix"), [(_changed_parquet, ".parquet"), (_changed_npz, ".npz")])
def test_the_digest_decides(change: Callable[[], bytes], suffix: str) -> None:
    """A well-formed file whose numbers are others is found out."""
    with pytest.raises(ResultCorrupt, match="digest"):
        read_table(change(), PurePath(f"x{suffix}"))


def test_tables_of_others_are_not_found() -> None:
    """A table without our provenance, and an archive that would have to be inflated."""
    parquet, arrays, packed = BytesIO(), BytesIO(), BytesIO()
    pq.write_table(pa.table({"x": [1]}), parquet)
    np.savez(arrays, features=np.zeros((2, 2), np.float32))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", bytes(1 << 20))
    for content, suffix in ((parquet, ".parquet"), (arrays, ".npz"), (packed, ".npz")):
        with pytest.raises(ResultNotFound):
            read_table(content.getvalue(), PurePath(f"x{suffix}"))
