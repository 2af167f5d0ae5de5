"""Results as files in a folder or a bucket: the table, and on request the DICOM objects and the picture.

Whatever a disk or a bucket says of a file, it is read back and compared before anybody is told of it.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import fsspec

from connectors.dicom.objects import build_objects
from connectors.endpoints import Endpoints
from connectors.protocols import Result
from connectors.ranges.bucket import is_forbidden, lacks_credentials
from connectors.tables.parquet import to_parquet
from models.domain.embedding import Output
from models.domain.errors import ExtraMissing, OutputUnavailable, OutputUnwritable
from models.domain.request import OutputSpec
from models.domain.slide import SlideRef

_READ_BYTES = 1 << 20
# What trying again does not change; gcsfs says ValueError of a request that is wrong, fsspec of a scheme.
_FOR_GOOD = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError, ValueError)
_FOR_GOOD_NUMBERS = {errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    suffix: str
    content: bytes
    series_uid: str = ""
    instance_uid: str = ""


class FilesSink:
    """A `Sink` that writes files; each is there whole or not at all.

    Parameters
    ----------
    folder : str
        Local path, or a URI that fsspec knows (``gs://BUCKET/PREFIX``).
    dicom : bool
        Also write annotations and report.
    maps : bool
        With them a Parametric Map.
    """

    def __init__(self, folder: str, *, dicom: bool, maps: bool = False) -> None:
        self._folder = folder.rstrip("/") or "/"
        self._dicom = dicom
        self._maps = maps

    def write(self, result: Result) -> tuple[Output, ...]:
        """Write all files and read them back; a name is the same whenever the same result is written."""
        return tuple(self._write(f"{self._folder}/{result.name}{file.suffix}", file) for file in self._files(result))

    def _write(self, uri: str, file: _File) -> Output:
        put(uri, file.content)
        written = Output(file.kind, uri, hashlib.sha256(file.content).hexdigest(), file.series_uid, file.instance_uid)
        if not self.holds(written):
            raise OutputUnavailable(
                f"The {file.kind} was written without an error, and what is there now is something else, or nothing."
            )
        return written

    def holds(self, output: Output) -> bool:
        """Whether a file is still there with the same bytes."""
        if not output.uri.startswith(f"{self._folder}/"):
            return False
        digest = hashlib.sha256()
        try:
            with fsspec.open(output.uri, "rb") as file:
                while chunk := file.read(_READ_BYTES):
                    digest.update(chunk)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except Exception as exc:  # file systems of buckets raise what they like
            raise OutputUnavailable(
                f"Whether an output is there cannot be told ({type(exc).__name__}): try again."
            ) from exc
        return digest.hexdigest() == output.sha256

    def close(self) -> None:
        """Do nothing."""

    def _files(self, result: Result) -> Iterator[_File]:
        yield _File("parquet", ".parquet", to_parquet(result.embeddings, result.provenance))
        if self._dicom:
            for made in build_objects(result, maps=self._maps):
                uids = (str(made.dataset.SeriesInstanceUID), str(made.dataset.SOPInstanceUID))
                yield _File(made.kind, made.suffix, b"".join(made.chunks()), *uids)
        if result.picture is not None:
            yield _File("picture", ".png", result.picture)


def put(uri: str, content: bytes) -> None:
    """Write a file whole or not at all, to a path or to a URI that fsspec knows.

    Raises
    ------
    OutputUnwritable
        The place does not take it; `OutputUnavailable` if it may do so later.
    ExtraMissing
        The URI needs an extra.
    """
    try:
        if "://" in uri:
            # One PUT: object stores show an object whole or not at all.
            system, path = fsspec.core.url_to_fs(uri)
            system.pipe_file(path, content)
        else:
            _put_local(Path(uri), content)
    except OutputUnavailable:
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


def _put_local(path: Path, content: bytes) -> None:
    # A folder for this file's own beginnings: what a killed writer has left there goes with the next one's, and is
    # found without reading a folder of a hundred thousand results.
    parts = path.with_name(f".{path.name}.part")
    parts.mkdir(parents=True, exist_ok=True)
    temporary = parts / uuid4().hex
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except FileNotFoundError as exc:  # another writer of the same bytes has just ended
        raise OutputUnavailable("Another worker writes the same output: try again.") from exc
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_sink(output: OutputSpec, ref: SlideRef, endpoints: Endpoints) -> FilesSink | None:
    """Return the sink for a request's folder; None if it names none."""
    del ref, endpoints
    return FilesSink(output.folder, dicom=output.dicom_files, maps=output.maps) if output.folder else None
