"""What is there now: files and folders read back, wherever they are."""

import hashlib

import fsspec

from connectors.tables.protocol import folder_digest

_READ_BYTES = 1 << 20


def file_digest(uri: str) -> str | None:
    """Return the sha256 of a file (a path, or a URI that fsspec knows); None if there is none."""
    state = hashlib.sha256()
    try:
        with fsspec.open(uri, "rb") as file:
            while chunk := file.read(_READ_BYTES):
                state.update(chunk)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    return state.hexdigest()


def folder_digest_of(uri: str) -> str | None:
    """Return the digest of a folder as `TableFolder.sha256` defines it; None if there are no files below it."""
    system, path = fsspec.core.url_to_fs(uri)
    system.invalidate_cache()
    names = system.find(path)
    if names in ([], [path]):
        return None
    found = []
    for name in names:
        digest = file_digest(system.unstrip_protocol(name))
        if digest is None:  # somebody takes it away just now
            return None
        found.append((name.removeprefix(f"{path}/"), digest))
    return folder_digest(found)
