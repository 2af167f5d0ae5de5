"""What a table layout must do; it knows nothing of where its files go."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from models.domain.embedding import Embeddings, Provenance


@dataclass(frozen=True, slots=True)
class TableFile:
    """One file of a layout.

    Parameters
    ----------
    path : str
        Below the output folder, with ``/``; inside a `TableFolder`, below that.
    content : bytes
        The same for the same result.
    """

    path: str
    content: bytes

    @property
    def sha256(self) -> str:
        """Digest of the content."""
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, slots=True)
class TableFolder:
    """A table that is a folder, such as a Zarr store.

    Parameters
    ----------
    path : str
        Below the output folder, with ``/``.
    files : tuple of TableFile
        In the order in which they are to be written: without the last, no reader takes the folder for a table.
    """

    path: str
    files: tuple[TableFile, ...]

    @property
    def sha256(self) -> str:
        """Digest of all files: see `folder_digest`."""
        return folder_digest((file.path, file.sha256) for file in self.files)


def folder_digest(files: Iterable[tuple[str, str]]) -> str:
    """Return the sha256 of lines ``DIGEST  PATH``, sorted by path, as sha256sum writes them.

    Parameters
    ----------
    files : iterable of (str, str)
        Path below the folder, with ``/``, and sha256 of each file.
    """
    return hashlib.sha256("".join(f"{digest}  {path}\n" for path, digest in sorted(files)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class TableContent:
    """What a table is made of.

    Parameters
    ----------
    name : str
        File-name-safe name of the result: slide, encoder and start of the key.
    embeddings : Embeddings
        With its holes, if there are any; what a layout does about them is its own business, and documented.
    provenance : Provenance
        Of results that are not Slidewire's, much is unknown.
    slide : str
        File-name-safe name of the slide, for layouts that go by slide; "": the result's name stands for it.
    """

    name: str
    embeddings: Embeddings
    provenance: Provenance
    slide: str = ""


class Table(Protocol):
    """A layout; registered as ``NAME = "module:TABLE"`` in the entry-point group ``slidewire.tables``."""

    @property
    def name(self) -> str:
        """Name in the registry and on the command line."""

    def write(self, content: TableContent) -> Iterator[TableFile | TableFolder]:
        """Yield the files; of a slide without patches valid empty ones.

        Raises
        ------
        ResultError
            The layout cannot hold that result.
        ExtraMissing
            The layout needs a package that is not installed.
        """
