"""Files are there whole or not at all, and a sink knows whether they still are."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pydicom
import pytest

from connectors.endpoints import Endpoints
from connectors.sinks import bucket, disk, files, held
from connectors.sinks.files import FilesSink, Wanted, open_sink, put, put_chunks
from connectors.tables.parquet import matrix_of
from connectors.tables.protocol import TableContent, TableFile, TableFolder
from connectors.tables.registry import find_table
from models.domain.errors import ExtraMissing, OutputUnavailable, OutputUnwritable
from models.domain.request import OutputSpec
from models.domain.slide import SlideRef
from tests.unit.connectors.dicom.results import make_result, rich_header


@pytest.fixture(params=["write", "flush to disk", "replace"])
def full_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full at one of the steps."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if request.param == "write":
        opened = Path.open

        def open_full(path: Path, mode: str = "r") -> object:
            file = opened(path, mode)
            if "x" in mode:
                file.close()
                fail()
            return file

        monkeypatch.setattr(Path, "open", open_full)
    elif request.param == "flush to disk":
        monkeypatch.setattr(disk.os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("before", [None, b"the result of last week"])
def test_a_full_disk_leaves_nothing_new(tmp_path: Path, before: bytes | None) -> None:
    """What fails leaves neither a part of a file nor a temporary one, and does not harm what was there."""
    path = tmp_path / "slide.parquet"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(OutputUnavailable, match="No space"):
        put(str(path), b"new")
    assert [one.name for one in tmp_path.iterdir()] == ([] if before is None else [path.name])
    assert before is None or path.read_bytes() == before


def test_a_file_and_its_name_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut takes away neither: the file is flushed first, then the folder that names it."""
    flushed = []

    def flush(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(disk.os, "fsync", flush)
    put(str(tmp_path / "slide.parquet"), b"new")
    file, folder = flushed
    assert file.is_relative_to(tmp_path)
    assert folder == tmp_path


def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path) -> None:
    """A part of a file whose writer was killed is removed when the same result is written again."""
    path = tmp_path / "slide.parquet"
    left = tmp_path / ".slide.parquet.part" / "of a process that is no more"
    left.parent.mkdir()
    left.write_bytes(b"ne")
    put(str(path), b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"new"


def test_two_writers_of_the_same_result_harm_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that ends first takes the other's part with it; the other is told to try again, and the file is whole."""
    path, replace_file = tmp_path / "slide.parquet", Path.replace

    def replace_late(temporary: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace_file)
        put(str(path), b"new")
        return replace_file(temporary, target)

    monkeypatch.setattr(Path, "replace", replace_late)
    with pytest.raises(OutputUnavailable, match="try again"):
        put(str(path), b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"new"


def test_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between writing and renaming leaves no temporary file."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(str(tmp_path / "slide.parquet"), b"new")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    """A folder that cannot be made is named, without the path to it."""
    (tmp_path / "out").write_bytes(b"")
    for folder in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(OutputUnwritable, match=folder.name) as caught:
            FilesSink(str(folder), Wanted()).write(make_result(2, 3, None))
        assert str(tmp_path) not in str(caught.value)


def test_a_target_that_is_a_folder(tmp_path: Path) -> None:
    """A folder in the place of the file is left alone."""
    (tmp_path / "slide.parquet").mkdir()
    with pytest.raises(OutputUnwritable):
        put(str(tmp_path / "slide.parquet"), b"new")
    assert [one.name for one in tmp_path.iterdir()] == ["slide.parquet"]


def test_a_bucket_that_does_not_take_it() -> None:
    """An unknown kind of URI, or a bucket that raises what it likes, is an error of ours."""
    with pytest.raises(OutputUnwritable):
        put("nosuchscheme://bucket/x.parquet", b"new")


class _HttpError(Exception):
    """As gcsfs raises it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"status {code}")
        self.code = code


DefaultCredentialsError = type("DefaultCredentialsError", (Exception,), {})
_FOR_GOOD: list[Exception] = [
    FileNotFoundError(), PermissionError(), NotADirectoryError(), IsADirectoryError(), FileExistsError(),
    ValueError("Bad Request"), OSError(errno.EROFS, "Read-only file system"), OSError(errno.ENAMETOOLONG, "too long"),
    OSError("Forbidden: bucket"), _HttpError(401), _HttpError(403), DefaultCredentialsError(),
]  # fmt: skip
_FOR_NOW: list[Exception] = [
    OSError(errno.ENOSPC, "No space left"), OSError(errno.EIO, "Input/output error"), OSError(errno.EBUSY, "SlowDown"),
    OSError(errno.EDQUOT, "quota"), TimeoutError(), ConnectionResetError(), _HttpError(500), _HttpError(503),
    RuntimeError("whatever"),
]  # fmt: skip


@pytest.mark.parametrize("error", [*_FOR_GOOD, *_FOR_NOW], ids=repr)
@pytest.mark.parametrize("place", ["memory://bucket/x.parquet", "x.parquet"])
def test_what_is_worth_another_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, place: str
) -> None:
    """A full disk and a bucket that fails are; rights, missing buckets and wrong names are not; no address is told."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(disk, "put_file", fail)
    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(OutputUnwritable) as caught:
        put(place if "://" in place else str(tmp_path / place), b"new")
    assert type(caught.value) is (OutputUnavailable if error in _FOR_NOW else OutputUnwritable)
    assert caught.value.retryable is (error in _FOR_NOW)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("kept", [None, b"", b"other bytes"])
def test_what_is_not_there_afterwards_is_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: bytes | None
) -> None:
    """A place that says nothing and keeps nothing, or something else, is found out."""

    def keep(path: Path, chunks: Iterable[bytes]) -> None:
        assert list(chunks)
        if kept is not None:
            path.write_bytes(kept)

    monkeypatch.setattr(disk, "put_file", keep)
    with pytest.raises(OutputUnavailable, match="parquet was written"):
        FilesSink(str(tmp_path), Wanted()).write(make_result(2, 3, None))


def test_a_bucket_that_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where reading back fails, nothing is known to be lost: that is worth another try."""

    def fail(*_: object) -> None:
        raise _HttpError(503)

    sink = FilesSink("memory://bucket/elsewhere", Wanted())
    monkeypatch.setattr(held.fsspec, "open", fail)
    with pytest.raises(OutputUnavailable, match="cannot be told"):
        sink.write(make_result(2, 3, None))


def test_a_bucket_whose_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks the library for a bucket is told which extra brings it."""

    def not_installed(*_: object) -> None:
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", not_installed)
    with pytest.raises(ExtraMissing, match=r"slidewire\[files\]"):
        put("gs://bucket/x.parquet", b"new")


def test_outputs_are_what_was_written(tmp_path: Path) -> None:
    """Table, annotations, report and picture lie under the result's name, with the digests that are told."""
    result = replace(make_result(3, 4, rich_header()), picture=b"\x89PNG")
    outputs = FilesSink(f"{tmp_path}/new/", Wanted(dicom=True)).write(result)
    assert {output.kind for output in outputs} == {"parquet", "annotations", "report", "picture"}
    assert sorted(output.uri for output in outputs) == sorted(map(str, (tmp_path / "new").iterdir()))
    for output in outputs:
        content = Path(output.uri).read_bytes()
        assert hashlib.sha256(content).hexdigest() == output.sha256
        assert Path(output.uri).name.startswith(result.name)
        assert bool(output.instance_uid) == (output.kind in {"annotations", "report"})


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    """The same result gives the same outputs and the same bytes."""
    result = make_result(3, 4, rich_header())
    sink = FilesSink(str(tmp_path), Wanted(dicom=True))
    first = sink.write(result)
    contents = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert sink.write(result) == first
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_a_result_of_no_patches(tmp_path: Path) -> None:
    """A slide without tissue leaves an empty table and a report, and no annotations of nothing."""
    outputs = FilesSink(str(tmp_path), Wanted(dicom=True)).write(make_result(0, 4, rich_header()))
    assert [output.kind for output in outputs] == ["parquet", "report"]
    assert matrix_of(Path(outputs[0].uri).read_bytes()).shape == (0, 4)


@pytest.mark.parametrize("change", ["gone", "shorter", "other"])
def test_what_was_changed_is_not_held(tmp_path: Path, change: str) -> None:
    """A file that is gone, cut off or altered by one byte is no longer the output."""
    sink = FilesSink(str(tmp_path), Wanted())
    [output] = sink.write(make_result(3, 4, None))
    path = Path(output.uri)
    assert sink.holds(output)
    content = path.read_bytes()
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (b"" if change == "shorter" else bytes([content[-1] ^ 1])))
    assert not sink.holds(output)


def test_a_bucket_holds_what_it_was_given() -> None:
    """The same holds for URIs, with the file system in memory."""
    sink = FilesSink("memory://bucket/prefix", Wanted())
    [output] = sink.write(make_result(2, 3, None))
    assert output.uri.startswith("memory://bucket/prefix/")
    assert sink.holds(output)
    fsspec.filesystem("memory").pipe_file(output.uri, b"other")
    assert not sink.holds(output)
    assert not sink.holds(replace(output, uri="nosuchscheme://x"))


class _Toy:
    """A layout that writes what it is told."""

    name = "toy"

    def __init__(self, *made: TableFile | TableFolder) -> None:
        self._made = made

    def write(self, content: TableContent) -> Iterator[TableFile | TableFolder]:
        """Yield it; `content` is what the canonical table is made of, too."""
        assert content.name
        yield from self._made


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FilesSink]:
    """Give a sink for a folder that also writes a toy layout of some files and folders."""

    def sink(folder: str, *made: TableFile | TableFolder, dicom: bool = False) -> FilesSink:
        monkeypatch.setattr(files, "find_table", lambda name: _Toy(*made) if name == "toy" else find_table(name))
        return FilesSink(folder, Wanted(("toy",), dicom=dicom))

    return sink


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_tables_of_every_kind(tmp_path: Path, toy: Callable[..., FilesSink], place: str) -> None:
    """Files and folders of a layout lie where it says, below the Parquet file's folder, and are held until changed."""
    root = str(tmp_path) if place == "disk" else f"memory://bucket/{tmp_path.name}"
    folder = TableFolder("slides/one.zarr", (TableFile("a/0", b"values"), TableFile("zarr.json", b"{}")))
    sink = toy(root, TableFile("h5/one.h5", b"table"), folder)
    outputs = sink.write(make_result(2, 3, None))
    assert [output.kind for output in outputs] == ["parquet", "toy", "toy"]
    assert [output.uri for output in outputs[1:]] == [f"{root}/h5/one.h5", f"{root}/slides/one.zarr"]
    assert outputs[2].sha256 == folder.sha256
    assert all(sink.holds(output) for output in outputs)
    assert fsspec.open(f"{root}/slides/one.zarr/a/0").open().read() == b"values"
    system, path = fsspec.core.url_to_fs(f"{root}/slides/one.zarr")
    system.pipe_file(f"{path}/a/0", b"valueS")
    assert not sink.holds(outputs[2])
    system.pipe_file(f"{path}/a/0", b"values")
    assert sink.holds(outputs[2])
    system.pipe_file(f"{path}/a/1", b"stale")
    assert not sink.holds(outputs[2]), "a file more is another folder"


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/x", "", "a//b", "./a", "a/", "a\\..\\b", "..", "."], ids=repr
)
def test_no_layout_writes_elsewhere(tmp_path: Path, toy: Callable[..., FilesSink], path: str) -> None:
    """A path that leads out of the output folder, or that not all systems read alike, is refused."""
    out = tmp_path / "out"
    inner = TableFolder("inner", (TableFile(path, b"x"),))
    for made in (TableFile(path, b"x"), TableFolder(path, (TableFile("a", b"x"),)), inner):
        with pytest.raises(OutputUnwritable, match="'toy'"):
            toy(str(out), made).write(make_result(2, 3, None))
    assert [one.suffix for one in tmp_path.rglob("*") if one.is_file()] == [".parquet"]


def test_the_report_names_the_tables(tmp_path: Path, toy: Callable[..., FilesSink]) -> None:
    """Tables are written first: the report has the digest of each."""
    sink = toy(str(tmp_path), TableFile("one.h5", b"table"), dicom=True)
    parquet, table, *objects = sink.write(make_result(3, 4, rich_header()))
    assert [output.kind for output in objects] == ["annotations", "report"]
    report = pydicom.dcmread(objects[-1].uri)
    values = {str(element.value) for element in report.iterall()}
    assert {parquet.sha256, table.sha256} <= values


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_what_comes_in_pieces(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many pieces is whole in the end, also one too large for a single PUT; one that breaks off is none."""
    monkeypatch.setattr(bucket, "_IN_MEMORY_BYTES", 1000)
    uri = str(tmp_path / "large") if place == "disk" else f"memory://bucket/{tmp_path.name}"

    def pieces(end: int) -> Iterator[bytes]:
        for number in range(256):
            if number == end:
                raise RuntimeError("cannot be made")
            yield bytes([number]) * 7

    with pytest.raises(OutputUnavailable):
        put_chunks(uri, pieces(200))
    assert held.file_digest(uri) is None
    put_chunks(uri, pieces(256))
    expected = b"".join(bytes([number]) * 7 for number in range(256))
    assert held.file_digest(uri) == hashlib.sha256(expected).hexdigest()


def test_no_folder_no_sink() -> None:
    """A request that only writes back to the PACS opens no such sink."""
    ref = SlideRef("image", "slide.png")
    assert open_sink(OutputSpec(write_back=True), ref, Endpoints()) is None
    assert isinstance(open_sink(OutputSpec("out"), ref, Endpoints()), FilesSink)
