"""A local file, read in parts."""

import os
from pathlib import Path

from connectors.ranges.reader import FileFacts
from models.domain.errors import SourceUnreadable


class LocalFile:
    """A `RangeFile` on disk; its version is its size and time of change.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise SourceUnreadable(f"{path.name} cannot be read: {exc.strerror}.") from exc
        state = os.fstat(self._handle)
        self._facts = FileFacts(path.name, state.st_size, f"{state.st_size}-{state.st_mtime_ns}")

    @property
    def facts(self) -> FileFacts:
        """Name, size, version."""
        return self._facts

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        try:
            data = os.pread(self._handle, stop - start, start)
            state = os.fstat(self._handle)
        except OSError as exc:
            raise SourceUnreadable(f"{self._facts.name} cannot be read: {exc.strerror}.") from exc
        # After the read: what was written before it shows in the time of change.
        if f"{state.st_size}-{state.st_mtime_ns}" != self._facts.version:
            raise SourceUnreadable(f"{self._facts.name} changed while it was read: submit the slide again.")
        return data

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
