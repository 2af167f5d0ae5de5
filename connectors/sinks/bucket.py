"""Objects in a bucket, or whatever else fsspec knows by a URI.

A store shows an object whole or not at all. A folder is many objects, of which the last makes it valid: it goes first
when an old folder is replaced, and comes last.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from tempfile import NamedTemporaryFile

import fsspec

from connectors.sinks.held import folder_digest_of
from connectors.tables.protocol import TableFolder

_IN_MEMORY_BYTES = 64 << 20


def put_object(uri: str, chunks: Iterable[bytes]) -> None:
    """Write an object: in one PUT, or, if it is large, from a temporary file by the store's own parts."""
    system, path = fsspec.core.url_to_fs(uri)
    rest = iter(chunks)
    first, size = list[bytes](), 0
    for chunk in rest:
        first.append(chunk)
        size += len(chunk)
        if size > _IN_MEMORY_BYTES:
            _put_large(system, path, first, rest)
            return
    system.pipe_file(path, b"".join(first))


def _put_large(system: fsspec.AbstractFileSystem, path: str, first: list[bytes], rest: Iterator[bytes]) -> None:
    # Not by an open file of the bucket's: closed early, those make an object of what they have got so far.
    with NamedTemporaryFile(prefix="slidewire-") as file:
        file.writelines(first)
        first.clear()
        file.writelines(rest)
        file.flush()
        system.put_file(file.name, path)


def put_objects(uri: str, folder: TableFolder) -> None:
    """Write a folder over the one that may be there; the same folder is left as it is.

    What makes the old one valid is removed first, then all else of it, so that no reader takes a mixture for a table.

    Raises
    ------
    FileExistsError
        There is an object of that name.
    """
    if folder_digest_of(uri) == folder.sha256:
        return
    system, path = fsspec.core.url_to_fs(uri)
    marker = f"{path}/{folder.files[-1].path}"
    there = system.find(path)
    if path in there:
        raise FileExistsError
    for name in sorted(there, key=lambda name: (name != marker, name)):
        with suppress(FileNotFoundError):  # another writer of the same
            system.rm_file(name)
    for file in folder.files:
        system.pipe_file(f"{path}/{file.path}", file.content)
