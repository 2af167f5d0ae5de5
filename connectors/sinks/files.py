"""Results as files in a folder or a bucket: tables, and on request the picture and the DICOM objects.

Whatever a disk or a bucket says of a file, it is read back and compared before anybody is told of it.
"""

import errno
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from connectors.dicom.result.objects import build_objects
from connectors.dicom.result.result_object import ResultObject
from connectors.endpoints import Endpoints
from connectors.protocols import Result
from connectors.ranges.bucket import is_forbidden, lacks_credentials
from connectors.sinks import bucket, disk
from connectors.sinks.held import file_digest, folder_digest_of
from connectors.tables.protocol import TableContent, TableFile, TableFolder
from connectors.tables.registry import CANONICAL, find_table
from models.domain.embedding import Output
from models.domain.errors import ExtraMissing, OutputUnavailable, OutputUnwritable, SlidewireError
from models.domain.request import OutputSpec
from models.domain.slide import SlideRef

# What trying again does not change; gcsfs says ValueError of a request that is wrong, fsspec of a scheme.
_FOR_GOOD = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError, ValueError)
_FOR_GOOD_NUMBERS = {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be left in the folder.

    Parameters
    ----------
    tables : tuple of str
        Layouts besides the Parquet file.
    dicom, maps : bool
        Annotations and report; with them a Parametric Map.
    """

    tables: tuple[str, ...] = ()
    dicom: bool = False
    maps: bool = False


class FilesSink:
    """A `Sink` that writes files; each is there whole or not at all.

    Parameters
    ----------
    folder : str
        Local path, or a URI that fsspec knows (``gs://BUCKET/PREFIX``).
    wanted : Wanted
    """

    def __init__(self, folder: str, wanted: Wanted) -> None:
        self._folder = folder.rstrip("/") or "/"
        self._wanted = wanted

    def write(self, result: Result) -> tuple[Output, ...]:
        """Write all files and read them back; a name is the same whenever the same result is written.

        The tables come first, and the report last, which names them.
        """
        outputs = [self._table(kind, made) for kind, made in self._tables(result)]
        reported = replace(result, written=(*result.written, *outputs))
        if result.picture is not None:
            outputs.append(self._file("picture", f"{result.name}.png", [result.picture]))
        if self._wanted.dicom:
            outputs.extend(self._object(result.name, made) for made in build_objects(reported, maps=self._wanted.maps))
        return tuple(outputs)

    def holds(self, output: Output) -> bool:
        """Whether a file, or a folder, is still there with the same bytes."""
        if not output.uri.startswith(f"{self._folder}/"):
            return False
        try:
            return file_digest(output.uri) == output.sha256 or folder_digest_of(output.uri) == output.sha256
        except Exception as exc:  # file systems of buckets raise what they like
            raise OutputUnavailable(
                f"Whether an output is there cannot be told ({type(exc).__name__}): try again."
            ) from exc

    def close(self) -> None:
        """Do nothing."""

    def _tables(self, result: Result) -> Iterator[tuple[str, TableFile | TableFolder]]:
        content = TableContent(result.name, result.embeddings, result.provenance, result.slide)
        for kind in (CANONICAL, *(name for name in self._wanted.tables if name != CANONICAL)):
            for made in find_table(kind).write(content):
                yield kind, made

    def _table(self, kind: str, made: TableFile | TableFolder) -> Output:
        if isinstance(made, TableFile):
            return self._file(kind, made.path, [made.content])
        for file in made.files:
            _require_inside(file.path, kind)
        uri = self._uri(made.path, kind)
        put_folder(uri, made)
        return self._held(Output(kind, uri, made.sha256))

    def _object(self, name: str, made: ResultObject) -> Output:
        written = self._file(made.kind, f"{name}{made.suffix}", made.chunks())
        return replace(
            written, series_uid=str(made.dataset.SeriesInstanceUID), instance_uid=str(made.dataset.SOPInstanceUID)
        )

    def _file(self, kind: str, path: str, chunks: Iterable[bytes]) -> Output:
        uri, state = self._uri(path, kind), hashlib.sha256()

        def watched() -> Iterator[bytes]:
            for chunk in chunks:
                state.update(chunk)
                yield chunk

        put_chunks(uri, watched())
        return self._held(Output(kind, uri, state.hexdigest()))

    def _held(self, written: Output) -> Output:
        if not self.holds(written):
            raise OutputUnavailable(
                f"The {written.kind} was written without an error, and what is there now is something else, or nothing."
            )
        return written

    def _uri(self, path: str, kind: str) -> str:
        _require_inside(path, kind)
        return f"{self._folder}/{path}"


def _require_inside(path: str, kind: str) -> None:
    """Refuse a layout's path that leads elsewhere."""
    parts = path.split("/")
    if "\\" in path or any(part in {"", ".", ".."} for part in parts) or PurePosixPath(path).is_absolute():
        raise OutputUnwritable(f"The table layout {kind!r} names a file that is not inside the output folder.")


def put(uri: str, content: bytes) -> None:
    """Write a file whole or not at all, to a path or to a URI that fsspec knows; errors as for `put_chunks`."""
    put_chunks(uri, [content])


def put_chunks(uri: str, chunks: Iterable[bytes]) -> None:
    """Write a file that comes in pieces, whole or not at all, to a path or to a URI that fsspec knows.

    Raises
    ------
    OutputUnwritable
        The place does not take it; `OutputUnavailable` if it may do so later.
    ExtraMissing
        The URI needs an extra.
    """
    with _translated(uri):
        bucket.put_object(uri, chunks) if "://" in uri else disk.put_file(Path(uri), chunks)


def put_folder(uri: str, folder: TableFolder) -> None:
    """Write a folder so that no reader takes a part of it, or a mixture, for the whole; errors as for `put_chunks`."""
    with _translated(uri):
        bucket.put_objects(uri, folder) if "://" in uri else disk.put_folder(Path(uri), folder)


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    try:
        yield
    except SlidewireError:
        raise
    except ImportError as exc:
        scheme = uri.partition(":")[0]
        raise ExtraMissing(f"Writing to {scheme}:// needs the extra 'files': pip install 'slidewire[files]'.") from exc
    except Exception as exc:  # file systems of buckets raise what they like
        kind = OutputUnwritable if _is_for_good(exc) else OutputUnavailable
        if "://" in uri:
            raise kind(f"The bucket does not take the output ({type(exc).__name__}).") from exc
        said = getattr(exc, "strerror", None) or type(exc).__name__
        raise kind(f"The output cannot be written to {Path(uri).parent.name or uri}: {said}.") from exc


def _is_for_good(exc: Exception) -> bool:
    if isinstance(exc, _FOR_GOOD) or getattr(exc, "errno", None) in _FOR_GOOD_NUMBERS:
        return True
    return is_forbidden(exc) or lacks_credentials(exc)


def open_sink(output: OutputSpec, ref: SlideRef, endpoints: Endpoints) -> FilesSink | None:
    """Return the sink for a request's folder; None if it names none."""
    del ref, endpoints
    wanted = Wanted(output.tables, output.dicom_files, output.maps)
    return FilesSink(output.folder, wanted) if output.folder else None
