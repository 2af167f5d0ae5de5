"""The digest of weights: of a file as ``sha256sum`` gives it, of a folder over what ``sha256sum`` says of its files."""

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from models.domain.errors import WeightsInvalid


def weights_digest(path: Path | None) -> str:
    """Return the sha256 of weights; "" for a model without weights.

    That of a folder (a SavedModel, a snapshot from a hub) is the digest of the lines ``DIGEST  PATH`` of all its files,
    sorted by path, as ``sha256sum`` prints them. Hidden files and folders, which hold what a client of a hub or of git
    keeps for itself, are not the model's. Links are followed: a hub's client keeps the files themselves elsewhere.

    Parameters
    ----------
    path : Path or None

    Raises
    ------
    WeightsInvalid
        Not there, not readable, an empty folder, a link that leads nowhere or in a circle.
    """
    if path is None:
        return ""
    try:
        if not path.is_dir():
            return _digest_file(path)
        files = sorted((file.relative_to(path).as_posix(), file) for file in _files(path))
        lines = [f"{_digest_file(file)}  {name}\n" for name, file in files]
    except OSError as exc:
        raise WeightsInvalid(f"The weights {path.name} cannot be read: {exc.strerror}.") from exc
    if not lines:
        raise WeightsInvalid(f"The weights {path.name} are a folder without files.")
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _digest_file(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        raise WeightsInvalid(f"Of the weights, {path.name} is a link to what is not there: fetch them again.")
    if path.exists() and not path.is_file():  # reading a pipe would never end
        raise WeightsInvalid(f"Of the weights, {path.name} is neither a file nor a folder.")
    stat = path.stat()
    return _digest_content(path, stat.st_size, stat.st_mtime_ns)


@cache
def _digest_content(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        here = Path(place)
        if here.resolve() in [parent.resolve() for parent in here.parents if parent.is_relative_to(folder)]:
            raise WeightsInvalid(f"The weights {folder.name} hold a link to a folder that it lies in.")
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (here / name for name in names if not name.startswith("."))
