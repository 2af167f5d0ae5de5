"""Results found among files: joined by series, with their slide if it lies there, and made into results again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectors.dicom.result.objects import build_objects
from connectors.endpoints import Endpoints
from connectors.export import Choice, Found, read_stored, to_file
from connectors.protocols import Result
from models.domain.errors import RequestError, ResultCorrupt, ResultNotFound, SourceUnreadable
from tests.unit.connectors.dicom.results import annotation_files, make_result, rich_header


def stored(folder: Path, result: Result) -> list[Path]:
    """Write a result's objects as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for made in build_objects(result):
        paths.append(folder / f"{result.name}{made.suffix}")
        paths[-1].write_bytes(b"".join(made.chunks()))
    return paths


def found(*sources: Path, choice: Choice | None = None) -> list[Found]:
    """Return what is read from some places."""
    return list(read_stored([str(source) for source in sources], Endpoints(), choice))


@pytest.fixture
def result() -> Result:
    """Return a result with a rich header."""
    return make_result(25, 6, rich_header())


def test_a_folder_gives_each_result_once(result: Result, tmp_path: Path) -> None:
    """Reports, pictures and other files are passed over; two results are two."""
    stored(tmp_path / "out" / "deep", result)
    other = make_result(12, 3, rich_header())
    stored(tmp_path / "out", replace(other, name="other"))
    (tmp_path / "out" / "page.html").write_text("no DICOM")
    read = found(tmp_path / "out")
    assert sorted(len(one.stored) for one in read) == [12, 25]


@pytest.mark.parametrize("holes", [[], [0, 7, 24]])
def test_a_result_is_made_again_to_the_byte(result: Result, tmp_path: Path, holes: list[int]) -> None:
    """From its file alone, the objects of a result are written with the same bytes as before: header, holes and all."""
    matrix = result.embeddings.matrix.copy()
    matrix[holes] = np.nan
    marks = np.arange(25) == 3
    result = replace(result, embeddings=replace(result.embeddings, matrix=matrix, fallbacks=marks))
    annotations, report = stored(tmp_path, result)
    [read] = found(annotations)
    again = [b"".join(made.chunks()) for made in build_objects(read.result())]
    assert again[0] == annotations.read_bytes()
    assert again[1] == report.read_bytes()


def test_the_tables_are_those_of_the_job(result: Result, tmp_path: Path) -> None:
    """Parquet is what the job wrote; NumPy has the values and the corners in pixels of level 0."""
    [read] = found(stored(tmp_path, result)[0])
    assert to_file(read.result(), ".parquet") == to_file(result, ".parquet")
    (tmp_path / "back.npz").write_bytes(to_file(read.result(), ".npz"))
    with np.load(tmp_path / "back.npz") as arrays:
        assert np.array_equal(arrays["features"], result.embeddings.matrix)
        assert np.array_equal(arrays["coords"], np.rint(result.embeddings.positions_px))
    with pytest.raises(RequestError):
        to_file(result, ".csv")


def test_a_table_is_read_like_an_object(result: Result, tmp_path: Path) -> None:
    """A Parquet file among the sources gives the same result, without a header."""
    path = tmp_path / "table.parquet"
    path.write_bytes(to_file(result, ".parquet"))
    [read] = found(path)
    assert (read.header, read.stored.provenance) == (None, result.provenance)
    assert read.result().key == result.key


def test_what_is_read_is_told(result: Result, tmp_path: Path) -> None:
    """Each object counts once."""
    told: list[int] = []
    list(read_stored([str(stored(tmp_path, result)[0])], Endpoints(), told=told.append))
    assert told == [1]


def test_files_that_hold_nothing_are_refused(result: Result, tmp_path: Path) -> None:
    """No DICOM, a report alone, an empty folder, maps where there are none, a kind that is none."""
    text = tmp_path / "notes.txt"
    text.write_text("notes")
    _, report = stored(tmp_path / "out", result)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RequestError):
        found(text)
    for places in (report, empty):
        with pytest.raises(ResultNotFound):
            found(places)
    with pytest.raises(ResultNotFound):
        found(tmp_path / "out", choice=Choice(kind="map"))
    with pytest.raises(RequestError):
        Choice(kind="report")
    with pytest.raises(SourceUnreadable):
        found(tmp_path / "absent.dcm")


def test_a_file_that_is_cut_off_is_corrupt(result: Result, tmp_path: Path) -> None:
    """Wherever a file ends too early, nothing is read of it."""
    [whole] = annotation_files(result)
    path = tmp_path / "cut.dcm"
    for share in range(1, 20):
        path.write_bytes(whole[: len(whole) * share // 20])
        with pytest.raises(ResultCorrupt):
            found(path)
