"""Slides in local DICOM files: a folder or one file, through EZ-WSI's local classes."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
import pydicom.errors
from ez_wsi_dicomweb import (
    dicom_slide,
    ez_wsi_errors,
    local_dicom_file_interface,
    local_dicom_slide_cache,
)

from connectors.dicom.metadata import SOP_CLASS, SOP_INSTANCE, Json, select_slide, slide_of, value
from connectors.endpoints import Endpoints
from connectors.protocols import Traffic
from models.domain.errors import FrameMissing, NotASlide, SourceUnreadable
from models.domain.patch import EncodedFrame
from models.domain.slide import Slide, SlideRef, safe_name

# What pydicom and EZ-WSI raise on a damaged file.
_DAMAGE = (AttributeError, KeyError, ValueError, TypeError, EOFError)
_OPEN_INSTANCES = 4  # EZ-WSI reads an instance whole; a few stay in memory


def _dicom_files(location: Path) -> list[Path]:
    if location.is_file():
        return [location]
    files = sorted(path for path in location.rglob("*") if path.is_file() and path.stat().st_size > 132)
    found = []
    for path in files:
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                found.append(path)
    return found


def _header_of(path: Path) -> Json:
    try:
        with pydicom.dcmread(path, stop_before_pixels=True) as dataset:
            header: Json = dataset.to_json_dict(suppress_invalid_tags=True)
            header.update(dataset.file_meta.to_json_dict())
    except (pydicom.errors.InvalidDicomError, *_DAMAGE) as exc:
        raise SourceUnreadable(f"{path.name} is damaged DICOM ({type(exc).__name__}).") from exc
    return header


class DicomFilesSource:
    """A `Source` over the DICOM files of one series.

    Parameters
    ----------
    ref : SlideRef
        A folder (searched with its subfolders) or one file.
    """

    def __init__(self, ref: SlideRef) -> None:
        location = Path(ref.location)
        try:
            headers = {path: _header_of(path) for path in _dicom_files(location)}
        except OSError as exc:
            raise SourceUnreadable(f"{location.name} cannot be read: {exc.strerror}.") from exc
        if not headers:
            raise NotASlide(f"{location.name} holds no DICOM file.")
        slides = [header for header in headers.values() if str(value(header, SOP_CLASS)).endswith(".77.1.6")]
        series = {str(value(header, "0020000E")) for header in slides}
        if len(series) > 1:
            raise NotASlide(f"{location.name} holds the slides of {len(series)} series: give a folder with one.")
        selected = select_slide(slides or list(headers.values()), ref.instance_uids)
        self._headers = {str(value(item, SOP_INSTANCE)): item for item in selected.instances}
        self._files = {str(value(header, SOP_INSTANCE)): path for path, header in headers.items()}
        try:
            interface = _LocalFiles([str(self._files[uid]) for uid in self._headers], self._headers)
            self.ez_wsi = dicom_slide.LocalDicomSlide(interface)
        except ez_wsi_errors.EZWsiError as exc:
            raise NotASlide(f"EZ-WSI cannot open {location.name} ({type(exc).__name__}).") from exc
        except _DAMAGE as exc:  # it reads the pixel data, too
            raise SourceUnreadable(f"{location.name} is damaged DICOM ({type(exc).__name__}).") from exc
        self._slide = slide_of(
            self.ez_wsi.levels, ref, safe_name(location.stem if location.is_file() else location.name), selected.notes
        )
        self._accessor = lru_cache(_OPEN_INSTANCES)(self._open)
        self._lock = threading.Lock()

    def _open(self, uid: str) -> Any:
        try:
            with self._files[uid].open("rb") as file:
                return local_dicom_slide_cache.InstanceFrameAccessor(file)
        except (OSError, pydicom.errors.InvalidDicomError, *_DAMAGE) as exc:
            raise SourceUnreadable(f"{self._files[uid].name} is damaged: its frames cannot be found.") from exc

    @property
    def slide(self) -> Slide:
        """The slide's geometry, as EZ-WSI's level map gives it."""
        return self._slide

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield frames in order, from the files' pixel data."""
        for instance in self._slide.levels[level].instances:
            first, last = instance.frame_offset, instance.frame_offset + instance.frame_count
            numbers = [index for index in indices if first <= index < last]
            if not numbers:
                continue
            with self._lock:
                accessor = self._accessor(instance.uid)
            syntax = str(value(self._headers[instance.uid], "00020010") or "")
            for index in numbers:
                try:
                    yield EncodedFrame(index, accessor[index - first], syntax)
                except IndexError as exc:
                    raise FrameMissing(f"Frame {index - first + 1} is missing in the pixel data of a file.") from exc

    def header(self, level: int) -> Mapping[str, Any] | None:
        """Return the metadata of the level's first instance."""
        return self._headers[self._slide.levels[level].instances[0].uid]

    def icc_profile(self, level: int) -> bytes | None:
        """Return None."""
        del level
        return None

    def close(self) -> Traffic:
        """Let go of the pixel data in memory."""
        self._accessor.cache_clear()
        return Traffic()


class _LocalFiles(local_dicom_file_interface.LocalDicomFileInterface):  # type: ignore[misc]
    """EZ-WSI's local files, with the metadata that `select_slide` has completed."""

    def __init__(self, paths: Sequence[str], headers: Mapping[str, Json]) -> None:
        super().__init__(paths)
        self._completed = headers

    def get_instances(self, study_uid: str, series_uid: str) -> list[Any]:
        """Return EZ-WSI's objects with what it insists on filled in."""
        objects = list(super().get_instances(study_uid, series_uid))
        for item in objects:
            completed = self._completed[item.sop_instance_uid]
            for tag in ("00080008", "00480001", "00480002"):
                item.dicom_tags.pop(tag, None)  # a volume of zero is taken back, not only filled in
                if tag in completed:
                    item.dicom_tags[tag] = completed[tag]
        return objects


def open_source(ref: SlideRef, endpoints: Endpoints) -> DicomFilesSource:
    """Open a slide in DICOM files."""
    del endpoints
    return DicomFilesSource(ref)
