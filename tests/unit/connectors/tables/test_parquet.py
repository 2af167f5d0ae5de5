"""The table: what goes in comes out to the bit, and the same result is the same file."""

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.tables.parquet import METADATA_KEY, encode, matrix_of, to_parquet
from models.domain.embedding import Embeddings
from models.domain.errors import ResultCorrupt
from tests.unit.connectors.dicom.results import make_result


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PAR1",
        b"no table at all",
        encode(pa.table({"x": [1, 2]})),
        encode(pa.table({"embedding": [1.0, 2.0]})),
        encode(pa.table({"embedding": [[1.0], [2.0, 3.0]]})),
        encode(pa.table({"embedding": ["a", "b"]})),
    ],
)
def test_other_files_are_no_tables(data: bytes) -> None:
    """Garbage, and Parquet of somebody else, are an error of ours."""
    with pytest.raises(ResultCorrupt):
        matrix_of(data)


def test_damage_is_noticed_or_harmless() -> None:
    """A table that is cut off anywhere is an error."""
    result = make_result(3, 4, None)
    data = to_parquet(result.embeddings, result.provenance)
    for length in range(0, len(data), 97):
        with pytest.raises(ResultCorrupt):
            matrix_of(data[:length])


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 99))
def test_values_come_back_to_the_bit(count: int, dimension: int, seed: int) -> None:
    """Any finite float32 survives, also the smallest and a negative zero."""
    result = make_result(count, dimension, None)
    bits = np.random.default_rng(seed).integers(0, 1 << 32, (count, dimension), np.uint32).view(np.float32)
    matrix = np.where(np.isfinite(bits), bits, np.float32(-0.0))
    one = result.embeddings
    embeddings = Embeddings(matrix, one.boxes, one.positions_px, one.positions_um)
    found = matrix_of(to_parquet(embeddings, result.provenance))
    assert found.dtype == np.float32
    assert found.tobytes() == matrix.tobytes()


@pytest.mark.parametrize("count", [0, 1, 500])
def test_same_result_same_bytes(count: int) -> None:
    """Two writers of one result leave the same file, so a digest can name it."""
    one, other = (make_result(count, 7, None) for _ in range(2))
    assert to_parquet(one.embeddings, one.provenance) == to_parquet(other.embeddings, other.provenance)


def _table(result: Any) -> pa.Table:
    return pq.read_table(BytesIO(to_parquet(result.embeddings, result.provenance)), use_threads=False)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_columns_and_their_types(count: int) -> None:
    """Every table has the same columns of the same types, an empty one too."""
    table = _table(make_result(count, 5, None))
    assert {field.name: str(field.type) for field in table.schema if field.name != "embedding"} == {
        "x": "int64",
        "y": "int64",
        "x_um": "double",
        "y_um": "double",
        "level": "int16",
        **dict.fromkeys(("level_x", "level_y", "level_width", "level_height"), "int32"),
    }
    kind = table.schema.field("embedding").type
    assert (kind.list_size, kind.value_type) == (5, pa.float32())
    assert len(table) == count


def test_rows_say_where_each_patch_lies() -> None:
    """Positions at level 0 in pixels and micrometres, the box that was read, and its level stand in each row."""
    result = make_result(9, 5, None)
    table, one = _table(result).to_pydict(), result.embeddings
    assert table["x"] == np.rint(one.positions_px[:, 0]).tolist()
    assert table["y"] == np.rint(one.positions_px[:, 1]).tolist()
    assert one.positions_um is not None
    assert table["x_um"] == one.positions_um[:, 0].tolist()
    assert table["y_um"] == one.positions_um[:, 1].tolist()
    assert table["level"] == [result.provenance.level] * 9
    for column, name in enumerate(("level_x", "level_y", "level_width", "level_height")):
        assert table[name] == one.boxes[:, column].tolist()
    assert table["embedding"] == one.matrix.tolist()


def test_unknown_spacing_is_null() -> None:
    """No spacing is no number, not zero."""
    result = make_result(3, 2, None)
    one = result.embeddings
    data = to_parquet(Embeddings(one.matrix, one.boxes, one.positions_px, None), result.provenance)
    assert pq.read_table(BytesIO(data), use_threads=False)["x_um"].null_count == 3


def test_metadata_hold_the_provenance_and_the_digest() -> None:
    """The file says by itself how it came about."""
    result = make_result(3, 2, None, notes=("Überschrift",))
    about = json.loads(_table(result).schema.metadata[METADATA_KEY])
    assert about.pop("embeddings_sha256") == result.embeddings.digest
    assert about.pop("holes") == 0
    assert about == json.loads(json.dumps(result.provenance.to_json()))


def test_what_fell_back_is_marked() -> None:
    """A column of its own, only where the encoder can fall back; the values and their digest are the same."""
    result = make_result(4, 3, None)
    marks = np.array([True, False, False, True])
    embeddings = replace(result.embeddings, fallbacks=marks)
    table = _table(replace(result, embeddings=embeddings))
    assert table["fallback"].to_pylist() == marks.tolist()
    assert "fallback" not in _table(result).column_names
    assert embeddings.digest == result.embeddings.digest
    holes = embeddings.matrix.copy()
    holes[0] = np.nan
    whole = replace(embeddings, matrix=holes).whole()
    assert whole.fallbacks is not None
    assert whole.fallbacks.tolist() == [False, False, True]
