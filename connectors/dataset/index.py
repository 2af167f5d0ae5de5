"""The tables of a folder by what their footers say, kept in a file beside them so that the next look is quick.

A footer is some kilobytes; the embeddings are not read. A hundred thousand of them take minutes from a bucket
once, and seconds from then on.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.sinks.files import put
from connectors.tables.parquet import METADATA_KEY, encode, read_parquet, slide_of
from models.domain.errors import ExtraMissing, OutputUnavailable, ResultCorrupt, SourceUnreadable

INDEX = "slidewire-index.parquet"
_THREADS = 16
_VERSION = b"1"


@dataclass(frozen=True, slots=True)
class Entry:
    """One table.

    Parameters
    ----------
    file : str
        Name in the folder.
    size : int
        Bytes.
    slide : str
        As its file is called.
    encoder, recipe, result_key : str
        As its provenance says.
    patches, holes, dimension : int
    """

    file: str
    size: int
    slide: str
    encoder: str
    recipe: str
    result_key: str
    patches: int
    holes: int
    dimension: int


@dataclass(frozen=True, slots=True)
class Index:
    """What a folder holds.

    Parameters
    ----------
    entries : tuple of Entry
        Sorted by file.
    unreadable : tuple of str
        Files that end in ``.parquet`` and cannot be read: torn, or no Parquet.
    foreign : tuple of str
        Parquet files that are no tables of embeddings.
    """

    entries: tuple[Entry, ...]
    unreadable: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def read_index(folder: str, progress: Callable[[int], None] | None = None) -> Index:
    """Look at all tables of a folder; those that are in its index file already are not opened.

    Parameters
    ----------
    folder : str
        Path, or a URI that fsspec knows.
    progress : callable or None
        Told how many tables were looked at since the last time.

    Raises
    ------
    SourceUnreadable
        There is no such folder.
    OutputUnavailable
        It does not answer.
    """
    system, path, listed = _listed(folder)
    known = {entry.file: entry for entry in _kept(system, f"{path}/{INDEX}")}
    found: list[Entry] = []
    unreadable: list[str] = []
    foreign: list[str] = []

    def look(item: tuple[str, int]) -> tuple[str, Entry | None, bool]:
        file, size = item
        entry = known.get(file)
        if entry is None or entry.size != size:
            try:
                entry = _entry(system, f"{path}/{file}", file, size)
            except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
                return file, None, False
        return file, entry, True

    with ThreadPoolExecutor(_THREADS) as threads:
        for file, entry, readable in threads.map(look, sorted(listed.items())):
            if entry is not None:
                found.append(entry)
            else:
                (foreign if readable else unreadable).append(file)
            if progress is not None:
                progress(1)
    return Index(tuple(found), tuple(unreadable), tuple(foreign))


def write_index(folder: str, index: Index) -> None:
    """Keep what was found in the folder's index file.

    Raises
    ------
    OutputUnwritable, OutputUnavailable
        The folder does not take it; nothing is lost but time.
    """
    rows = [asdict(entry) for entry in index.entries]
    table = pa.Table.from_pylist(rows, schema=_schema()).replace_schema_metadata({b"slidewire-index": _VERSION})
    put(f"{folder.rstrip('/')}/{INDEX}", encode(table))


def _schema() -> pa.Schema:
    kinds = {str: pa.string(), int: pa.int64()}
    return pa.schema([(field.name, kinds[field.type]) for field in fields(Entry)])  # type: ignore[index]


def _listed(folder: str) -> tuple[Any, str, Mapping[str, int]]:
    """Return the file system, the folder's path in it, and the size of each of its Parquet files by name."""
    try:
        system, path = fsspec.core.url_to_fs(folder)
        items: Iterable[Mapping[str, Any]] = system.ls(path, detail=True, refresh=True)
    except ImportError as exc:
        raise ExtraMissing("Tables in a bucket need the extra 'files': pip install 'slidewire[files]'.") from exc
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise SourceUnreadable("There is no such folder of results: give the --out of the jobs.") from exc
    except Exception as exc:  # file systems of buckets raise what they like
        raise OutputUnavailable(f"The folder of results cannot be listed ({type(exc).__name__}).") from exc
    files = {str(item["name"]).rpartition("/")[2]: item for item in items if item["type"] == "file"}
    return (
        system,
        path.rstrip("/"),
        {
            name: int(item["size"])
            for name, item in files.items()
            if name.endswith(".parquet") and name != INDEX and not name.startswith(".")
        },
    )


def _kept(system: Any, path: str) -> Iterable[Entry]:
    """Return what the index file holds; one that is missing, old or torn holds nothing, and is made anew."""
    try:
        table = read_parquet(system.cat_file(path))
        if (table.schema.metadata or {}).get(b"slidewire-index") != _VERSION:
            return ()
        return [Entry(**row) for row in table.to_pylist()]
    except Exception:  # noqa: BLE001 - file systems of buckets raise what they like
        return ()


def _entry(system: Any, path: str, file: str, size: int) -> Entry | None:
    """Return what a table's footer says; None if it is somebody else's."""
    with system.open(path, "rb") as opened:
        footer = pq.read_metadata(opened)
    about = (footer.metadata or {}).get(METADATA_KEY)
    if about is None:
        return None
    said = json.loads(about)
    return Entry(
        file=file,
        size=size,
        slide=slide_of(file.removesuffix(".parquet"), str(said["encoder"]), str(said["result_key"])),
        encoder=str(said["encoder"]),
        recipe=str(said.get("recipe", "")),
        result_key=str(said["result_key"]),
        patches=int(footer.num_rows),
        holes=int(said.get("holes", 0)),
        dimension=int(said["dimension"]),
    )


def refuse_unreadable(index: Index) -> None:
    """Raise if a file of the folder cannot be read: a table that is silently left out would be worse.

    Raises
    ------
    ResultCorrupt
    """
    if index.unreadable:
        raise ResultCorrupt(
            f"{len(index.unreadable)} tables of the folder cannot be read; slidewire dataset lists them: "
            "embed their slides again, or remove them."
        )
