"""The table: one row a patch, Parquet in memory; canonical form of a result."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.tables.protocol import TableContent, TableFile
from models.domain.embedding import Embeddings, Provenance
from models.domain.errors import ResultCorrupt
from models.domain.slide import safe_name

METADATA_KEY = b"slidewire"


class ParquetTable:
    """The canonical layout: one file."""

    name = "parquet"

    def write(self, content: TableContent) -> Iterator[TableFile]:
        """Yield the file."""
        yield TableFile(f"{content.name}.parquet", to_parquet(content.embeddings, content.provenance))


TABLE = ParquetTable()


def to_table(embeddings: Embeddings, provenance: Mapping[str, Any], level: int) -> pa.Table:
    """Return the table of a result.

    Columns: ``x``, ``y`` (int64, upper left corner in pixels of level 0), ``x_um``, ``y_um`` (float64, null if the
    spacing is unknown), ``level`` (int16, 0 the finest), ``level_x``, ``level_y``, ``level_width``, ``level_height``
    (int32, what was read, in pixels of that level), ``fallback`` (bool, only of an encoder whose pre-processing may
    have to leave a step out: whether it did) and ``embedding`` (fixed-size list of float32; null for a hole, a patch
    whose pixels could not be had). The schema's metadata hold the provenance as JSON under ``slidewire``.
    """
    count = len(embeddings)
    px = np.rint(embeddings.positions_px).astype(np.int64)
    um = embeddings.positions_um
    holes = pa.array(embeddings.holes) if embeddings.holes.any() else None
    values = pa.array(np.ascontiguousarray(embeddings.matrix).reshape(-1), pa.float32())
    columns = {
        "x": pa.array(px[:, 0]),
        "y": pa.array(px[:, 1]),
        "x_um": pa.nulls(count, pa.float64()) if um is None else pa.array(um[:, 0], pa.float64()),
        "y_um": pa.nulls(count, pa.float64()) if um is None else pa.array(um[:, 1], pa.float64()),
        "level": pa.array(np.full(count, level, np.int16)),
        **{
            f"level_{name}": pa.array(np.ascontiguousarray(embeddings.boxes[:, column], np.int32))
            for column, name in enumerate(("x", "y", "width", "height"))
        },
        **({} if embeddings.fallbacks is None else {"fallback": pa.array(embeddings.fallbacks)}),
        "embedding": pa.FixedSizeListArray.from_arrays(values, embeddings.dimension, mask=holes),
    }
    said = {**provenance, "embeddings_sha256": embeddings.digest, "holes": int(embeddings.holes.sum())}
    about = json.dumps(said, sort_keys=True).encode()
    return pa.table(columns).replace_schema_metadata({METADATA_KEY: about})


def to_parquet(embeddings: Embeddings, provenance: Provenance) -> bytes:
    """Return a result as a Parquet file; the same result gives the same bytes."""
    return encode(to_table(embeddings, provenance.to_json(), provenance.level))


def slide_of(name: str, encoder: str, result_key: str) -> str:
    """Return the slide's name out of a result's, as its file is called; all of it if the file was renamed."""
    return name.removesuffix(f".{safe_name(encoder)}.{result_key[:8]}")


def encode(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    sink = pa.BufferOutputStream()
    # Embeddings do not repeat: a dictionary of them only costs.
    plain = [name for name in table.column_names if name != "embedding"]
    pq.write_table(table, sink, compression="zstd", use_dictionary=plain, write_statistics=plain)
    return bytes(sink.getvalue())


def read_parquet(parquet: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a Parquet file, or those of the columns that it has, read in this thread alone.

    A process that ends while threads of pyarrow 26 begin, or let go of a Python object, is aborted (measured, under
    load: 12 % of those that called pyarrow's ``read_table``, and now and then one that had told it to use no threads).

    Raises
    ------
    pyarrow.ArrowException, OSError
        It is no such file.
    """
    with pq.ParquetFile(pa.BufferReader(parquet), pre_buffer=False) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)


def matrix_of(parquet: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the embeddings (N, D) of a Parquet file written here; a hole's row is NaN.

    Raises
    ------
    ResultCorrupt
        It is no such file.
    """
    try:
        read = read_parquet(parquet, ["embedding"])
        column = read["embedding"].combine_chunks()
    except (pa.ArrowException, OSError, KeyError) as exc:
        raise ResultCorrupt("That is no table of embeddings.") from exc
    if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != pa.float32():
        raise ResultCorrupt("That is no table of embeddings: its column is no list of float32 of one length.")
    matrix = np.full((len(column), column.type.list_size), np.nan, np.float32)
    whole = column.is_valid().to_numpy(zero_copy_only=False)
    matrix[whole] = column.flatten().to_numpy().reshape(-1, column.type.list_size)
    return matrix
