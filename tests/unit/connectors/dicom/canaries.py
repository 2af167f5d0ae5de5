"""A slide whose every attribute, at every depth, says something that must not come out again."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag, tag_for_keyword

from connectors.dicom.deidentification.confidentiality import ATTRIBUTES, Action
from tests.unit.connectors.dicom.results import rich_header

WORD, SIGN, ROOT = "CANARY", "金糸雀", "1.2.999.4711"
DAY, TIME = "19770812", "135724"
KEPT_WORDS = {"Manufacturer", "ManufacturerModelName", "DeidentificationMethod"}
"""The only attributes of free text that are taken over."""

_TEXTS = {"LO", "LT", "SH", "ST", "UC", "UR", "UT", "CS", "AE", "AS"}
_NUMBERS = {"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"}
_INSIDE = {  # what the items of sequences hold, besides all that is taken over
    "CodeValue", "CodeMeaning", "CodingSchemeDesignator", "CodingSchemeVersion", "LongCodeValue", "URNCodeValue",
    "TextValue", "PersonName", "Date", "Time", "DateTime", "UID", "NumericValue", "LocalNamespaceEntityID",
    "UniversalEntityID", "SpecimenShortDescription", "SpecimenDetailedDescription", "InstitutionName",
    "ContainerComponentID", "OperatorsName", "ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "PatientBirthDate",
    "PatientSex", "PatientComments", "RequestedProcedureID", "SpecificCharacterSet",
}  # fmt: skip
_CHILDREN = {
    "SpecimenDescriptionSequence": (
        "IssuerOfTheSpecimenIdentifierSequence", "SpecimenTypeCodeSequence", "SpecimenPreparationSequence",
        "PrimaryAnatomicStructureSequence", "SpecimenLocalizationContentItemSequence",
    ),
    "SpecimenPreparationSequence": ("SpecimenPreparationStepContentItemSequence",),
    "SpecimenPreparationStepContentItemSequence": ("ConceptNameCodeSequence", "ConceptCodeSequence"),
    "PrimaryAnatomicStructureSequence": ("PrimaryAnatomicStructureModifierSequence",),
}  # fmt: skip
_KNOWN = {  # codes that the standard publishes, here with other words
    "ConceptNameCodeSequence": ("DCM", "111701"),
    "DeidentificationMethodCodeSequence": ("DCM", "113101"),
}


def canary_header() -> dict[str, Any]:
    """Return a rich header with a canary in every attribute that pydicom's dictionary knows, and in private ones.

    What is kept because it is a number or the make of the scanner is the rich header's.
    """
    numbers = count(1)
    header: dict[str, Any] = {}
    for tag in sorted(DicomDictionary):
        if tag >> 16 in {0x0000, 0x0002, 0x7FE0, 0xFFFE} or not keyword_for_tag(tag):
            continue
        header[f"{tag:08X}"] = _canary(tag, next(numbers))
    for private in ("00090010", "00091001", "40110010", "40111002"):
        header[private] = {"vr": "LO", "Value": [f"{WORD} {private}"]}
    rich = rich_header()
    sound = {name for name in ATTRIBUTES if _is_kept(name)} | {"SOPClassUID", "PositionReferenceIndicator"}
    for tag in (f"{tag_for_keyword(name):08X}" for name in sound | {"TotalPixelMatrixOriginSequence"}):
        header.pop(tag, None)
        header |= {tag: rich[tag]} if tag in rich else {}
    return header


def _canary(tag: int, number: int) -> dict[str, Any]:
    vr = dictionary_VR(tag)
    if vr == "SQ":
        return {"vr": vr, "Value": list(_items(keyword_for_tag(tag), number))}
    if vr == "PN":
        return {"vr": vr, "Value": [{"Alphabetic": f"{WORD}^{number}", "Ideographic": f"{SIGN}^{number}"}]}
    values = {"UI": f"{ROOT}.{number}", "DA": DAY, "TM": TIME, "DT": f"{DAY}{TIME}.5+0100"}
    if vr in values:
        return {"vr": vr, "Value": [values[vr]]}
    if vr in _TEXTS:
        return {"vr": vr, "Value": [f"{WORD} {number}"[:16]]}
    return {"vr": vr, "Value": [4711]} if vr in _NUMBERS else {"vr": vr, "InlineBinary": "Q0FOQVJZ"}


def _items(sequence: str, number: int) -> Iterator[dict[str, Any]]:
    """Yield an item full of canaries, and the same with a code that the standard knows and a value type."""
    inside = {*_INSIDE, *ATTRIBUTES} if sequence in ATTRIBUTES else {"TextValue", "UID", "PersonName"}
    plain = {name for name in inside if dictionary_VR(name) != "SQ" and not _is_kept(name)}
    tags = [tag_for_keyword(name) or 0 for name in sorted({*plain, *_CHILDREN.get(sequence, ())})]
    item = {f"{tag:08X}": _canary(tag, number) for tag in tags}
    if sequence != "ConceptNameCodeSequence":
        yield item
    if sequence == "SpecimenPreparationStepContentItemSequence":
        for kind in ("CODE", "TEXT", "PNAME", "DATETIME", "UIDREF", "NUMERIC"):
            yield item | {"0040A040": {"vr": "CS", "Value": [kind]}}
    elif sequence.endswith(("CodeSequence", "StructureSequence", "ModifierSequence")):
        scheme, value = _KNOWN.get(sequence, ("SCT", "12710003"))
        yield item | {
            "00080100": {"vr": "SH", "Value": [value]},
            "00080102": {"vr": "SH", "Value": [scheme]},
        }


def _is_kept(name: str) -> bool:
    return name in ATTRIBUTES and ATTRIBUTES[name].action is Action.KEEP
