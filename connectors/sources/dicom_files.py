"""Slides in local DICOM files: a folder or one file, through EZ-WSI's local classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ez_wsi_dicomweb import dicom_slide, dicom_web_interface, ez_wsi_errors, local_dicom_file_interface
from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors.dicom.attributes import integer, text, value
from connectors.dicom.icc import icc_of
from connectors.dicom.levels import levels_of
from connectors.dicom.metadata import SOP_CLASS, SOP_INSTANCE, SlideMetadata, select_slide
from connectors.dicom_file import DicomFile
from connectors.endpoints import Endpoints
from connectors.protocols import Traffic
from models.domain.errors import NotASlide, SlidewireError, SourceUnreadable
from models.domain.patch import EncodedFrame
from models.domain.slide import Level, Slide, SlideRef, safe_name
from models.imaging.syntax import CODEC_OF_SYNTAX, settle

_STUDY, _SERIES = "0020000D", "0020000E"
_ROWS, _COLUMNS = "00280010", "00280011"
_PHOTOMETRIC, _PLANAR = "00280004", "00280006"


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
            opened = [DicomFile(path) for path in _dicom_files(location)]
        except OSError as exc:
            raise SourceUnreadable(f"{location.name} cannot be read: {exc.strerror}.") from exc
        if not opened:
            raise NotASlide(f"{location.name} holds no DICOM file.")
        slides = [file for file in opened if text(file.header, SOP_CLASS).endswith(".77.1.6")]
        series = {text(file.header, _SERIES) for file in slides}
        if len(series) > 1:
            raise NotASlide(f"{location.name} holds the slides of {len(series)} series: give a folder with one.")
        selected = select_slide([file.header for file in slides or opened], ref.instance_uids, ref.reading)
        self._selected = selected
        self._headers = {text(item, SOP_INSTANCE): item for item in selected.instances}
        files = {text(file.header, SOP_INSTANCE): file for file in reversed(opened)}  # of twins, the first is selected
        self._files = {uid: files[uid] for uid in self._headers}
        found = levels_of(selected, ref, safe_name(location.stem if location.is_file() else location.name))
        self._slide, self._tilings = self._looked_into(found.slide), found.tilings

    def _looked_into(self, slide: Slide) -> Slide:
        """Find every frame of every level; a level with damaged pixel data is no use, one of them does no harm."""
        notes, faults, levels = list(slide.notes), list[SlidewireError](), []
        for level in slide.levels:
            fault = None
            for part in level.instances:
                try:
                    notes += [*self._files[part.uid].index.notes, *_mislabelled(self._files[part.uid])]
                except SlidewireError as exc:
                    fault = exc
                    faults.append(exc)
            levels.append(_with_problem(level, fault))
        if faults and all(level.problem for level in levels):
            raise faults[0]
        return replace(slide, levels=tuple(levels), notes=tuple(dict.fromkeys(notes)))

    @cached_property
    def ez_wsi(self) -> dicom_slide.LocalDicomSlide:
        """The slide as EZ-WSI opens it: it is given the headers, and reads a file whole once asked for its pixels.

        Raises
        ------
        NotASlide
            It cannot: it knows neither sparse tiles nor several focal planes or optical paths.
        """
        try:
            return dicom_slide.LocalDicomSlide(_LocalFiles(self._files, self._selected))
        except (ez_wsi_errors.EZWsiError, KeyError) as exc:
            raise NotASlide(
                f"EZ-WSI cannot open {Path(self._slide.ref.location).name} ({type(exc).__name__})."
            ) from exc

    @property
    def slide(self) -> Slide:
        """The slide's geometry."""
        return self._slide

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield frames in order, from the files' pixel data."""
        for place in self._tilings[level].places(indices):
            file = self._files[place.instance_uid]
            photometric, planar = text(file.header, _PHOTOMETRIC), integer(file.header, _PLANAR) == 1
            for tile, data in zip(place.tiles, file.frames(place.numbers), strict=True):
                yield EncodedFrame(tile, data, file.transfer_syntax, photometric, planar)

    def header(self, level: int) -> Mapping[str, Any] | None:
        """Return the metadata of the level's first instance."""
        return self._headers[self._slide.levels[level].instances[0].uid]

    def icc_profile(self, level: int) -> bytes | None:
        """Return the profile of the optical path that is read."""
        uid = self._slide.levels[level].instances[0].uid
        found = icc_of(self._headers[uid], self._tilings[level].optical_path)
        return found if isinstance(found, bytes) else None

    @property
    def traffic(self) -> Traffic:
        """What was read of frames so far."""
        read = self._files.values()
        return Traffic(sum(file.reads for file in read), sum(file.bytes_read for file in read))

    def close(self) -> Traffic:
        """Let go of what is in memory, and say what was read of frames."""
        for file in self._files.values():
            file.close()
        return self.traffic


def _mislabelled(file: DicomFile) -> Iterator[str]:
    """Say if a file's first frame is not what its transfer syntax calls it."""
    [data] = file.frames((1,))
    declared = file.transfer_syntax
    found, kept = settle(declared, data, integer(file.header, _ROWS) * integer(file.header, _COLUMNS) * 3)
    if not kept:
        kind = CODEC_OF_SYNTAX[found].value
        yield f"a file labels its frames {declared}, and their bytes are {kind}: they were believed"


def _with_problem(level: Level, fault: SlidewireError | None) -> Level:
    if fault is None or level.problem:
        return level
    said = str(fault)
    return replace(level, problem=said[:1].lower() + said[1:].rstrip("."))


class _LocalFiles(local_dicom_file_interface.LocalDicomFileInterface):  # type: ignore[misc]
    """EZ-WSI's local files, with headers that are read already."""

    def __init__(self, files: Mapping[str, DicomFile], selected: SlideMetadata) -> None:
        super().__init__(())
        self._files, self._selected = files, selected

    def get_study_uids(self) -> set[str]:
        """Return the study."""
        return {str(value(header, _STUDY)) for header in self._selected.instances}

    def get_series_uids(self, study_uid: str) -> set[str]:
        """Return the series."""
        del study_uid
        return {str(value(header, _SERIES)) for header in self._selected.instances}

    def get_instances(self, study_uid: str, series_uid: str) -> list[Any]:
        """Return EZ-WSI's objects."""
        store = dicom_path.FromString(f"https://localhost/studies/{study_uid}/series/{series_uid}")
        build = dicom_web_interface._build_dicom_object  # noqa: SLF001 - EZ-WSI's own classes call it too
        return [build(dicom_path.Type.INSTANCE, store, header) for header in self._selected.for_ez_wsi()]

    def _get_instances(self, study_uid: str, series_uid: str) -> Iterator[Any]:
        """Yield EZ-WSI's references to the files, which it reads for them."""
        if not self._dicoms:
            for file in self._files.values():
                self.add_dicom(str(file.path))
        yield from super()._get_instances(study_uid, series_uid)

    def get_decoded_frame_image(self, instance_path: Any, frame_index: int) -> Any:
        """Return a frame as EZ-WSI decodes it."""
        list(self._get_instances("", ""))
        return super().get_decoded_frame_image(instance_path, frame_index)


def open_source(ref: SlideRef, endpoints: Endpoints) -> DicomFilesSource:
    """Open a slide in DICOM files."""
    del endpoints
    return DicomFilesSource(ref)
