"""Files and folders on a disk, each there whole or not at all, whatever is killed when.

Everything is made in a hidden folder beside its place, brought to the disk, and renamed. What a killed writer has left
there goes with the next one's, and is found without reading a folder of a hundred thousand results.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from connectors.sinks.held import folder_digest_of
from connectors.tables.protocol import TableFolder
from models.domain.errors import OutputUnavailable

_OLD = "old-"


def put_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file over the one that may be there.

    Raises
    ------
    OSError
        The disk does not take it.
    OutputUnavailable
        Somebody else writes the same file.
    """
    with _beginnings(path) as parts:
        temporary = parts / uuid4().hex
        _write_through(temporary, chunks)
        temporary.replace(path)


def put_folder(path: Path, folder: TableFolder) -> None:
    """Write a folder over the one that may be there; the same folder is left as it is.

    A folder that is not empty cannot be renamed over, so the old one is moved aside first. Who is killed just then
    leaves it in the hidden folder, from where the next writer brings it back before doing anything else.

    Raises
    ------
    OSError
        The disk does not take it.
    OutputUnavailable
        Somebody else writes the same folder.
    """
    with _beginnings(path) as parts:
        if not path.exists():
            for old in list(parts.glob(f"{_OLD}*"))[:1]:
                old.rename(path)
        if folder_digest_of(str(path)) == folder.sha256:
            return
        staged = parts / uuid4().hex
        for file in folder.files:
            (staged / file.path).parent.mkdir(parents=True, exist_ok=True)
            _write_through(staged / file.path, [file.content])
        for name, _, _ in os.walk(staged):
            _flush_folder(name)
        _exchange(staged, path, parts / f"{_OLD}{uuid4().hex}")


@contextmanager
def _beginnings(path: Path) -> Iterator[Path]:
    """Give a hidden folder for the beginnings of one file or folder, and remove it with all that is in it."""
    parts = path.with_name(f".{path.name}.part")
    parts.mkdir(parents=True, exist_ok=True)
    try:
        yield parts
    except FileNotFoundError as exc:  # another writer of the same bytes has just ended
        raise OutputUnavailable("Another worker writes the same output: try again.") from exc
    finally:
        if path.exists() or not any(parts.glob(f"{_OLD}*")):  # never the last copy of what was there
            shutil.rmtree(parts, ignore_errors=True)
    _flush_folder(path.parent)


def _exchange(staged: Path, path: Path, aside: Path) -> None:
    """Put a folder in the place of another; if that fails, the other is back."""
    if path.is_dir():
        path.rename(aside)
    try:
        staged.rename(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise


def _write_through(path: Path, chunks: Iterable[bytes]) -> None:
    with path.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path | str) -> None:
    """Bring the names in a folder to the disk."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
