"""Embeddings out of an archive or out of files: found, read back whole and verified, and written as tables again."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from connectors.dicom.attributes import text
from connectors.dicom.metadata import SOP_INSTANCE
from connectors.dicom.readback.parametric_map import PARAMETRIC_MAP
from connectors.dicom.readback.part10 import guarded
from connectors.dicom.readback.remembered import header_of, memory_of
from connectors.dicom.readback.slide_levels import FindSlide
from connectors.dicom.readback.stored import Origin, StoredEmbeddings
from connectors.dicom.readback.stored_objects import read_objects
from connectors.dicom.result.derived import ANNOTATIONS
from connectors.endpoints import Endpoints
from connectors.protocols import Result
from connectors.stored_files import FileShelf, content_of
from connectors.stored_series import ArchiveShelf
from connectors.stored_table import SUFFIXES, read_table
from connectors.tables import numpy_file, parquet
from connectors.tables.protocol import Table, TableContent, TableFolder
from models.domain.embedding import Embeddings, Provenance, ResultKey
from models.domain.errors import RequestError, ResultNotFound
from models.domain.slide import safe_name

Told = Callable[[int], None]

_CLASSES: Mapping[str, tuple[str, ...]] = {
    "": (ANNOTATIONS.sop_class_uid, PARAMETRIC_MAP),
    "annotations": (ANNOTATIONS.sop_class_uid,),
    "map": (PARAMETRIC_MAP,),
}


_LAYOUTS: Mapping[str, Table] = {".npz": numpy_file.TABLE, ".parquet": parquet.TABLE}


@dataclass(frozen=True, slots=True)
class Choice:
    """What to read where there is more than one thing.

    Parameters
    ----------
    group : str
        Number or label of an annotation group; "": the only one with measurements.
    kind : str
        ``annotations`` or ``map``; "": annotations if there are any.

    Raises
    ------
    RequestError
        There is no such kind.
    """

    group: str = ""
    kind: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _CLASSES:
            raise RequestError("What is read is annotations or map: give one of them as the kind, or neither.")


@dataclass(frozen=True, slots=True)
class Found:
    """Embeddings read back, with the header of their slide.

    Parameters
    ----------
    stored : StoredEmbeddings
    header : DICOM JSON of the image that the patches were cut from, or None
        As the archive has it; from files, as far as the result took it over.
    """

    stored: StoredEmbeddings
    header: Mapping[str, Any] | None = None

    def result(self) -> Result:
        """Return the result anew, as a sink takes it; its objects get the UIDs that they have.

        Holes come last: where they were among the patches is not stored.
        """
        provenance = self.stored.provenance
        key = ResultKey(provenance.result_key)
        slide, step_px = self.stored.slide, _step_px(provenance)
        name = safe_name(f"{slide or 'slide'}.{provenance.encoder or 'embeddings'}.{key.sha256[:8]}")
        return Result(key, name, _with_holes(self.stored), provenance, self.header, step_px=step_px, slide=slide)


def _with_holes(stored: StoredEmbeddings) -> Embeddings:
    """Return the embeddings with a row for each hole that is known besides."""
    embeddings, holes = stored.embeddings, stored.hole_boxes
    if holes is None or not len(holes):
        return embeddings
    px = holes[:, :2] * np.array(stored.provenance.level_scale)
    spacing, um, marks = stored.provenance.level_0_spacing_um, embeddings.positions_um, embeddings.fallbacks
    return Embeddings(
        np.concatenate([embeddings.matrix, np.full((len(holes), embeddings.dimension), np.nan, np.float32)]),
        np.concatenate([embeddings.boxes, holes]),
        np.concatenate([embeddings.positions_px, px]),
        None if um is None else np.concatenate([um, px * np.array(spacing)]),
        None if marks is None else np.concatenate([marks, np.zeros(len(holes), np.bool_)]),
    )


def read_stored(
    sources: Sequence[str], endpoints: Endpoints, choice: Choice | None = None, told: Told | None = None
) -> Iterator[Found]:
    """Yield the embeddings of each result in some places.

    Parameters
    ----------
    sources : sequence of str
        Series of results, or of slides that results refer to (DICOMweb URL, ``ENDPOINT/STUDY_UID/SERIES_UID``); DICOM
        files and folders of them, which are taken together; ``.parquet`` and ``.npz`` tables of Slidewire's.
    endpoints : Endpoints
    choice : Choice or None
    told : callable or None
        Told of each object or table that was read.

    Raises
    ------
    ResultNotFound
        A place holds none, or several to choose from.
    ResultCorrupt
        A number is missing, or the digest is not the recorded one.
    """
    choice, told = choice or Choice(), told or _silent
    local = [path for source in sources if (path := _local(source)) is not None]
    tables = [path for path in local if path.suffix in SUFFIXES]
    for path in tables:
        yield Found(read_table(content_of(path), path))
        told(1)
    if files := [path for path in local if path not in tables]:
        yield from _of_files(files, choice, told)
    for source in sources:
        if _local(source) is None:
            yield _of_archive(source, endpoints, choice, told)


def _silent(objects: int) -> None:
    del objects


def _local(source: str) -> Path | None:
    if "://" in source:
        return None
    path = Path(source).expanduser()
    return path if path.exists() else None


def _of_files(paths: Sequence[Path], choice: Choice, told: Told) -> Iterator[Found]:
    shelf = FileShelf(paths)
    series = shelf.series(_CLASSES[choice.kind])
    if not series:
        raise ResultNotFound("There are no annotations and no maps among the files.")
    for files in series:
        yield _read(shelf.instances(files), choice, shelf.headers, told)


def _of_archive(source: str, endpoints: Endpoints, choice: Choice, told: Told) -> Found:
    ref = endpoints.locate(source)
    if ref.kind != "dicomweb":
        raise RequestError(
            "Give a series in a PACS (its DICOMweb URL, or ENDPOINT/STUDY_UID/SERIES_UID), or files on this machine."
        )
    shelf = ArchiveShelf(endpoints.of_ref(ref), ref.study_uid)
    try:
        urls = shelf.find(ref.series_uid, _CLASSES[choice.kind])
        return _read(shelf.instances(urls), choice, shelf.headers, told)
    finally:
        shelf.close()


def _read(datasets: Iterable[Dataset], choice: Choice, find_slide: FindSlide, told: Told) -> Found:
    memories: list[Dataset] = []

    def watched() -> Iterator[Dataset]:
        for dataset in datasets:
            if not memories:
                memories.append(_memory(dataset))
            yield dataset
            told(1)

    stored = read_objects(watched(), choice.group, find_slide)
    with guarded("The stored object is damaged: an attribute is malformed"):
        remembered = header_of(memories[0], stored.origin)
    return Found(stored, _header(stored.origin, find_slide) or remembered)


def _memory(dataset: Dataset) -> Dataset:
    with guarded("The stored object is damaged: an attribute is malformed"):
        return memory_of(dataset)


def _header(origin: Origin, find_slide: FindSlide) -> Mapping[str, Any] | None:
    items = find_slide(origin.image_series_uid)
    return next((item for item in items if origin.image_uid and text(item, SOP_INSTANCE) == origin.image_uid), None)


def _step_px(provenance: Provenance) -> tuple[float, float] | None:
    """Return what `Plan.step_px` was; None if the spacing is unknown."""
    ours, finest, scale = provenance.spacing_um, provenance.level_0_spacing_um, provenance.level_scale
    if not (ours and finest and provenance.stride_px):
        return None
    return provenance.stride_px * ours[0] / (finest[0] * scale[0]), provenance.stride_px * ours[1] / (
        finest[1] * scale[1]
    )


def to_file(result: Result, suffix: str) -> bytes:
    """Return a result as the one file of the layout that goes by a suffix: ``.parquet`` or ``.npz``.

    Raises
    ------
    RequestError
        Another suffix.
    """
    layout = _LAYOUTS.get(suffix)
    if layout is None:
        raise RequestError("Export writes .parquet or .npz, or into a folder: name the file accordingly.")
    made = layout.write(TableContent(result.name, result.embeddings, result.provenance, result.slide))
    return b"".join(file.content for file in made if not isinstance(file, TableFolder))
