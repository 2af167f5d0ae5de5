"""Labels from a CSV: one row a slide, or one row a patch if there are columns ``x`` and ``y``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from models.domain.errors import RequestError, SourceUnreadable
from models.domain.slide import safe_name

DEFAULT_ON = "slide"
_CORNER = ("x", "y")
_TAKEN = {
    "slide",
    "x_um",
    "y_um",
    "level",
    "level_x",
    "level_y",
    "level_width",
    "level_height",
    "fallback",
    "embedding",
}


@dataclass(frozen=True)
class Labels:
    """The rows of a CSV, by slide.

    Parameters
    ----------
    table : pyarrow.Table
        Column ``slide`` (string, as results are named), ``x`` and ``y`` (int64, level-0 pixels) if rows are patches,
        and the labels.
    """

    table: pa.Table

    @property
    def of_patches(self) -> bool:
        """Whether a row is a patch, not a slide."""
        return set(_CORNER) <= set(self.table.column_names)

    @property
    def fields(self) -> tuple[pa.Field, ...]:
        """The labels' columns."""
        return tuple(field for field in self.table.schema if field.name not in {"slide", *_CORNER})

    @cached_property
    def slides(self) -> frozenset[str]:
        """The slides that have a row."""
        return frozenset(self.table["slide"].to_pylist())

    @cached_property
    def _rows(self) -> Mapping[str, NDArray[np.int64]]:
        """Which rows are of a slide."""
        names = self.table["slide"].combine_chunks().dictionary_encode()
        codes = names.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(codes, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
        return {str(names.dictionary[int(codes[part[0]])]): part for part in parts if len(part)}

    def of_slide(self, slide: str) -> Mapping[str, pa.Scalar]:
        """Return the labels of a slide by column; null where it has none."""
        rows = self._rows.get(slide)
        if rows is None:
            return {field.name: pa.scalar(None, field.type) for field in self.fields}
        return {field.name: self.table[field.name][int(rows[0])] for field in self.fields}

    def of_corners(self, slide: str, x: NDArray[np.int64], y: NDArray[np.int64]) -> pa.Table:
        """Return the labels of a slide's patches, one row for each corner; null where the CSV has none."""
        rows = self._rows.get(slide, np.empty(0, np.int64))
        known = _places(*(self.table[name].to_numpy()[rows] for name in _CORNER))
        wanted = _places(x, y)
        order = np.argsort(known, kind="stable")
        at = np.searchsorted(known, wanted, sorter=order)
        at = np.minimum(at, max(len(known) - 1, 0))
        hit = known[order[at]] == wanted if len(known) else np.zeros(len(wanted), np.bool_)
        chosen = pa.array(rows[order[at]] if len(known) else np.zeros(len(wanted), np.int64), mask=~hit)
        return self.table.select([field.name for field in self.fields]).take(chosen)


def _places(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.asarray((y.astype(np.int64) << 32) + x.astype(np.int64))


def read_labels(path: str, on: str = DEFAULT_ON) -> Labels:
    """Read a CSV with a header: a column that names the slide, and labels.

    Parameters
    ----------
    path : str
        Or a URI that fsspec knows.
    on : str
        Column with the slides' names: as files are called without their suffix, or series UIDs.

    Raises
    ------
    SourceUnreadable
        There is no such file.
    RequestError
        It is no such CSV, or says two things of one slide or patch.
    """
    try:
        with fsspec.open(path, "rb") as file:
            table = pacsv.read_csv(
                file,
                pacsv.ReadOptions(use_threads=False),
                convert_options=pacsv.ConvertOptions(column_types={on: pa.string()}, strings_can_be_null=True),
            )
    except pa.ArrowException as exc:
        raise RequestError("The labels are no CSV with a header and rows of one length.") from exc
    except (OSError, ImportError) as exc:
        raise SourceUnreadable("The file of labels cannot be read: check path and rights.") from exc
    return _checked(table, on)


def _checked(table: pa.Table, on: str) -> Labels:
    names = table.column_names
    if len(set(names)) != len(names):
        raise RequestError("Two columns of the labels have one name: rename one.")
    if on not in names:
        raise RequestError(f"The labels have no column {on!r} with the slides' names: name it with --on.")
    given = [None if name is None else safe_name(name) for name in table[on].to_pylist()]
    if None in given:
        raise RequestError(f"Row {given.index(None) + 1} of the labels names no slide.")
    table = table.drop_columns([on])
    corner = [name for name in _CORNER if name in table.column_names]
    if len(corner) == 1:
        raise RequestError(f"The labels have a column {corner[0]!r} alone: rows of patches have x and y.")
    taken = sorted(_TAKEN & set(table.column_names))
    if taken:
        raise RequestError(f"The labels have a column {taken[0]!r}, which the tables have, too: rename it.")
    for name in corner:
        table = table.set_column(table.schema.get_field_index(name), name, _whole(table[name], name))
    if not set(table.column_names) - set(corner):
        raise RequestError("The labels have no column besides those that name slide and patch.")
    labels = Labels(table.add_column(0, "slide", pa.array(given, pa.string())))
    _refuse_twice(labels)
    return labels


def _whole(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    try:
        whole = column.cast(pa.int64())
    except pa.ArrowException as exc:
        raise RequestError(f"A value of column {name!r} of the labels is no whole number of pixels.") from exc
    if whole.null_count or bool(pc.any(pc.greater(pc.abs(whole), 2**31 - 1)).as_py()):
        raise RequestError(f"A value of column {name!r} of the labels is missing, or no pixel of a slide.")
    return whole


def _refuse_twice(labels: Labels) -> None:
    keys: list[Any] = ["slide", *_CORNER] if labels.of_patches else ["slide"]
    if labels.table.group_by(keys, use_threads=False).aggregate([]).num_rows != labels.table.num_rows:
        what = "patch" if labels.of_patches else "slide"
        raise RequestError(f"The labels have two rows of one {what}: leave one.")
