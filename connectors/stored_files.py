"""Result objects in files: looked through by their headers, and read whole, one at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from connectors.dicom.metadata import WHOLE_SLIDE_IMAGE
from connectors.dicom.readback.part10 import guarded, instance_of
from connectors.dicom_file import DicomFile
from models.domain.errors import RequestError, ResultCorrupt, SourceError, SourceUnreadable

_PREFIX = b"DICM"
_LOOKED_AT = ("SOPClassUID", "SeriesInstanceUID")


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    sop_class_uid: str
    series_uid: str


class FileShelf:
    """DICOM files, wherever they lie; others are passed over.

    Parameters
    ----------
    paths : sequence of Path
        Files, and folders, which are searched with all that is in them.

    Raises
    ------
    RequestError
        A file that was named is no DICOM.
    ResultCorrupt
        A DICOM file is damaged.
    SourceUnreadable
        A file cannot be read.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._found = list(dict.fromkeys(found for path in paths for found in _looked_at(path)))

    def series(self, sop_class_uids: Sequence[str]) -> list[list[Path]]:
        """Return the files of each series of results, of the first of some classes that there are any of."""
        for sop_class in sop_class_uids:
            found: dict[str, list[Path]] = {}
            for file in self._found:
                if file.sop_class_uid == sop_class:
                    found.setdefault(file.series_uid, []).append(file.path)
            if found:
                return list(found.values())
        return []

    def instances(self, paths: Sequence[Path]) -> Iterator[Dataset]:
        """Yield instances, each read whole when it is asked for.

        Raises
        ------
        ResultCorrupt
            A file is damaged.
        """
        for path in paths:
            yield instance_of(content_of(path))

    def headers(self, series_uid: str) -> Sequence[Mapping[str, Any]]:
        """Return the DICOM JSON of the slide's instances of a series that lie among the files."""
        wanted = (WHOLE_SLIDE_IMAGE, series_uid)
        paths = [file.path for file in self._found if (file.sop_class_uid, file.series_uid) == wanted]
        try:
            return [DicomFile(path).header for path in paths]
        except (SourceError, OSError):  # then the slide cannot be had; the results may be whole
            return ()


def content_of(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises
    ------
    SourceUnreadable
        It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SourceUnreadable(f"{path.name} cannot be read: {exc.strerror}.") from exc


def _looked_at(path: Path) -> Iterator[_Found]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file() and _is_dicom(file):
                yield _header(file)
        return
    if not _is_dicom(path):
        raise RequestError(f"{path.name} is no DICOM file, and no table of Slidewire's (.parquet, .npz).")
    found = _header(path)
    if not found.sop_class_uid:
        raise ResultCorrupt(f"{path.name} ends before it says what it is.")
    yield found


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == _PREFIX
    except OSError as exc:
        raise SourceUnreadable(f"{path.name} cannot be read: {exc.strerror}.") from exc


def _header(path: Path) -> _Found:
    try:
        with guarded(f"{path.name} is a damaged DICOM file"):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_LOOKED_AT))
            return _Found(path.resolve(), *(str(header.get(keyword, "")) for keyword in _LOOKED_AT))
    except OSError as exc:
        raise SourceUnreadable(f"{path.name} cannot be read: {exc.strerror}.") from exc
