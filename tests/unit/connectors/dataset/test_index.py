"""The index of a folder: what footers say, what is torn, and what needs no second look."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.dataset.index import INDEX, read_index, refuse_unreadable, write_index
from models.domain.errors import ResultCorrupt, SourceUnreadable
from tests.unit.connectors.dataset.results import leave_result


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is an error, not an empty dataset."""
    with pytest.raises(SourceUnreadable):
        read_index(str(tmp_path / "nowhere"))


def test_torn_and_foreign_tables(tmp_path: Path) -> None:
    """A torn table is named, one of others is passed over, and a torn one is refused by who needs all."""
    leave_result(tmp_path, "whole", 3)
    (tmp_path / "torn.parquet").write_bytes((next(tmp_path.glob("whole*"))).read_bytes()[:-9])
    (tmp_path / "empty.parquet").write_bytes(b"")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "theirs.parquet")
    (tmp_path / "notes.txt").write_text("not looked at", encoding="utf-8")
    index = read_index(str(tmp_path))
    assert [entry.slide for entry in index.entries] == ["whole"]
    assert index.unreadable == ("empty.parquet", "torn.parquet")
    assert index.foreign == ("theirs.parquet",)
    with pytest.raises(ResultCorrupt, match="2 tables"):
        refuse_unreadable(index)


def test_what_a_footer_says(tmp_path: Path) -> None:
    """Slide, encoder, patches, holes and dimension come from the footer."""
    leave_result(tmp_path, "a", 7, holes=(2, 5), encoder="toy")
    (entry,) = read_index(str(tmp_path)).entries
    assert (entry.slide, entry.encoder, entry.patches, entry.holes, entry.dimension) == ("a", "toy", 7, 2, 4)
    assert entry.size == (tmp_path / entry.file).stat().st_size


def test_the_second_look_opens_only_what_is_new(tmp_path: Path) -> None:
    """A table in the index is not opened again unless its size has changed; one that is gone is forgotten."""
    for slide in "abc":
        leave_result(tmp_path, slide, 5)
    write_index(str(tmp_path), read_index(str(tmp_path)))
    files = {slide: next(tmp_path.glob(f"{slide}.*")) for slide in "abc"}
    files["a"].write_bytes(b"x" * files["a"].stat().st_size)  # of the same size: known, so not looked at
    files["b"].write_bytes(b"torn")
    files["c"].unlink()
    leave_result(tmp_path, "d", 5)
    index = read_index(str(tmp_path))
    assert [entry.slide for entry in index.entries] == ["a", "d"]
    assert index.unreadable == (files["b"].name,)
    assert index.foreign == ()  # the index itself is no table


@pytest.mark.parametrize("content", [b"", b"torn", None])
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: bytes | None) -> None:
    """An index that is torn, or of another version, costs time and nothing else."""
    leave_result(tmp_path, "a", 5)
    if content is None:  # of another version, in which the same columns mean something else
        write_index(str(tmp_path), read_index(str(tmp_path)))
        table = pq.read_table(tmp_path / INDEX, use_threads=False)
        table = table.set_column(table.schema.get_field_index("slide"), "slide", pa.array(["other"]))
        pq.write_table(table.replace_schema_metadata({b"slidewire-index": b"0"}), tmp_path / INDEX)
    else:
        (tmp_path / INDEX).write_bytes(content)
    assert [entry.slide for entry in read_index(str(tmp_path)).entries] == ["a"]


def test_progress(tmp_path: Path) -> None:
    """Each table that was looked at is told of."""
    for slide in "abc":
        leave_result(tmp_path, slide, 2)
    seen: list[int] = []
    read_index(str(tmp_path), seen.append)
    assert sum(seen) == 3
