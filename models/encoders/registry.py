"""The encoders that are installed, found by entry point and loaded on first use."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from models.domain.errors import RequestError, UnknownEncoder, WeightsInvalid
from models.encoders.protocol import Model
from models.members import load_member, members

GROUP = "slidewire.encoders"


def names() -> tuple[str, ...]:
    """Return the names of all registered encoders, sorted."""
    return tuple(sorted(members(GROUP)))


def find(name: str) -> Model:
    """Return the encoder registered under `name`.

    Raises
    ------
    UnknownEncoder
        With the names that exist.
    """
    if name not in members(GROUP):
        raise UnknownEncoder(f"There is no encoder {name!r}; there are: {', '.join(names())}.")
    model: Model = load_member(GROUP, name)
    return model


@cache
def _digest(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_digest(path: Path | None) -> str:
    """Return the sha256 of a weights' file; "" for a model without weights."""
    if path is None:
        return ""
    try:
        stat = path.stat()
        return _digest(path, stat.st_size, stat.st_mtime_ns)
    except OSError as exc:
        raise WeightsInvalid(f"The weights {path.name} cannot be read: {exc.strerror}.") from exc


def no_options(name: str, options: Mapping[str, str]) -> None:
    """Refuse options for an encoder that has none."""
    if options:
        raise RequestError(f"The encoder {name} has no option {', '.join(sorted(options))}.")
