"""A folder on a disk is there whole or not at all, at whatever step a writer ends."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.sinks import disk
from connectors.sinks.disk import put_folder
from connectors.sinks.held import folder_digest_of
from connectors.tables.protocol import TableFile, TableFolder
from models.domain.errors import OutputUnavailable

_OLD = TableFolder("x", (TableFile("chunk/0", b"old"), TableFile("chunk/1", b"stale"), TableFile("zarr.json", b"{}")))
_NEW = TableFolder("x", (TableFile("chunk/0", b"new"), TableFile("zarr.json", b'{"n": 1}')))


class _Killed(BaseException):
    """Stands for kill -9: nothing of what is behind it is done."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a place for a folder."""
    return tmp_path / "out" / "slide.zarr"


def _whole(path: Path) -> bytes:
    """Return which of the two a reader finds, b"" for none; a mixture fails."""
    if not path.exists():
        return b""
    found = {_OLD.sha256: b"old", _NEW.sha256: b"new"}
    return found[str(folder_digest_of(str(path)))]


def _kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that changes the disk stop working from its n-th call on, the tidying up, too."""
    calls = 0

    def counted(deed: Callable[..., object]) -> Callable[..., object]:
        def do(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls >= step:
                raise _Killed
            return deed(*arguments, **options)

        return do

    monkeypatch.setattr(disk.os, "fsync", counted(os.fsync))
    for name in ("rename", "mkdir", "open"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    monkeypatch.setattr(disk.shutil, "rmtree", counted(disk.shutil.rmtree))


@pytest.mark.parametrize("before", [None, _OLD], ids=["nothing", "an old one"])
@pytest.mark.parametrize("step", range(1, 18))
def test_killed_at_any_step(path: Path, step: int, before: TableFolder | None) -> None:
    """A reader finds the old folder, the new one, or none; the next writer makes the new one and leaves no rests."""
    if before is not None:
        put_folder(path, before)
    with pytest.MonkeyPatch.context() as patch:
        _kill_at(step, patch)
        try:
            put_folder(path, _NEW)
        except _Killed:
            assert _whole(path) in {b"", b"old", b"new"}
        else:
            assert step > 10, "fewer steps than there should be"
    put_folder(path, _NEW)
    assert _whole(path) == b"new"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_an_old_folder_that_was_moved_aside_is_not_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two renames, and then no room for the new one: the old one is back."""
    put_folder(path, _OLD)
    rests = path.with_name(f".{path.name}.part")
    rests.mkdir()
    path.rename(rests / "old-1")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        put_folder(path, _NEW)
    assert _whole(path) == b"old"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("before", [None, _OLD], ids=["nothing", "an old one"])
@pytest.mark.parametrize("file", range(3))
def test_a_disk_that_is_full_in_the_middle(
    path: Path, monkeypatch: pytest.MonkeyPatch, file: int, before: TableFolder | None
) -> None:
    """Whichever file finds no room: nothing new is there, and what was there is whole."""
    if before is not None:
        put_folder(path, before)
    left, flush = [file], os.fsync

    def fill(descriptor: int) -> None:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        flush(descriptor)

    monkeypatch.setattr(disk.os, "fsync", fill)
    with pytest.raises(OSError, match="No space"):
        put_folder(path, _NEW)
    assert _whole(path) == (b"old" if before else b"")
    assert [one.name for one in path.parent.iterdir()] == ([path.name] if before else [])


def test_a_rename_that_fails_brings_the_old_one_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the new folder cannot be renamed into its place, the old one is there again."""
    put_folder(path, _OLD)
    rename = Path.rename

    def fail_new(source: Path, target: Path) -> Path:
        if target == path and not source.name.startswith("old-"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", fail_new)
    with pytest.raises(OSError, match="Input/output"):
        put_folder(path, _NEW)
    assert _whole(path) == b"old"


def test_the_last_copy_is_never_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither the new folder nor the old one can be renamed back, the old one stays for the next writer."""
    put_folder(path, _OLD)
    rename = Path.rename

    def fail_into_place(source: Path, target: Path) -> Path:
        if target == path:
            raise OSError(errno.EIO, "Input/output error")
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_into_place)
        with pytest.raises(OSError, match="Input/output"):
            put_folder(path, _NEW)
    [old] = path.with_name(f".{path.name}.part").glob("old-*")
    assert folder_digest_of(str(old)) == _OLD.sha256
    put_folder(path, _NEW)
    assert _whole(path) == b"new"
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_two_writers_of_the_same_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that ends first takes the other's beginnings with it; the other is told to try again, and it is whole."""
    put_folder(path, _OLD)
    rename = Path.rename

    def rename_late(source: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        put_folder(path, _NEW)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", rename_late)
    with pytest.raises(OutputUnavailable, match="try again"):
        put_folder(path, _NEW)
    assert _whole(path) == b"new"


def test_the_same_folder_is_left_as_it_is(path: Path) -> None:
    """Who reads it meanwhile is not disturbed; rests of a killed writer go."""
    put_folder(path, _NEW)
    inode = path.stat().st_ino
    rests = path.with_name(f".{path.name}.part")
    (rests / "of a process that is no more").mkdir(parents=True)
    put_folder(path, _NEW)
    assert path.stat().st_ino == inode
    assert not rests.exists()


def test_every_file_and_name_is_on_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut takes nothing away: each file and each folder that names one is flushed, the outermost last."""
    flushed = []
    monkeypatch.setattr(disk.os, "fsync", lambda handle: flushed.append(Path(f"/proc/self/fd/{handle}").readlink()))
    put_folder(path, _NEW)
    assert [one.name for one in flushed[:2]] == ["0", "zarr.json"]
    assert "chunk" in {one.name for one in flushed}
    assert flushed[-1] == path.parent


def test_a_file_in_its_place(path: Path) -> None:
    """A file of that name is left alone."""
    path.parent.mkdir()
    path.write_bytes(b"a file")
    with pytest.raises(NotADirectoryError):
        put_folder(path, _NEW)
    assert path.read_bytes() == b"a file"
