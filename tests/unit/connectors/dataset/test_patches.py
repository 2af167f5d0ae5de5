"""The dataset: lazily read, filtered without opening files in vain, with the right label at each patch."""

from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest

from connectors.dataset.patches import PatchDataset, open_dataset
from models.domain.errors import RequestError, ResultCorrupt, ResultNotFound
from tests.unit.connectors.dataset.results import leave_result


def _labels(folder: Path, text: str) -> str:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three slides; one has holes."""
    leave_result(tmp_path, "a", 6)
    leave_result(tmp_path, "b", 8, holes=(0, 3))
    leave_result(tmp_path, "c", 4)
    return tmp_path


def test_nothing_there(tmp_path: Path) -> None:
    """A folder without results is no dataset."""
    with pytest.raises(ResultNotFound):
        open_dataset(str(tmp_path))


def test_a_torn_table(folder: Path) -> None:
    """A dataset does not leave out what it cannot read."""
    (folder / "d.parquet").write_bytes(b"torn")
    with pytest.raises(ResultCorrupt):
        open_dataset(str(folder))


def test_two_recipes(folder: Path) -> None:
    """Slides embedded in two ways are not mixed: the ways are named, and one is chosen."""
    leave_result(folder, "a", 6, encoder="other", recipe="cd" * 32)
    with pytest.raises(RequestError, match="other cdcdcdcd"):
        open_dataset(str(folder))
    assert [entry.slide for entry in open_dataset(str(folder), recipe="cdcd").entries] == ["a"]
    assert len(open_dataset(str(folder), encoder="efficientnet-lite0").entries) == 3


def test_two_tables_of_a_slide(folder: Path) -> None:
    """Of two results of a slide the one with fewer holes counts; of two alike none is chosen."""
    whole = leave_result(folder, "b", 8)
    found = open_dataset(str(folder)).table(["embedding"], pads.field("slide") == "b")
    assert found["embedding"].combine_chunks().flatten().to_numpy().tobytes() == whole.matrix.tobytes()
    leave_result(folder, "a", 5, result_key="77" * 32)
    with pytest.raises(RequestError, match="same name"):
        open_dataset(str(folder))


def test_a_table_changes(folder: Path) -> None:
    """A table that goes while the dataset is open is an error, not a smaller dataset."""
    opened = open_dataset(str(folder))
    next(folder.glob("b.*")).unlink()
    with pytest.raises(ResultCorrupt):
        opened.table()


def test_unknown_columns(folder: Path) -> None:
    """A column or label that does not exist is named, and so are those that do."""
    opened = open_dataset(str(folder), _labels(folder, "slide,grade\na,1\n"))
    with pytest.raises(RequestError, match=r"'stage'.*grade"):
        opened.arrays("stage")
    with pytest.raises(RequestError, match="'nothing'"):
        opened.arrays("grade", group="nothing")
    with pytest.raises(RequestError, match="'z'"):
        opened.table(["z"])


def test_no_slide_has_a_label(folder: Path) -> None:
    """Labels of other slides are no training data."""
    with pytest.raises(ResultNotFound, match="grade"):
        open_dataset(str(folder), _labels(folder, "slide,grade\nz,1\n")).arrays("grade")


def test_all_of_it(folder: Path) -> None:
    """All rows come, slide by slide in the order of names, holes as null."""
    table = open_dataset(str(folder)).table()
    assert table["slide"].to_pylist() == ["a"] * 6 + ["b"] * 8 + ["c"] * 4
    assert table["embedding"].null_count == 2
    assert open_dataset(str(folder)).dataset.count_rows() == 18


def test_labels_of_slides(folder: Path) -> None:
    """Each patch has its slide's label; a filter on it opens only the files it has to."""
    opened = open_dataset(str(folder), _labels(folder, "slide,grade,patient\na,1,p\nc,2,q\n"))
    table = opened.table(["slide", "grade"])
    assert dict(zip(table["slide"].to_pylist(), table["grade"].to_pylist(), strict=True)) == {"a": 1, "b": None, "c": 2}
    next(folder.glob("a.*")).unlink()
    next(folder.glob("b.*")).unlink()
    assert opened.table(["slide"], pads.field("grade") == 2)["slide"].to_pylist() == ["c"] * 4


def test_arrays(folder: Path) -> None:
    """Arrays hold the patches with label and embedding, their groups beside them."""
    one = leave_result(folder, "b", 8, holes=(0, 3))
    opened = open_dataset(str(folder), _labels(folder, "slide,grade,patient\nb,1,p\nc,2,p\n"))
    arrays = opened.arrays("grade", group="patient")
    assert arrays.matrix.shape == (10, 4)
    assert arrays.matrix[:6].tobytes() == one.whole().matrix.tobytes()
    assert arrays.labels.tolist() == [1] * 6 + [2] * 4
    assert arrays.groups.tolist() == ["p"] * 10
    assert opened.arrays("grade").groups.tolist() == ["b"] * 6 + ["c"] * 4


def _by_patch(folder: Path) -> PatchDataset:
    corners = [(int(x), int(y)) for x, y in np.rint(leave_result(folder, "a", 6).positions_px)]
    rows = [f"a,{x},{y},{number}" for number, (x, y) in reversed(list(enumerate(corners[:4])))]
    return open_dataset(str(folder), _labels(folder, "\n".join(["slide,x,y,number", *rows, "c,1,1,9"]) + "\n"))


def test_labels_of_patches(folder: Path) -> None:
    """Each patch has the label of its corner, also if the corners are not asked for; the others have none."""
    opened = _by_patch(folder)
    assert opened.table(["number"])["number"].to_pylist() == [0, 1, 2, 3, *[None] * 14]
    assert opened.table(["number", "x"]).column_names == ["number", "x"]
    assert opened.schema.names[-1] == "number"


def test_arrays_of_patches(folder: Path) -> None:
    """Arrays of labels of patches hold the patches that have one."""
    arrays = _by_patch(folder).arrays("number")
    assert arrays.labels.tolist() == [0, 1, 2, 3]
    assert arrays.groups.tolist() == ["a"] * 4
    assert len(arrays.matrix) == 4
