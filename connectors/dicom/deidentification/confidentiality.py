"""Which attributes of a slide a de-identified result takes over, and what becomes of each; all others are left out.

An allow-list: what is not in `ATTRIBUTES`, or is elsewhere than it says there, is left out, so a new attribute of the
standard, a retired or a private one is no leak. What PS3.15 (2026c) Table E.1-1 asks for each is beside it: D a dummy,
Z empty or a dummy, U another UID, X gone; "" where the table does not list the attribute. C is the action of an option
of the profile: Clean Structured Content (E.3.4) and, for dates, Modified Dates (E.3.6).
"""

from collections.abc import Container, Mapping
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from pydicom.sr.coding import Code
from pydicom.uid import UID_dictionary


class Action(Enum):
    """What becomes of an attribute; the value says it in words."""

    KEEP = "kept"
    PATIENT = "keyed hash of the patient"
    TEXT = "keyed hash"
    UID = "UID derived with the key"
    DAY = "left out, or moved with all dates of the patient, without the time of day"
    CODES = "kept where PS3.16 publishes the code, in its words"
    ITEMS = "cleaned item by item"
    CONTENT = "kept: coded content of the preparation; keyed hash: specimens' identifiers; no text, person, date"
    TERM = "kept if the standard defines that value"


class Rule(NamedTuple):
    """An action, that of PS3.15 Table E.1-1, and the sequence in whose items the attribute is ("": in none)."""

    action: Action
    profile: str
    inside: str = ""


ATTRIBUTES = MappingProxyType({
    # Patient and study (PS3.3 C.7.1.1, C.7.2.1)
    "PatientID": Rule(Action.PATIENT, "Z/D"),
    "PatientName": Rule(Action.PATIENT, "Z"),
    "StudyInstanceUID": Rule(Action.UID, "U"),
    "StudyID": Rule(Action.TEXT, "Z"),
    "AccessionNumber": Rule(Action.TEXT, "Z"),
    "StudyDate": Rule(Action.DAY, "Z, C"),
    # The image (PS3.3 C.7.3.1, C.12.1, C.7.4.1, C.8.12.4)
    "SeriesInstanceUID": Rule(Action.UID, "U"),
    "SOPClassUID": Rule(Action.TERM, ""),
    "SOPInstanceUID": Rule(Action.UID, "U"),
    "AcquisitionDateTime": Rule(Action.DAY, "X/Z/D, C"),
    "ContentDate": Rule(Action.DAY, "Z/D, C"),
    "FrameOfReferenceUID": Rule(Action.UID, "U"),
    "PositionReferenceIndicator": Rule(Action.TERM, ""),
    "Rows": Rule(Action.KEEP, ""),
    "Columns": Rule(Action.KEEP, ""),
    "NumberOfFrames": Rule(Action.KEEP, ""),
    "TotalPixelMatrixColumns": Rule(Action.KEEP, ""),
    "TotalPixelMatrixRows": Rule(Action.KEEP, ""),
    "TotalPixelMatrixFocalPlanes": Rule(Action.KEEP, ""),
    "TotalPixelMatrixOriginSequence": Rule(Action.ITEMS, ""),
    "XOffsetInSlideCoordinateSystem": Rule(Action.KEEP, "", "TotalPixelMatrixOriginSequence"),
    "YOffsetInSlideCoordinateSystem": Rule(Action.KEEP, "", "TotalPixelMatrixOriginSequence"),
    "ZOffsetInSlideCoordinateSystem": Rule(Action.KEEP, "", "TotalPixelMatrixOriginSequence"),
    "ImageOrientationSlide": Rule(Action.KEEP, ""),
    "ImagedVolumeWidth": Rule(Action.KEEP, ""),
    "ImagedVolumeHeight": Rule(Action.KEEP, ""),
    "ImagedVolumeDepth": Rule(Action.KEEP, ""),
    "SharedFunctionalGroupsSequence": Rule(Action.ITEMS, ""),
    "PixelMeasuresSequence": Rule(Action.ITEMS, "", "SharedFunctionalGroupsSequence"),
    "PixelSpacing": Rule(Action.KEEP, "", "PixelMeasuresSequence"),
    "SliceThickness": Rule(Action.KEEP, "", "PixelMeasuresSequence"),
    "LossyImageCompression": Rule(Action.TERM, ""),
    "LossyImageCompressionMethod": Rule(Action.TERM, ""),
    "LossyImageCompressionRatio": Rule(Action.KEEP, ""),
    # The scanner (PS3.3 C.7.5.1): its make, which encoders see in the pixels; not which one of them it is
    "Manufacturer": Rule(Action.KEEP, ""),
    "ManufacturerModelName": Rule(Action.KEEP, ""),
    # Container and specimen (PS3.3 C.7.6.22)
    "ContainerIdentifier": Rule(Action.TEXT, "D"),
    "ContainerTypeCodeSequence": Rule(Action.CODES, ""),
    "SpecimenDescriptionSequence": Rule(Action.ITEMS, ""),
    "SpecimenIdentifier": Rule(Action.TEXT, "D", "SpecimenDescriptionSequence"),
    "SpecimenUID": Rule(Action.UID, "U", "SpecimenDescriptionSequence"),
    "SpecimenTypeCodeSequence": Rule(Action.CODES, "", "SpecimenDescriptionSequence"),
    "SpecimenPreparationSequence": Rule(Action.ITEMS, "Z, C", "SpecimenDescriptionSequence"),
    "SpecimenPreparationStepContentItemSequence": Rule(Action.CONTENT, "", "SpecimenPreparationSequence"),
    "PrimaryAnatomicStructureSequence": Rule(Action.CODES, "", "SpecimenDescriptionSequence"),
    "PrimaryAnatomicStructureModifierSequence": Rule(Action.CODES, "", "PrimaryAnatomicStructureSequence"),
    # What was done to the slide before (PS3.3 C.7.1.1); our own part is added
    "DeidentificationMethod": Rule(Action.KEEP, ""),
    "DeidentificationMethodCodeSequence": Rule(Action.CODES, ""),
})  # fmt: skip

TERMS: Mapping[str, Container[str]] = MappingProxyType({
    "LossyImageCompression": {"00", "01"},  # PS3.3 C.7.6.1.1.5
    "LossyImageCompressionMethod": {"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_18181_1"},
    "PositionReferenceIndicator": {"SLIDE_CORNER"},  # PS3.3 C.7.4.1.1.2
    "SOPClassUID": UID_dictionary,  # PS3.6 A
})  # fmt: skip

# Content of a preparation step (PS3.16 TID 8001 to 8003): concept names of codes that are kept ...
KEPT_CONCEPTS = (
    Code("111701", "DCM", "Processing type"),
    Code("111703", "DCM", "Processing step description"),
    Code("111704", "DCM", "Sampling Method"),
    Code("111707", "DCM", "Parent specimen type"),
    Code("17636008", "SCT", "Specimen collection"),
    Code("371439000", "SCT", "Specimen type"),
    Code("424361007", "SCT", "Using substance"),
    Code("430863003", "SCT", "Tissue embedding medium"),
    Code("430864009", "SCT", "Tissue fixative"),
    Code("434711009", "SCT", "Specimen container"),
)
# ... and of texts that identify a specimen, as Specimen Identifier (0040,0551) does.
SPECIMEN_NAMES = (
    Code("121041", "DCM", "Specimen Identifier"),
    Code("111705", "DCM", "Parent Specimen Identifier"),
)
# The profile and the options that a result keeps to (PS3.16 CID 7050).
BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")
CLEAN_STRUCTURED_CONTENT = Code("113104", "DCM", "Clean Structured Content Option")
MODIFIED_DATES = Code("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option")
