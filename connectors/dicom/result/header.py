"""A source header: DICOM JSON (PS3.18 F) from any server -> a data set that is safe to copy from.

The JSON is somebody else's. Every attribute is converted by itself, with the value representation of the
dictionary (PS3.6), and one that cannot be is left out. pydicom's own ``from_json`` is not used: one bad
value fails it as a whole, and its warnings print the value.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from connectors.dicom.result.text_values import SEVERAL, fit, is_offset
from models.domain.errors import SourceError

_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*", re.ASCII)  # leading zeros are wrong, and a UID all the same
_DECIMAL = re.compile(r"[0-9+\-.eE]{1,16}")
_DEEPEST = 12  # sequences in sequences; real slides need 5

_REQUIRED_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
# Type 2 in the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, if only empty.
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_ENUMERATED = {  # PS3.3 C.7.1.1, C.7.2.2, C.12.1
    "PatientSex": ("M", "F", "O"),
    "PatientIdentityRemoved": ("YES", "NO"),
    "QualityControlSubject": ("YES", "NO"),
    "PatientSexNeutered": ("ALTERED", "UNALTERED"),
    "SmokingStatus": ("YES", "NO", "UNKNOWN"),
    "LongitudinalTemporalInformationModified": ("UNMODIFIED", "MODIFIED", "REMOVED"),
}
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
_CODE = {*_CODE_VALUES, "CodingSchemeDesignator", "CodeMeaning"}
_REFERENCE = {"ReferencedSOPClassUID", "ReferencedSOPInstanceUID"}
# By these archives file a study: an object that had another, or none, would lie apart from its slide.
_FILED_BY = ("PatientID",)

_LONG = ("UC", "UR", "UT", "SQ")  # 32-bit length in Explicit VR (PS3.5 7.1.2); all others end at 65534 bytes
_INTEGERS = {
    "US": (0, 2**16 - 1),
    "SS": (-(2**15), 2**15 - 1),
    "UL": (0, 2**32 - 1),
    "SL": (-(2**31), 2**31 - 1),
    "UV": (0, 2**64 - 1),
    "SV": (-(2**63), 2**63 - 1),
    "IS": (-(2**31), 2**31 - 1),
}
_FLOAT32_MAX = 3.4028234e38


def dataset_of(header: Mapping[str, Any]) -> Dataset:
    """Return the header as a pydicom data set that can be copied from and written.

    Left out: pixels and other binary values, bulk data that is only a URI, private and unknown attributes,
    values that their value representation does not allow, codes and references that are not whole. Attributes that
    every result needs and that may be empty (type 2) are there, if only empty. A Patient ID that is too long is
    copied as it is.

    Parameters
    ----------
    header : DICOM JSON (PS3.18 F.2) of one instance

    Raises
    ------
    SourceError
        A UID without which nothing can refer to the instance is missing or malformed.
    """
    dataset = _dataset(header, 0)
    for keyword in _REQUIRED_UIDS:
        if not dataset.get(keyword):
            raise SourceError(
                f"The metadata of the slide have no usable {keyword}: no DICOM object can refer to the slide. "
                "Write the result to a folder, or repair the slide."
            )
    for keyword, terms in _ENUMERATED.items():
        if keyword in dataset and dataset[keyword].value not in terms:
            del dataset[keyword]
    if not is_offset(str(dataset.get("TimezoneOffsetFromUTC", ""))):
        dataset.pop("TimezoneOffsetFromUTC", None)
    if dataset.get("PatientIdentityRemoved") == "YES" and not (
        dataset.get("DeidentificationMethod") or dataset.get("DeidentificationMethodCodeSequence")
    ):
        _put(dataset, "DeidentificationMethod", "Not said by the slide")  # type 1C
    for keyword in TYPE_2:
        if keyword not in dataset:
            _put(dataset, keyword, "")
    return dataset


def _put(dataset: Dataset, keyword: str, value: str) -> None:
    tag = tag_for_keyword(keyword)
    dataset.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=IGNORE))


def _dataset(attributes: Mapping[str, Any], depth: int) -> Dataset:
    dataset = Dataset()
    if depth > _DEEPEST:
        return dataset
    for key, attribute in attributes.items():
        if isinstance(attribute, Mapping):
            try:
                element = _element(key, attribute, depth)
            except (ValueError, TypeError, OverflowError, KeyError, AttributeError):
                continue  # what cannot be read is left out; the required UIDs are looked at afterwards
            if element is not None:
                dataset.add(element)
    return dataset


def _element(key: str, attribute: Mapping[str, Any], depth: int) -> DataElement | None:
    """Return one attribute, or None if it has no place in a copy; raise what its conversion raises."""
    tag = int(key, 16)
    group, number = tag >> 16, tag & 0xFFFF
    if len(key) != 8 or group in {0x0000, 0x0002, 0x7FE0, 0xFFFE} or group % 2 or number == 0:
        return None
    if "BulkDataURI" in attribute or "InlineBinary" in attribute:
        return None
    vr = dictionary_VR(tag)
    values = attribute.get("Value", [])
    if not isinstance(values, list):
        return None
    return _sequence(tag, values, depth) if vr == "SQ" else _plain(tag, vr, values)


def _sequence(tag: int, values: list[Any], depth: int) -> DataElement | None:
    items = [_dataset(item, depth + 1) for item in values if isinstance(item, Mapping)]
    whole = [item for item in items if _is_whole(item)]
    return DataElement(tag, "SQ", whole) if whole or not values else None


def _plain(tag: int, vr: str, values: list[Any]) -> DataElement | None:
    if vr in SEVERAL:
        values = [part for value in values for part in (value.split("\\") if isinstance(value, str) else [value])]
    if len(values) > 1 and dictionary_VM(tag) == "1":
        return None
    if keyword_for_tag(tag) in _FILED_BY:
        converted = [fit(vr, _text(value), whole=False) for value in values]
    else:
        converted = [_CONVERTERS[vr](value) for value in values]
    if vr not in _LONG and sum(len(str(value).encode()) + 1 for value in converted) > 65534:
        return None
    value = converted if len(converted) > 1 else next(iter(converted), "")
    return DataElement(tag, vr, value, validation_mode=IGNORE)


def _is_whole(item: Dataset) -> bool:
    """Whether an item of a sequence says something; a code, a reference or a content item all that it must."""
    keywords = set(item.dir())
    if not keywords:
        return False
    if keywords & _CODE and not (item.get("CodeMeaning") and any(item.get(keyword) for keyword in _CODE_VALUES)):
        return False
    if ("CodeValue" in keywords or "LongCodeValue" in keywords) and not item.get("CodingSchemeDesignator"):
        return False
    if keywords & _REFERENCE and not keywords >= _REFERENCE:
        return False
    return "ValueType" not in keywords or bool(item.get("ConceptNameCodeSequence"))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise TypeError("no text")
    return str(value)


def _fitting(vr: str) -> Callable[[Any], str]:
    return lambda value: fit(vr, _text(value))


def _name(value: Any) -> str:
    """Return a person's name in DICOM's notation from its JSON object (PS3.18 F.2.2)."""
    if not isinstance(value, Mapping):
        return fit("PN", _text(value))
    groups = [fit("PN", _text(value.get(group))) for group in ("Alphabetic", "Ideographic", "Phonetic")]
    return "=".join(groups).rstrip("=")


def _uid(value: Any) -> str:
    uid = _text(value).strip()
    if not _UID.fullmatch(uid):
        raise ValueError("no UID")
    return uid


def _integer(vr: str) -> Callable[[Any], int]:
    low, high = _INTEGERS[vr]

    def convert(value: Any) -> int:
        number = int(value)
        if not low <= number <= high:
            raise ValueError("out of range")
        return number

    return convert


def _real(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def _float32(value: Any) -> float:
    number = _real(value)
    if abs(number) > _FLOAT32_MAX:
        raise ValueError("out of range")
    return number


def _decimal(value: Any) -> str:
    """Return at most 16 characters (PS3.5 6.2, DS), the source's own where they fit."""
    number = _real(value)
    text = str(value).strip()
    return text if _DECIMAL.fullmatch(text) else str(format_number_as_ds(number))


def _converters() -> Iterator[tuple[str, Callable[[Any], Any]]]:
    for vr in ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UR", "UT"):
        yield vr, _fitting(vr)
    for vr in _INTEGERS:
        yield vr, _integer(vr)
    yield from (("PN", _name), ("UI", _uid), ("DS", _decimal), ("FL", _float32), ("FD", _real))


_CONVERTERS = dict(_converters())  # a value representation that is not here (binary, UN) is left out
