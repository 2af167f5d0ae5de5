"""Embeddings as Microscopy Bulk Simple Annotations (PS3.3 A.87): a rectangle a patch, a measurement a component.

Written with pydicom alone: highdicom writes the same group, but takes its dates from the clock and forgets
the frame of reference. The tests read the object back with highdicom.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from connectors.dicom.result import concepts
from connectors.dicom.result.derived import (
    ANNOTATIONS,
    begin,
    inherit,
    inherit_specimen,
    line,
    refer_to_series,
    reference,
    source_of,
)
from connectors.dicom.result.parts import Part, divide
from connectors.dicom.result.record import Record
from connectors.dicom.result.result_object import ResultObject
from connectors.protocols import Result
from models.domain.embedding import Provenance
from models.domain.errors import ResultError

_EXACT = 2**24  # the largest range of whole numbers that float32 holds


class _Kind(NamedTuple):
    """One group: what its UID ends in, its texts, what it is of, and its boxes."""

    uid: str
    label: str
    described: str
    property: Code
    boxes: NDArray[np.int32]


def annotate(result: Result, holes: NDArray[np.int32]) -> Iterator[ResultObject]:
    """Yield the annotation objects of a result, all in one series: one for each of its parts, none for no patches.

    Group 1 holds the patches and their values, the measurements in the order of the components, values in the order of
    the patches. Groups of rectangles alone follow if there are any: patches that were embedded without a step of the
    pre-processing (`Embeddings.fallbacks`) and, in the first object, holes. Rectangles count in pixels of the total
    pixel matrix of the image that was read, from the upper left corner of its first pixel (PS3.3 C.37.1.2). Digest,
    place among the parts, scale and provenance: see `connectors.dicom.result.record`.

    Parameters
    ----------
    result : Result
        Without holes (`Embeddings.whole`).
    holes : int32 array, shape (M, 4)
        Boxes of the patches whose pixels could not be had.

    Raises
    ------
    ResultError
        The slide is larger than float32 can count, or the description of the encoder too long.
    SourceError
        The slide is no DICOM, or its header has no usable UIDs.
    """
    source = source_of(result)
    for part in divide(result.embeddings):
        dataset = begin(result, source, ANNOTATIONS, part.number)
        inherit_specimen(dataset, source)
        # Module Frame of Reference is conditional (PS3.3 A.87): asked for by 3D coordinates only. dciodvfy warns of it,
        # and it stays: with the image's UID, a reader relates the annotations to what else lies in that frame.
        inherit(dataset, source, ("FrameOfReferenceUID",))
        if "FrameOfReferenceUID" in dataset:
            dataset.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
        dataset.ReferencedImageSequence = [reference(source)]  # the one image of 2D coordinates (PS3.3 C.37.1.2)
        refer_to_series(dataset, source)
        dataset.ContentLabel = "EMBEDDINGS"
        dataset.ContentDescription = line(f"Patch embeddings by {result.provenance.encoder}")
        dataset.ContentCreatorName = ""
        dataset.AnnotationCoordinateType = "2D"
        dataset.PixelOriginInterpretation = "VOLUME"
        dataset.AnnotationGroupSequence = _groups(result, part, holes)
        yield ResultObject("annotations", part.number, dataset, part.embeddings.digest, part.embeddings)


def _groups(result: Result, part: Part, holes: NDArray[np.int32]) -> list[Dataset]:
    provenance = result.provenance
    kinds = [_measured(part, provenance)]
    if part.embeddings.fallbacks is not None and part.embeddings.fallbacks.any():
        kinds.append(_fallbacks(part.embeddings.boxes[part.embeddings.fallbacks]))
    if len(holes) and part.number == 1:
        kinds.append(_holes(holes))
    stem = "annotations/group" if part.number == 1 else f"annotations/{part.number}/group"
    groups = [_group(number, kind, result.key.uid(stem + kind.uid)) for number, kind in enumerate(kinds, 1)]
    for group in groups:
        group.AnnotationGroupAlgorithmIdentificationSequence = [_algorithm(provenance)]
    (measuring,) = groups[0].AnnotationGroupAlgorithmIdentificationSequence
    measuring.AlgorithmParameters = Record.of(part, provenance, len(holes)).to_text()
    return groups


def _measured(part: Part, provenance: Provenance) -> _Kind:
    embeddings = part.embeddings
    described = (
        f"{len(embeddings)} patches, {embeddings.dimension} components each; "
        f"sha256 of boxes and values {embeddings.digest}"
    )
    if part.count > 1:
        described += f"; part {part.number} of {part.count}"
    return _Kind("", f"Embeddings: {provenance.encoder}", described, concepts.SELECTED_REGION, embeddings.boxes)


def _fallbacks(boxes: NDArray[np.int32]) -> _Kind:
    described = f"{len(boxes)} patches that were embedded without a step of the pre-processing, which failed"
    return _Kind("/fallbacks", "Fallbacks", described, concepts.FALLBACK_PATCHES, boxes)


def _holes(boxes: NDArray[np.int32]) -> _Kind:
    described = f"{len(boxes)} patches without an embedding: their pixels could not be had"
    return _Kind("/holes", "Holes", described, concepts.HOLE_PATCHES, boxes)


def _group(number: int, kind: _Kind, uid: str) -> Dataset:
    """Return a group of rectangles (PS3.3 Table C.37.1-2), but for its algorithm."""
    group = Dataset()
    group.AnnotationGroupNumber = number
    group.AnnotationGroupUID = uid
    group.AnnotationGroupLabel = line(kind.label)
    group.AnnotationGroupDescription = kind.described
    group.AnnotationGroupGenerationType = "AUTOMATIC"
    group.AnnotationPropertyCategoryCodeSequence = [concepts.code_item(concepts.SPATIAL_CONCEPT)]
    group.AnnotationPropertyTypeCodeSequence = [concepts.code_item(kind.property)]
    group.NumberOfAnnotations = len(kind.boxes)
    group.AnnotationAppliesToAllOpticalPaths = "YES"
    group.GraphicType = "RECTANGLE"
    group.PointCoordinatesData = _corners(kind.boxes).tobytes()
    return group


def _algorithm(provenance: Provenance) -> Dataset:
    """Return the item of PS3.3 Table 10-19 (Algorithm Identification Macro)."""
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [concepts.code_item(concepts.ARTIFICIAL_INTELLIGENCE)]
    item.AlgorithmName = line(provenance.encoder)
    item.AlgorithmVersion = line(provenance.encoder_revision) or "unknown"
    if source := line(provenance.encoder_source):
        item.AlgorithmSource = source
    return item


def _corners(boxes: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return upper left, upper right, lower right, lower left corner (x, y) of each box: (N, 4, 2)."""
    x, y, width, height = boxes.astype(np.int64).T
    corners = np.stack([x, y, x + width, y, x + width, y + height, x, y + height], axis=1)
    if np.abs(corners).max() > _EXACT:
        raise ResultError("The slide is too large for annotations in float32 (2^24 pixels): write a table instead.")
    return corners.reshape(-1, 4, 2).astype("<f4")
