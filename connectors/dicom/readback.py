"""Result objects read back, strictly: a number that is missing or changed is an error, never a gap.

Read whole instances only. A server's metadata may hold the first of a component's values and no more
(Orthanc 1.10), which would look like a slide of one patch.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from connectors.dicom.concepts import SCHEME, VALUES_SHA256
from connectors.dicom.derived import ANNOTATIONS, REPORT
from connectors.dicom.record import Pair, Record
from models.domain.embedding import Embeddings
from models.domain.errors import EmbeddingInvalid, ResultCorrupt, ResultError, ResultNotFound

_POINTS = {"RECTANGLE": 4, "POINT": 1}  # points an annotation (PS3.3 C.37.1.2)
_DEEPEST = 16
# What reading a damaged element raises; pydicom converts an element when it is first looked at.
_DAMAGE = (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True)
class StoredEmbeddings:
    """Embeddings as an annotations object holds them.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
    boxes : int32 array, shape (N, 4)
        x, y, width, height in pixels of the referenced image; points are boxes without extent.
    digest : str
        Recomputed from both (`Embeddings.digest`), and equal to the recorded one if there is one.
    encoder, encoder_revision : str
        As the object names them.
    study_uid, series_uid, instance_uid : str
        Of the annotations object.
    image_uid : str
        SOP Instance UID of the image that the boxes count in.
    scale, level_0_spacing_um : (float, float) or None
        Pixels of level 0 per pixel of the image, micrometres per pixel of level 0 (x, y); see `Record`.
    provenance : mapping
        `Provenance.to_json` of the result; empty if the object is not Slidewire's.
    """

    matrix: NDArray[np.float32]
    boxes: NDArray[np.int32]
    digest: str
    encoder: str
    encoder_revision: str
    study_uid: str
    series_uid: str
    instance_uid: str
    image_uid: str
    scale: Pair | None = None
    level_0_spacing_um: Pair | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def positions(self) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Return upper left corners (x, y) in pixels of level 0 and in micrometres; None where unknown."""
        if self.scale is None:
            return None, None
        pixels = self.boxes[:, :2] * np.array(self.scale)
        micrometres = None if self.level_0_spacing_um is None else pixels * np.array(self.level_0_spacing_um)
        return pixels, micrometres


def read_annotations(dataset: Dataset) -> StoredEmbeddings:
    """Return the embeddings in an annotations object: of Slidewire, or any with full lists of measurements.

    Parameters
    ----------
    dataset : Dataset
        A whole instance, little-endian.

    Raises
    ------
    ResultNotFound
        It is no annotations object, or no group of it has rectangles or points with measurements.
    ResultCorrupt
        A list has another length than it should, or the values are not those of the recorded digest.
    """
    if str(dataset.get("SOPClassUID", "")) != ANNOTATIONS.sop_class_uid:
        raise ResultNotFound("The object holds no annotations, so no embeddings.")
    try:
        return _stored(dataset)
    except _DAMAGE as exc:
        raise ResultCorrupt("The annotations object is damaged: an attribute is missing or malformed.") from exc


def report_digest(dataset: Dataset) -> str:
    """Return the digest of the embeddings that a report records.

    Raises
    ------
    ResultNotFound
        It is no report, or none of Slidewire's.
    ResultCorrupt
        It cannot be read.
    """
    if str(dataset.get("SOPClassUID", "")) != REPORT.sop_class_uid:
        raise ResultNotFound("The object is no report on embeddings.")
    try:
        texts = [str(item.TextValue) for item in _items(dataset, 0) if _is_digest(item)]
    except _DAMAGE as exc:
        raise ResultCorrupt("The report is damaged: an attribute is missing or malformed.") from exc
    if len(texts) != 1:
        raise ResultNotFound("The report records no digest of embeddings; Slidewire did not write it.")
    return texts[0]


def compare_stored(ours: Dataset, theirs: Dataset) -> bool:
    """Whether an object from an archive holds the values of the one we would store.

    Annotations: the values and boxes themselves. Reports: the recorded digest. What cannot be read, or is
    something else, does not hold them.

    Raises
    ------
    ResultError
        `ours` is neither.
    """
    wanted = _digest(ours)
    try:
        return str(theirs.get("SOPClassUID", "")) == str(ours.SOPClassUID) and _digest(theirs) == wanted
    except ResultError:
        return False


def _digest(dataset: Dataset) -> str:
    if str(dataset.get("SOPClassUID", "")) == REPORT.sop_class_uid:
        return report_digest(dataset)
    return read_annotations(dataset).digest


def _stored(dataset: Dataset) -> StoredEmbeddings:
    group = _group(dataset)
    algorithms = group.get("AnnotationGroupAlgorithmIdentificationSequence") or [Dataset()]
    record = Record.from_text(str(algorithms[0].get("AlgorithmParameters", "")))
    boxes, matrix = _boxes(group), _matrix(group)
    digest = _verified(boxes, matrix, record)
    if record is None and _is_ours(group):
        raise ResultCorrupt("The stored embeddings have lost their digest: they cannot be trusted.")
    return StoredEmbeddings(
        matrix=matrix,
        boxes=boxes,
        digest=digest,
        encoder=str(algorithms[0].get("AlgorithmName", "")),
        encoder_revision=str(algorithms[0].get("AlgorithmVersion", "")),
        study_uid=str(dataset.StudyInstanceUID),
        series_uid=str(dataset.SeriesInstanceUID),
        instance_uid=str(dataset.SOPInstanceUID),
        image_uid=str(dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID),
        scale=record.scale if record else None,
        level_0_spacing_um=record.level_0_spacing_um if record else None,
        provenance=record.provenance if record else {},
    )


def _group(dataset: Dataset) -> Dataset:
    """Return the first group of rectangles or points in pixels that has measurements."""
    if dataset.get("AnnotationCoordinateType") == "2D":
        for group in dataset.get("AnnotationGroupSequence") or []:
            if group.get("GraphicType") in _POINTS and group.get("MeasurementsSequence"):
                return group
    raise ResultNotFound("No group of the annotations has rectangles or points in pixels with measurements.")


def _is_ours(group: Dataset) -> bool:
    return bool(group.MeasurementsSequence[0].ConceptNameCodeSequence[0].get("CodingSchemeDesignator") == SCHEME)


def _boxes(group: Dataset) -> NDArray[np.int32]:
    """Return x, y, width, height, shape (N, 4), rounded to whole pixels."""
    if "DoublePointCoordinatesData" in group:
        data, kind = group.DoublePointCoordinatesData, "<f8"
    else:
        data, kind = group.PointCoordinatesData, "<f4"
    points = _POINTS[group.GraphicType]
    flat = _numbers(data, kind, int(group.NumberOfAnnotations) * points * 2, "coordinates")
    if not np.isfinite(flat).all() or np.abs(flat, dtype=np.float64).max(initial=0) >= 2**31:
        raise ResultCorrupt("The coordinates of the stored embeddings are no pixels.")
    corners = flat.reshape(-1, points, 2).astype(np.float64)
    low, high = corners.min(axis=1), corners.max(axis=1)
    boxes: NDArray[np.int32] = np.rint(np.hstack([low, high - low])).astype(np.int32)
    return boxes


def _matrix(group: Dataset) -> NDArray[np.float32]:
    """Return the values, shape (N, D): N of every measurement, or the object is not whole."""
    count = int(group.NumberOfAnnotations)
    columns = [_column(item, count) for item in group.MeasurementsSequence]
    return np.ascontiguousarray(np.stack(columns, axis=1), dtype=np.float32)


def _column(measurement: Dataset, count: int) -> NDArray[np.float32]:
    (values,) = measurement.MeasurementValuesSequence
    if "AnnotationIndexList" in values:  # 1-based; only needed for sparse lists, which are refused
        indices = _numbers(values.AnnotationIndexList, "<u4", count, "indices")
        if not np.array_equal(indices, np.arange(1, count + 1)):
            raise ResultCorrupt("A measurement does not list the annotations one by one, in their order.")
    return _numbers(values.FloatingPointValues, "<f4", count, "values")


def _numbers(data: Any, kind: str, count: int, what: str) -> NDArray[Any]:
    """Return binary numbers (OF, OD, OL) after a look at their length."""
    expected = count * np.dtype(kind).itemsize
    if not isinstance(data, bytes) or len(data) != expected:
        held = len(data) if isinstance(data, bytes) else "no"
        raise ResultCorrupt(
            f"The stored embeddings hold {held} bytes of {what} instead of {expected}: "
            "fetch the whole instance, not its metadata."
        )
    return np.frombuffer(data, dtype=kind)


def _verified(boxes: NDArray[np.int32], matrix: NDArray[np.float32], record: Record | None) -> str:
    """Return the digest of the values after a comparison with the recorded one."""
    try:
        digest = Embeddings(matrix, boxes, boxes[:, :2].astype(np.float64), None).digest
    except EmbeddingInvalid as exc:
        raise ResultCorrupt("The stored embeddings hold NaN or infinity.") from exc
    if record is not None and record.values_sha256 != digest:
        raise ResultCorrupt("The stored embeddings are not those that were written: their digest differs.")
    return digest


def _items(dataset: Dataset, depth: int) -> Iterator[Dataset]:
    """Yield the content items of a report, at any depth."""
    children: Iterable[Dataset] = dataset.get("ContentSequence") or []
    for item in children if depth < _DEEPEST else ():
        yield item
        yield from _items(item, depth + 1)


def _is_digest(item: Dataset) -> bool:
    if item.get("ValueType") != "TEXT":
        return False
    name = item.ConceptNameCodeSequence[0]
    return bool(
        name.get("CodeValue") == VALUES_SHA256.value
        and name.get("CodingSchemeDesignator") == VALUES_SHA256.scheme_designator
    )
