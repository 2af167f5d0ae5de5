"""The codes that DICOM itself publishes: what is in none of its context groups may be a hospital's own words."""

from functools import cache

from pydicom.dataset import Dataset
from pydicom.sr._snomed_dict import mapping
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

_LONGEST = 64  # Code Meaning is LO (PS3.5 6.2)
_RETIRED = "SRT"  # SNOMED's old identifiers (PS3.16 8.1.1)


def public_code(item: Dataset) -> Code | None:
    """Return the code of an item in the words of PS3.16; None if DICOM publishes no such code.

    Nothing of the item itself is handed on but the choice among the published codes. SNOMED's retired identifiers
    become today's.
    """
    scheme, value = str(item.get("CodingSchemeDesignator", "")), str(item.get("CodeValue", ""))
    if scheme == _RETIRED:
        scheme, value = "SCT", mapping[_RETIRED].get(value, "")
    meaning = _meanings().get((scheme, value))
    return None if meaning is None else Code(value, scheme, meaning[:_LONGEST].strip())


@cache
def _meanings() -> dict[tuple[str, str], str]:
    """Return the meaning of each published code by scheme and value; 0.4 s, once a process."""
    return {
        (code.scheme_designator, code.value): code.meaning
        for scheme in codes.schemes()
        for code in getattr(codes, scheme).concepts.values()
    }
