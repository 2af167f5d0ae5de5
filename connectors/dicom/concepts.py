"""The codes in result objects: DICOM's own where there is one, else the private scheme ``99SLIDEWIRE``.

The private scheme, version 1 (PS3.3 C.12.1.1.6: identified in every object that uses it):

================  ===========================================================================
``EC00001`` ...   Component 1, 2, ... of an embedding; the number is 1-based, five digits or more
``PATCHES``       Number of patches that were embedded
``GRID_PATCHES``  Number of patches of the grid, before the selection by tissue
``DIMENSION``     Number of components of an embedding
``PATCH_SIDE``    Side of a patch as the encoder saw it, in pixels
``PATCH_STEP``    Distance between patch origins, in the same pixels
``SPACING_X/_Y``  True spacing of the patches along x (columns) and y (rows), micrometres per pixel
``SPACING_ASKED`` Spacing that was asked for, micrometres per pixel
``LEVEL``         Index of the pyramid level that was read, 0 the finest
``TISSUE_SHARE``  Least share of tissue in a patch that was asked for, 0 to 1
``VALUES_SHA256`` sha256 of the boxes (int32) and the values (float32), little-endian, row by row
``MODEL_SHA256``  sha256 of the encoder's weights
``MODEL_SOURCE``  Where the encoder comes from
``MODEL_LICENCE`` Licence of the encoder
``PREPROCESSING`` What was done to the pixels before the encoder saw them
``RESULT_KEY``    sha256 of what identifies the result
``NOTE``          Something that was assumed, corrected or done instead
``EMBEDDINGS``    The object that holds the embeddings
================  ===========================================================================
"""

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

SCHEME = "99SLIDEWIRE"
SCHEME_VERSION = "1"

NO_UNITS = Code("1", "UCUM", "no units")
PIXELS = Code("{pixels}", "UCUM", "pixels")
MICROMETRE = Code("um", "UCUM", "micrometer")

SPATIAL_CONCEPT = Code("309825002", "SCT", "Spatial and Relational Concept")  # CID 7150
SELECTED_REGION = Code("111099", "DCM", "Selected region")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")  # CID 7005
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
LIGHT_MICROSCOPY = Code("104157003", "SCT", "Light Microscopy")
DEVICE = Code("121007", "DCM", "Device")  # CID 270
SPECIMEN = Code("121027", "DCM", "Specimen")  # CID 271


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
VALUES_SHA256 = _own("VALUES_SHA256", "SHA-256 of the embeddings")
MODEL_SHA256 = _own("MODEL_SHA256", "SHA-256 of the weights of the encoder")
MODEL_SOURCE = _own("MODEL_SOURCE", "Source of the encoder")
MODEL_LICENCE = _own("MODEL_LICENCE", "Licence of the encoder")
PREPROCESSING = _own("PREPROCESSING", "Pre-processing of the pixels")
RESULT_KEY = _own("RESULT_KEY", "SHA-256 of what identifies the result")
NOTE = _own("NOTE", "Note")
EMBEDDINGS = _own("EMBEDDINGS", "Embeddings of the patches")


def component(index: int) -> Code:
    """Return the concept of one component of an embedding; `index` is 0-based, the code 1-based."""
    return _own(f"EC{index + 1:05d}", f"Embedding component {index + 1}")


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
    item.CodingSchemeName = "Slidewire: embeddings of whole-slide images"
    item.CodingSchemeVersion = SCHEME_VERSION
    item.CodingSchemeResponsibleOrganization = "The Slidewire project"
    return item
