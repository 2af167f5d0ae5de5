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
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from models.domain.errors import SourceError

_UID = re.compile(r"[0-9.]{1,64}")
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")  # PS3.5 6.1.3; lone surrogates
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
_SEXES = ("M", "F", "O", "")  # PS3.3 C.7.1.1

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
    values that their value representation does not allow to be written. Attributes that every result needs
    and that may be empty (type 2) are there, if only empty.

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
    for keyword in TYPE_2:
        if keyword not in dataset:
            _put(dataset, keyword, "")
    if dataset.PatientSex not in _SEXES:
        _put(dataset, "PatientSex", "")
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
    if not isinstance(values, list) or (len(values) > 1 and vr != "SQ" and dictionary_VM(tag) == "1"):
        return None
    if vr == "SQ":
        items = [_dataset(item, depth + 1) for item in values if isinstance(item, Mapping)]
        return DataElement(tag, vr, items)
    converted = [_CONVERTERS[vr](value) for value in values]
    if vr not in _LONG and sum(len(str(value).encode()) + 1 for value in converted) > 65534:
        return None
    value = converted if len(converted) > 1 else next(iter(converted), "")
    return DataElement(tag, vr, value, validation_mode=IGNORE)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise TypeError("no text")
    return _UNWRITABLE.sub("", str(value))


def _name(value: Any) -> str:
    """Return a person's name in DICOM's notation from its JSON object (PS3.18 F.2.2)."""
    if not isinstance(value, Mapping):
        return _text(value)
    groups = [_text(value.get(group)) for group in ("Alphabetic", "Ideographic", "Phonetic")]
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
        yield vr, _text
    for vr in _INTEGERS:
        yield vr, _integer(vr)
    yield from (("PN", _name), ("UI", _uid), ("DS", _decimal), ("FL", _float32), ("FD", _real))


_CONVERTERS = dict(_converters())  # a value representation that is not here (binary, UN) is left out
