"""Maps of a result: a Parametric Map (PS3.3 A.75) of a few planes, each pixel a patch, placed where the slide lies.

Written with pydicom alone, as the annotations are. Each plane is one frame that holds the whole total pixel matrix:
TILED_SPARSE, since TILED_FULL knows no planes of different quantities (PS3.3 C.7.6.17.3).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.valuerep import format_number_as_ds

from connectors.dicom.attributes import Json, first_item, number
from connectors.dicom.result import concepts
from connectors.dicom.result.cell_grid import CellGrid
from connectors.dicom.result.derived import (
    MAP,
    Kind,
    begin,
    inherit,
    inherit_specimen,
    line,
    refer_to_series,
    reference,
    source_of,
)
from connectors.protocols import Result
from models.domain.errors import ResultError
from models.imaging.principal import principal_components
from models.imaging.similarity import cosine_similarity, distances_to_mean
from models.imaging.tissue import tissue_fractions

_WITHOUT_TISSUE = MAP._replace(part="map/without-tissue")  # another object: one UID never means two
_COMPONENTS = 3
_STEPS = 2.0**16
_IMAGE_TYPE = ("DERIVED", "PRIMARY", "VOLUME", "QUANTITY")  # PS3.3 C.8.32.2, C.8.16.1.4
_SLICE_THICKNESS = "00180050"
_MEASURES = ("52009229", "00289110")  # shared functional groups, Pixel Measures


@dataclass(frozen=True, eq=False)
class _Plane:
    """One frame: what its values are, and the values, shape (rows, columns)."""

    quantity: Code
    values: NDArray[np.float32]


def build_map(result: Result) -> tuple[Dataset | None, tuple[str, ...]]:
    """Return the maps of a result, and notes on what could not be mapped.

    The planes, all float32: the first three principal components, the distance of each embedding to the mean, and the
    share of tissue. A cell for which no patch was embedded is NaN, but for its share of tissue, which is known
    everywhere. Components that do not exist are 0.

    Parameters
    ----------
    result : Result
        Without holes (`Embeddings.whole`). Its `tissue` may be None: that plane is then left out, and noted.

    Returns
    -------
    Dataset or None
        None if there is no patch, the slide does not say where it lies, or the patches lie on no grid, as a note says.
    tuple of str
        Notes.

    Raises
    ------
    SourceError
        The slide is no DICOM, or its header has no usable UIDs.
    """
    source = source_of(result)
    if not len(result.embeddings):
        return None, ("there is no map: no patch was embedded",)
    try:
        grid = CellGrid.of(result)
    except ResultError as exc:
        return None, (f"there is no map: {exc.message}",)
    planes = [*_embedded(result, grid)]
    if result.tissue is None:
        note = "the map has no plane of tissue: none was looked for, or it was in a file that is not here"
        return _written(result, source, _WITHOUT_TISSUE, grid, planes), (note,)
    planes.append(_tissue(source, grid, result.tissue))
    return _written(result, source, MAP, grid, planes), ()


def build_similarity(result: Result, row: int) -> Dataset:
    """Return a map of the cosine similarity of all embeddings to one.

    Parameters
    ----------
    result : Result
        With its holes, if there are any.
    row : int
        0-based index of the one; it is part of the object's UID.

    Raises
    ------
    ResultError
        The slide does not say where it lies, or the patches lie on no grid.
    SourceError
        The slide is no DICOM, or its header has no usable UIDs.
    """
    source = source_of(result)
    try:
        grid = CellGrid.of(result)
    except ResultError as exc:
        raise ResultError(f"There can be no map: {exc.message}.") from exc
    plane = _Plane(concepts.SIMILARITY, grid.plane(cosine_similarity(result.embeddings.matrix, row)))
    kind = MAP._replace(part=f"similarity/{row}", series_number=904, series_description="Similarity of embeddings")
    return _written(result, source, kind, grid, [plane])


def pixel_digest(dataset: Dataset) -> str:
    """Return the sha256 of a map's pixels (little-endian); "" if it has none."""
    pixels = dataset.get("FloatPixelData")
    return hashlib.sha256(pixels).hexdigest() if isinstance(pixels, bytes) else ""


def _embedded(result: Result, grid: CellGrid) -> Iterator[_Plane]:
    matrix = result.embeddings.matrix
    for index, values in enumerate(principal_components(matrix, _COMPONENTS).values.T):
        yield _Plane(concepts.principal_component(index), grid.plane(_stepped(values)))
    yield _Plane(concepts.DISTANCE, grid.plane(distances_to_mean(matrix)))


def _stepped(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to a 65,536th of the largest: another processor's last digits should not make another object."""
    largest = np.abs(values).max(initial=0)
    if not largest:
        return values
    step = 2.0 ** np.ceil(np.log2(largest)) / _STEPS
    return np.asarray(np.rint(values / step) * step + 0.0)  # no -0


def _tissue(source: Dataset, grid: CellGrid, mask: NDArray[np.bool_]) -> _Plane:
    scale = source.TotalPixelMatrixColumns / mask.shape[1], source.TotalPixelMatrixRows / mask.shape[0]
    shares = tissue_fractions(mask, grid.boxes(), scale)
    return _Plane(concepts.TISSUE, shares.reshape(grid.rows, grid.columns).astype(np.float32))


def _written(result: Result, source: Dataset, kind: Kind, grid: CellGrid, planes: Sequence[_Plane]) -> Dataset:
    dataset = begin(result, source, kind)
    inherit_specimen(dataset, source)
    inherit(dataset, source, ("FrameOfReferenceUID",))
    dataset.PositionReferenceIndicator = source.get("PositionReferenceIndicator", "")
    refer_to_series(dataset, source)
    _describe(dataset, source)
    dataset.ContentDescription = line(f"{kind.series_description} by {result.provenance.encoder}")
    _organise(dataset, result.key.uid(f"{kind.part}/dimensions"), grid)
    dataset.SharedFunctionalGroupsSequence = [_shared(result, source, grid)]
    dataset.PerFrameFunctionalGroupsSequence = [_frame(place, plane, grid) for place, plane in enumerate(planes, 1)]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.NumberOfFrames = len(planes)
    dataset.Rows, dataset.Columns = grid.rows, grid.columns
    dataset.BitsAllocated = 32
    dataset.FloatPixelData = np.stack([plane.values for plane in planes]).astype("<f4").tobytes()
    return dataset


def _describe(dataset: Dataset, source: Dataset) -> None:
    """Fill the Parametric Map Image module (PS3.3 C.8.32.2); what was lossy stays so (PS3.3 C.7.6.1.1.5)."""
    dataset.ImageType = list(_IMAGE_TYPE)
    dataset.ContentLabel = "EMBEDDINGS_MAP"
    dataset.ContentCreatorName = ""
    dataset.ContentQualification = "RESEARCH"
    dataset.PixelPresentation = "MONOCHROME"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.BurnedInAnnotation = "NO"
    dataset.RecognizableVisualFeatures = "NO"
    dataset.AcquisitionContextSequence = []
    dataset.LossyImageCompression = "01" if source.get("LossyImageCompression") == "01" else "00"
    if dataset.LossyImageCompression == "01":
        inherit(dataset, source, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"))


def _organise(dataset: Dataset, uid: str, grid: CellGrid) -> None:
    """Fill Multi-frame Dimension (PS3.3 C.7.6.17) and Microscope Slide Layer Tile Organization (C.8.12.14)."""
    dataset.DimensionOrganizationType = "TILED_SPARSE"
    dataset.DimensionOrganizationSequence = [Dataset()]
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    dataset.DimensionIndexSequence = []
    for attribute, group in (
        ("LUTLabel", "RealWorldValueMappingSequence"),
        ("RowPositionInTotalImagePixelMatrix", "PlanePositionSlideSequence"),
        ("ColumnPositionInTotalImagePixelMatrix", "PlanePositionSlideSequence"),
    ):
        index = Dataset()
        index.DimensionOrganizationUID = uid
        index.DimensionIndexPointer = Tag(attribute)
        index.FunctionalGroupPointer = Tag(group)
        index.DimensionDescriptionLabel = attribute
        dataset.DimensionIndexSequence.append(index)
    dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = grid.columns, grid.rows
    dataset.TotalPixelMatrixFocalPlanes = 1
    dataset.TotalPixelMatrixOriginSequence = [_offsets(grid)]
    dataset.ImageOrientationSlide = [_decimal(part) for part in grid.orientation]


def _offsets(grid: CellGrid) -> Dataset:
    item = Dataset()
    for axis, offset in zip("XYZ", grid.origin_mm, strict=True):
        setattr(item, f"{axis}OffsetInSlideCoordinateSystem", _decimal(offset))
    return item


def _shared(result: Result, source: Dataset, grid: CellGrid) -> Dataset:
    """Return the functional groups of all frames (PS3.3 A.75.4)."""
    groups = Dataset()
    measures = Dataset()
    measures.PixelSpacing = [_decimal(grid.spacing_mm[1]), _decimal(grid.spacing_mm[0])]  # between rows, then columns
    if thickness := number(_header(result), _SLICE_THICKNESS):
        measures.SliceThickness = _decimal(thickness)
    groups.PixelMeasuresSequence = [measures]
    kept = Dataset()
    kept.RescaleIntercept, kept.RescaleSlope, kept.RescaleType = "0", "1", "US"
    groups.PixelValueTransformationSequence = [kept]
    kind = Dataset()
    kind.FrameType = list(_IMAGE_TYPE)
    groups.ParametricMapFrameTypeSequence = [kind]
    image = reference(source)
    image.PurposeOfReferenceCodeSequence = [concepts.code_item(concepts.SOURCE_IMAGE)]
    derivation = Dataset()
    derivation.DerivationDescription = (
        f"{len(result.embeddings)} patches by {line(result.provenance.encoder)}; "
        f"sha256 of boxes and values {result.embeddings.digest}"
    )
    derivation.DerivationCodeSequence = [concepts.code_item(concepts.MAPPING)]
    derivation.SourceImageSequence = [image]
    groups.DerivationImageSequence = [derivation]
    return groups


def _header(result: Result) -> Json:
    return dict(first_item(result.header or {}, *_MEASURES))


def _frame(place: int, plane: _Plane, grid: CellGrid) -> Dataset:
    """Return the functional groups of one frame; `place` counts from 1."""
    low, high = (float(bound) for bound in _bounds(plane.values))
    groups = Dataset()
    content = Dataset()
    content.DimensionIndexValues = [place, 1, 1]
    content.FrameLabel = plane.quantity.value
    groups.FrameContentSequence = [content]
    position = _offsets(grid)
    position.ColumnPositionInTotalImagePixelMatrix = position.RowPositionInTotalImagePixelMatrix = 1
    groups.PlanePositionSlideSequence = [position]
    window = Dataset()
    window.WindowCenter, window.WindowWidth = _decimal((low + high) / 2), _decimal(high - low or 1.0)
    window.VOILUTFunction = "LINEAR_EXACT"  # with LINEAR a width below 1 is none (PS3.3 C.11.2.1.2)
    groups.FrameVOILUTSequence = [window]
    groups.RealWorldValueMappingSequence = [_mapping(plane.quantity, low, high)]
    return groups


def _mapping(quantity: Code, low: float, high: float) -> Dataset:
    """Return the item of PS3.3 C.7.6.16.2.11: the values are what they are."""
    mapping = Dataset()
    mapping.LUTLabel = quantity.value
    mapping.LUTExplanation = quantity.meaning
    mapping.MeasurementUnitsCodeSequence = [concepts.code_item(concepts.NO_UNITS)]
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 1.0, 0.0
    mapping.DoubleFloatRealWorldValueFirstValueMapped = low
    mapping.DoubleFloatRealWorldValueLastValueMapped = high
    named = Dataset()
    named.ValueType = "CODE"
    named.ConceptNameCodeSequence = [concepts.code_item(concepts.QUANTITY)]
    named.ConceptCodeSequence = [concepts.code_item(quantity)]
    mapping.QuantityDefinitionSequence = [named]
    return mapping


def _bounds(values: NDArray[np.float32]) -> tuple[np.float32, np.float32]:
    there = values[np.isfinite(values)]
    return (there.min(), there.max()) if there.size else (np.float32(0), np.float32(0))


def _decimal(value: float) -> str:
    """Return a number as DS (PS3.5 6.2): 16 characters at most."""
    return str(format_number_as_ds(value))
