"""The embeddings in annotations objects of any writer: measurements, one a component, of rectangles, points, shapes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from connectors.dicom.readback.binary_values import binary_values
from connectors.dicom.readback.foreign import ReadValues
from connectors.dicom.readback.graphics import boxes_of
from connectors.dicom.readback.part10 import is_big_endian
from connectors.dicom.readback.slide_levels import FindSlide, SlideLevel
from connectors.dicom.readback.stored import Origin
from connectors.dicom.result.concepts import FALLBACK_PATCHES, HOLE_PATCHES, SCHEME
from connectors.dicom.result.derived import line
from connectors.dicom.result.record import Record
from models.domain.errors import ResultCorrupt, ResultNotFound

_COLUMNS_AT_ONCE = 64
_MOST_GAPS = 256  # places in the matrix for one value that is there


@dataclass(frozen=True)
class AnnotationPart(ReadValues):
    """What one annotations object holds.

    Parameters
    ----------
    fallbacks : bool array, shape (N,), or None
    holes : int32 array, shape (M, 4)
        Boxes of the patches of Slidewire's result that have no embedding, as its first part holds them.
    record : Record or None
        None: the object is not Slidewire's. Where there is one, the level was not looked for.
    """

    fallbacks: NDArray[np.bool_] | None
    holes: NDArray[np.int32]
    record: Record | None


def read_part(dataset: Dataset, group: str, find_slide: FindSlide) -> AnnotationPart:
    """Return what an annotations object holds.

    Parameters
    ----------
    dataset : Dataset
        A whole instance.
    group : str
        Number or label of the group; "": the only one with measurements.
    find_slide : callable

    Raises
    ------
    ResultNotFound
        No group has measurements, several have and none is chosen, or its coordinates cannot be told.
    ResultCorrupt
        A list has another length than it should.
    """
    order = ">" if is_big_endian(dataset) else "<"
    chosen = _chosen(dataset, group)
    solid = str(dataset.get("AnnotationCoordinateType", "")) == "3D"
    if not solid and str(dataset.get("PixelOriginInterpretation", "VOLUME")) == "FRAME":
        raise ResultNotFound(
            "The annotations count in pixels of single frames: where they lie in the slide is unknown."
        )
    algorithms = chosen.get("AnnotationGroupAlgorithmIdentificationSequence") or [Dataset()]
    record = Record.from_text(str(algorithms[0].get("AlgorithmParameters", "")))
    if record is None and _is_ours(chosen):
        raise ResultCorrupt("The stored embeddings have lost their digest: they cannot be trusted.")
    origin = _origin(dataset)
    level = None if record else SlideLevel.find(find_slide(origin.image_series_uid), origin.image_uid)
    boxes = boxes_of(chosen, order, level.placement if level else None, solid=solid)
    matrix, gaps = _matrix(chosen, order)
    return AnnotationPart(
        matrix=matrix,
        boxes=boxes,
        fallbacks=_fallbacks(dataset, boxes, record, order),
        holes=_holes(dataset, order),
        record=record,
        columns=tuple(_name(item) for item in chosen.MeasurementsSequence),
        algorithm=(str(algorithms[0].get("AlgorithmName", "")), str(algorithms[0].get("AlgorithmVersion", ""))),
        origin=origin,
        level=level,
        notes=(f"{gaps} of {len(matrix)} annotations lack a measurement: they are holes",) if gaps else (),
    )


def _chosen(dataset: Dataset, wanted: str) -> Dataset:
    if "AnnotationGroupSequence" not in dataset:  # type 1 (PS3.3 C.37.1.2)
        raise ResultCorrupt("The annotations object has no groups: it was cut off, or is not the whole instance.")
    groups = list(dataset.AnnotationGroupSequence)
    measured = [group for group in groups if group.get("MeasurementsSequence")]
    if wanted:
        measured = [
            group for group in measured if wanted in {_number(group), str(group.get("AnnotationGroupLabel", ""))}
        ]
    if len(measured) == 1:
        return measured[0]
    if wanted:
        raise ResultNotFound("No group of the annotations has that number or label, and measurements.")
    if not measured:
        raise ResultNotFound("No group of the annotations has measurements: it holds no embeddings.")
    named = ", ".join(f"{_number(group)} ({line(str(group.get('AnnotationGroupLabel', '')))})" for group in measured)
    raise ResultNotFound(f"Several groups of the annotations have measurements: {named}. Choose one with --group.")


def _number(group: Dataset) -> str:
    return str(group.get("AnnotationGroupNumber", ""))


def _is_ours(group: Dataset) -> bool:
    return bool(group.MeasurementsSequence[0].ConceptNameCodeSequence[0].get("CodingSchemeDesignator") == SCHEME)


def _name(measurement: Dataset) -> str:
    concepts = measurement.get("ConceptNameCodeSequence") or [Dataset()]
    return str(concepts[0].get("CodeMeaning", ""))


def _origin(dataset: Dataset) -> Origin:
    image = (dataset.get("ReferencedImageSequence") or [Dataset()])[0]
    uid = str(image.get("ReferencedSOPInstanceUID", ""))
    series = list(dataset.get("ReferencedSeriesSequence") or [])
    holding = [item for item in series if uid and uid in _referred(item)] or series[:1] or [Dataset()]
    found = Origin(
        str(dataset.StudyInstanceUID),
        str(dataset.SeriesInstanceUID),
        str(dataset.SOPInstanceUID),
        str(holding[0].get("SeriesInstanceUID", "")),
        str(image.get("ReferencedSOPClassUID", "")),
        uid,
    )
    if not uid and str(dataset.get("AnnotationCoordinateType", "")) != "3D":
        raise ResultCorrupt("The annotations do not say which image they count in.")
    return found


def _referred(series: Dataset) -> set[str]:
    return {str(item.get("ReferencedSOPInstanceUID", "")) for item in series.get("ReferencedInstanceSequence") or []}


def _matrix(group: Dataset, order: str) -> tuple[NDArray[np.float32], int]:
    """Return the values, shape (N, D), and how many rows lack one."""
    count, items = int(group.NumberOfAnnotations), list(group.MeasurementsSequence)
    held = sum(len(data) for data in (item.MeasurementValuesSequence[0].FloatingPointValues for item in items) if data)
    if count * len(items) > _MOST_GAPS * (held // 4 + 1):
        raise ResultCorrupt("The measurements of the stored annotations leave nearly all values out.")
    matrix = np.empty((count, len(items)), np.float32)
    for start in range(0, len(items), _COLUMNS_AT_ONCE):  # by blocks: a column at a time is slow in a matrix of rows
        block = np.stack(list(_columns(items[start : start + _COLUMNS_AT_ONCE], count, order)))
        matrix[:, start : start + _COLUMNS_AT_ONCE] = block.T
    if np.isinf(matrix).any():
        raise ResultCorrupt("The stored embeddings hold infinity.")
    gaps = np.isnan(matrix).any(axis=1)
    matrix[gaps] = np.nan
    return matrix, int(gaps.sum())


def _columns(items: list[Dataset], count: int, order: str) -> Iterator[NDArray[np.float32]]:
    for item in items:
        (values,) = item.MeasurementValuesSequence
        if "AnnotationIndexList" in values:
            yield _scattered(values, count, order)
        else:
            yield binary_values(values.FloatingPointValues, f"{order}f4", "values", count)


def _scattered(values: Dataset, count: int, order: str) -> NDArray[np.float32]:
    """Return a column of which only some annotations have a value; their numbers are 1-based."""
    indices = binary_values(values.AnnotationIndexList, f"{order}u4", "indices").astype(np.int64)
    given = binary_values(values.FloatingPointValues, f"{order}f4", "values", len(indices))
    if len(indices) and (indices[0] < 1 or indices[-1] > count or (np.diff(indices) <= 0).any()):
        raise ResultCorrupt("A measurement does not list the annotations one by one, in their order.")
    column = np.full(count, np.nan, np.float32)
    column[indices - 1] = given
    return column


def _fallbacks(
    dataset: Dataset, boxes: NDArray[np.float64], record: Record | None, order: str
) -> NDArray[np.bool_] | None:
    """Return which patches lie in the group of fallbacks; None if nothing is recorded of them."""
    if record is None or record.fallbacks is None:
        return None
    marked = np.zeros(len(boxes), np.bool_)
    for group in dataset.AnnotationGroupSequence:
        if _has_type(group, FALLBACK_PATCHES):
            marked |= _among(boxes, boxes_of(group, order, None, solid=False))
    if int(marked.sum()) != record.fallbacks:
        raise ResultCorrupt("The stored embeddings have lost which patches were embedded without normalisation.")
    return marked


def _holes(dataset: Dataset, order: str) -> NDArray[np.int32]:
    """Return the boxes in the groups of holes."""
    groups = [group for group in dataset.AnnotationGroupSequence if _has_type(group, HOLE_PATCHES)]
    found = [np.empty((0, 4)), *(boxes_of(group, order, None, solid=False) for group in groups)]
    return np.asarray(np.rint(np.concatenate(found)), np.int32)


def _has_type(group: Dataset, concept: Any) -> bool:
    types = group.get("AnnotationPropertyTypeCodeSequence") or [Dataset()]
    code = (types[0].get("CodeValue"), types[0].get("CodingSchemeDesignator"))
    return bool(code == (concept.value, concept.scheme_designator))


def _among(boxes: NDArray[np.float64], some: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which boxes are one of some others."""
    wanted = {tuple(box) for box in some.tolist()}
    return np.fromiter((tuple(box) in wanted for box in boxes.tolist()), np.bool_, len(boxes))
