"""Embeddings as Microscopy Bulk Simple Annotations (PS3.3 A.87): a rectangle a patch, a measurement a component.

Written with pydicom alone: highdicom writes the same group, but takes its dates from the clock and forgets
the frame of reference. The tests read the object back with highdicom.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from connectors.dicom import concepts
from connectors.dicom.derived import ANNOTATIONS, begin, inherit, inherit_specimen, line, reference, source_of
from connectors.dicom.record import Record
from connectors.protocols import Result
from models.domain.embedding import Embeddings
from models.domain.errors import ResultError

_EXACT = 2**24  # the largest range of whole numbers that float32 holds


def build_annotations(result: Result) -> Dataset:
    """Return the annotations object of a result.

    One group. Rectangles count in pixels of the total pixel matrix of the image that was read, from the
    upper left corner of its first pixel (PS3.3 C.37.1.2). Measurements come in the order of the components,
    values in the order of the patches. Digest, scale and provenance: see `connectors.dicom.record`.

    Parameters
    ----------
    result : Result
        With at least one patch: an annotation group cannot be empty. For no patches write the report alone.

    Raises
    ------
    ResultError
        There are no patches, or the slide is larger than float32 can count.
    SourceError
        The slide is no DICOM, or its header has no usable UIDs.
    """
    source = source_of(result)
    if not len(result.embeddings):
        raise ResultError("No patch was embedded: there is nothing to annotate; write the report alone.")
    dataset = begin(result, source, ANNOTATIONS)
    inherit_specimen(dataset, source)
    inherit(dataset, source, ("FrameOfReferenceUID",))
    if "FrameOfReferenceUID" in dataset:
        dataset.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    _refer(dataset, source)
    dataset.ContentLabel = "EMBEDDINGS"
    dataset.ContentDescription = line(f"Patch embeddings by {result.provenance.encoder}")
    dataset.ContentCreatorName = ""
    dataset.AnnotationCoordinateType = "2D"
    dataset.PixelOriginInterpretation = "VOLUME"
    dataset.AnnotationGroupSequence = [_group(result)]
    return dataset


def _refer(dataset: Dataset, source: Dataset) -> None:
    """Refer to the one image (PS3.3 C.37.1.2 for 2D) and its series (PS3.3 C.12.2)."""
    dataset.ReferencedImageSequence = [reference(source)]
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ReferencedInstanceSequence = [reference(source)]
    dataset.ReferencedSeriesSequence = [series]


def _group(result: Result) -> Dataset:
    embeddings, provenance = result.embeddings, result.provenance
    group = Dataset()
    group.AnnotationGroupNumber = 1
    group.AnnotationGroupUID = result.key.uid("annotations/group")
    group.AnnotationGroupLabel = line(f"Embeddings: {provenance.encoder}")
    group.AnnotationGroupDescription = (
        f"{len(embeddings)} patches, {embeddings.dimension} components each; "
        f"sha256 of boxes and values {embeddings.digest}"
    )
    group.AnnotationGroupGenerationType = "AUTOMATIC"
    group.AnnotationGroupAlgorithmIdentificationSequence = [_algorithm(result)]
    group.AnnotationPropertyCategoryCodeSequence = [concepts.code_item(concepts.SPATIAL_CONCEPT)]
    group.AnnotationPropertyTypeCodeSequence = [concepts.code_item(concepts.SELECTED_REGION)]
    group.NumberOfAnnotations = len(embeddings)
    group.AnnotationAppliesToAllOpticalPaths = "YES"
    group.GraphicType = "RECTANGLE"
    group.PointCoordinatesData = _corners(embeddings.boxes).tobytes()
    group.MeasurementsSequence = _measurements(embeddings)
    return group


def _algorithm(result: Result) -> Dataset:
    """Return the item of PS3.3 Table 10-19 (Algorithm Identification Macro)."""
    provenance = result.provenance
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [concepts.code_item(concepts.ARTIFICIAL_INTELLIGENCE)]
    item.AlgorithmName = line(provenance.encoder)
    item.AlgorithmVersion = line(provenance.encoder_revision) or "unknown"
    item.AlgorithmParameters = Record.of(result.embeddings, provenance).to_text()
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


def _measurements(embeddings: Embeddings) -> list[Dataset]:
    """Return one item a component, its values in the order of the annotations (PS3.3 Table C.37.1.2-2)."""
    columns = np.ascontiguousarray(embeddings.matrix.T, dtype="<f4")
    items = []
    for index, column in enumerate(columns):
        values = Dataset()
        values.FloatingPointValues = column.tobytes()
        item = Dataset()
        item.ConceptNameCodeSequence = [concepts.code_item(concepts.component(index))]
        item.MeasurementUnitsCodeSequence = [concepts.code_item(concepts.NO_UNITS)]
        item.MeasurementValuesSequence = [values]
        items.append(item)
    return items
