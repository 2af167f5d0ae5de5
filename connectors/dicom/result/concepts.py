"""The codes in result objects: DICOM's own where there is one, else the private scheme ``99SLIDEWIRE``.

The private scheme is identified in every object that uses it (PS3.3 C.12.1.1.6). Version 1 is this: a code and its
meaning, which never changes within a version; ``docs/dicom-conformance.md`` explains each.
"""

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

SCHEME = "99SLIDEWIRE"
SCHEME_VERSION = "1"
# UUIDv5 of "codes.slidewire" (DNS) as a UID (PS3.5 B.2): anybody may call a private scheme by the same designator.
SCHEME_UID = "2.25.77730054163420708718348212743603454801"

NO_UNITS = Code("1", "UCUM", "no units")
PIXELS = Code("{pixels}", "UCUM", "pixels")
MICROMETRE = Code("um", "UCUM", "micrometer")

SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept")  # CID 7150
# CID 8135 (Microscopy Annotation Property Types, extensible) has cells and nuclei alone, CID 7151 anatomy and findings:
# either would claim that something was seen. This one, a finding of CID 6101, says only that a region was chosen.
SELECTED_REGION = Code("111099", "DCM", "Selected region")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")  # CID 7005
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")  # CID 100, which has no microscopy
DEVICE = Code("121007", "DCM", "Device")  # CID 270
SPECIMEN = Code("121027", "DCM", "Specimen")  # CID 271
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202
QUANTITY = Code("246205007", "SCT", "Quantity")


def _own(value: str, meaning: str) -> Code:
    return Code(value, SCHEME, meaning, SCHEME_VERSION)


PATCHES = _own("PATCHES", "Number of patches")
GRID_PATCHES = _own("GRID_PATCHES", "Number of patches before the selection by tissue")
DIMENSION = _own("DIMENSION", "Number of components of an embedding")
PATCH_SIDE = _own("PATCH_SIDE", "Side of a patch")
PATCH_STEP = _own("PATCH_STEP", "Distance between patch origins")
SPACING_X = _own("SPACING_X", "Pixel spacing of the patches along x")
SPACING_Y = _own("SPACING_Y", "Pixel spacing of the patches along y")
SPACING_ASKED = _own("SPACING_ASKED", "Pixel spacing asked for")
LEVEL = _own("LEVEL", "Index of the pyramid level, 0 the finest")
TISSUE_SHARE = _own("TISSUE_SHARE", "Least share of tissue in a patch")
GRID_SHARE = _own("GRID_SHARE", "Share of the grid that was embedded")
HOLES = _own("HOLES", "Number of patches without an embedding")
FALLBACKS = _own("FALLBACKS", "Number of patches without a pre-processing step")
VALUES_SHA256 = _own("VALUES_SHA256", "SHA-256 of the embeddings")
MODEL_SHA256 = _own("MODEL_SHA256", "SHA-256 of the weights of the encoder")
MODEL_SOURCE = _own("MODEL_SOURCE", "Source of the encoder")
MODEL_LICENCE = _own("MODEL_LICENCE", "Licence of the encoder")
PREPROCESSING = _own("PREPROCESSING", "Pre-processing of the pixels")
RESULT_KEY = _own("RESULT_KEY", "SHA-256 of what identifies the result")
NOTE = _own("NOTE", "Note")
FILE_SHA256 = _own("FILE_SHA256", "SHA-256 of a file")
EMBEDDINGS = _own("EMBEDDINGS", "Embeddings of the patches")
MAP = _own("MAP", "Maps of the embeddings")
TABLE = _own("TABLE", "Table of the embeddings")
FALLBACK_PATCHES = _own("FALLBACK_PATCHES", "Patches embedded without a step of the pre-processing")
HOLE_PATCHES = _own("HOLE_PATCHES", "Patches without an embedding")
DISTANCE = _own("DISTANCE", "Distance to the mean of the embeddings")
TISSUE = _own("TISSUE", "Share of tissue")
SIMILARITY = _own("SIMILARITY", "Cosine similarity to a chosen patch")
MAPPING = _own("MAPPING", "Mapping of embeddings")  # CID 7203 (extensible) has nothing like it


def component(index: int) -> Code:
    """Return the concept of one component of an embedding; `index` is 0-based, the code 1-based."""
    return _own(f"EC{index + 1:05d}", f"Embedding component {index + 1}")


def principal_component(index: int) -> Code:
    """Return the concept of a principal component; `index` is 0-based, the code 1-based."""
    return _own(f"PC{index + 1}", f"Principal component {index + 1} of the embeddings")


def code_item(code: Code) -> Dataset:
    """Return the item of a code sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    if code.scheme_version:
        item.CodingSchemeVersion = code.scheme_version
    item.CodeMeaning = code.meaning
    return item


def scheme_item() -> Dataset:
    """Return the item of Coding Scheme Identification Sequence (0008,0110) for our own codes."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeUID = SCHEME_UID
    item.CodingSchemeName = "Slidewire: embeddings of whole-slide images"
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = "The Slidewire project"
    return item
