"""A result without the identity of its patient: the header cleaned by an allow-list, names and keys under a secret key.

The result that comes out goes through the same writers as any other. Its numbers are unchanged, and they remain
patient data: see docs/deidentification.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Literal, Self

from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import RE_VALID_UID

from connectors.dicom.deidentification import confidentiality
from connectors.dicom.deidentification.confidentiality import ATTRIBUTES, KEPT_CONCEPTS, SPECIMEN_NAMES, TERMS, Action
from connectors.dicom.deidentification.pseudonyms import HOW, Pseudonyms
from connectors.dicom.deidentification.public_codes import public_code
from connectors.dicom.result.concepts import code_item
from connectors.dicom.result.header import dataset_of
from connectors.dicom.result.text_values import is_date
from connectors.protocols import Result
from models.domain.embedding import Provenance, ResultKey
from models.domain.errors import SettingsInvalid
from models.domain.slide import safe_name

Dates = Literal["drop", "shift"]

_METHOD = "Slidewire: allow-list, keyed pseudonyms"
# Sources of models that say nothing of who ran them; a server of one's own would.
_PUBLIC_SOURCE = re.compile(
    r"https://(huggingface\.co|github\.com)/.*|PyPI [\w.-]+ [\w.]+|part of Slidewire|a function of the program"
)
# Notes that hold nothing but numbers and our own words.
_KEPT_NOTES = tuple(
    re.compile(pattern)
    for pattern in (
        r"\d+ of \d+ patches are holes: [a-z ]+",
        r"\d+ of \d+ patches fell back: [a-z ]+",
        r"tissue: (otsu|ez-wsi) from (the luminance of )?level \d+; [\d,]+ of [\d,]+ patches kept \([\d.]+ %\)",
        r"interpolated \(cubic\) from level \d+ \([\d.e+-]+ um/px\), as asked: the detail is not in the slide",
        r"colours were brought to [a-z0-9]+ by the slide's ICC profile",
    )
)


@dataclass(frozen=True, slots=True)
class Deidentification:
    """How results are de-identified.

    Parameters
    ----------
    key : bytes
        Secret and random, 16 bytes or more; never shown. The same key gives a patient, a study, a slide the same
        pseudonyms in every result; results under different keys cannot be brought together by them.
    dates : str
        ``drop``: no date is left; ``shift``: all days of a patient go back by the same number of days, 1 to 3650.

    Raises
    ------
    SettingsInvalid
        The key is too short, or hardly random.
    """

    key: bytes = field(repr=False)
    dates: Dates = "drop"

    def __post_init__(self) -> None:
        Pseudonyms(self.key)

    @classmethod
    def of(cls, secret: str, dates: Dates = "drop") -> Self:
        """Return the policy for a key in hexadecimal digits.

        Raises
        ------
        SettingsInvalid
            It is no hexadecimal number, or too short; the message shows nothing of it.
        """
        try:
            key = bytes.fromhex(secret)
        except ValueError:
            raise SettingsInvalid(f"The de-identification key is no hexadecimal number: {HOW}.") from None
        return cls(key, dates)


def deidentified(result: Result, policy: Deidentification) -> Result:
    """Return a result that names neither patient, study, container nor slide, nor anybody else.

    Left out: the picture, which shows the patient's tissue, and what was written of the result before. Kept: the
    values, where the patches lie, and the mask of the tissue for the map.

    Parameters
    ----------
    result : Result
    policy : Deidentification

    Raises
    ------
    SourceError
        The header has no usable UIDs.
    """
    names = Pseudonyms(policy.key)
    key = ResultKey(names.sha256("result", result.key.sha256))
    header, slide = None, _slide(result.slide or result.name, names)
    if result.header is not None:
        made = _header(result.header, names, policy.dates)
        header, slide = made.to_json_dict(), str(made.SeriesInstanceUID)
    provenance = _provenance(result.provenance, key)
    name = f"{slide}.{safe_name(provenance.encoder)}.{key.sha256[:8]}"
    return replace(
        result, key=key, name=name, slide=slide, provenance=provenance, header=header, picture=None, written=()
    )  # fmt: skip


def _slide(name: str, names: Pseudonyms) -> str:
    """Return the name of a slide whose header is not known: of one from a PACS it is the series UID, here as there."""
    return names.uid(name) if re.fullmatch(RE_VALID_UID, name) else names.text("slide", name)


def _provenance(provenance: Provenance, key: ResultKey) -> Provenance:
    """Return what is said of the encoder and the patches, without what quotes the slide or names a place."""
    notes = [note for note in provenance.notes if any(kept.fullmatch(note) for kept in _KEPT_NOTES)]
    if left_out := len(provenance.notes) - len(notes):
        notes.append(f"notes left out at de-identification: {left_out}")
    public = _PUBLIC_SOURCE.fullmatch(provenance.encoder_source)
    options = tuple((name, value) for name, value in provenance.encoder_options if not set(value) & set("/\\"))
    return replace(
        provenance,
        result_key=key.sha256,
        notes=tuple(notes),
        encoder_source=provenance.encoder_source if public else "",
        encoder_options=options,
    )


def _header(header: Mapping[str, Any], names: Pseudonyms, dates: Dates) -> Dataset:
    source = dataset_of(header)
    patient = _patient(source)
    moved = dates == "shift"
    made = _Cleaning(names, patient, names.days(*patient) if moved else None).dataset(source)
    made.PatientIdentityRemoved = "YES"
    _add_method(made, moved=moved)
    gone = source.get("LongitudinalTemporalInformationModified") == "REMOVED"
    made.LongitudinalTemporalInformationModified = "MODIFIED" if moved and not gone else "REMOVED"
    return made


def _patient(source: Dataset) -> tuple[str, ...]:
    """Return what tells a patient from all others: ID and who issued it, or the study if there is no ID."""
    identifier = str(source.PatientID or "").strip()
    if identifier:
        return ("patient", identifier, str(source.get("IssuerOfPatientID") or "").strip())
    return ("study", str(source.StudyInstanceUID))


def _add_method(made: Dataset, *, moved: bool) -> None:
    """Add what is done here to what was done before (PS3.3 C.7.1.1, PS3.15 E.1.1)."""
    before = made.get("DeidentificationMethod") or []
    methods = [before] if isinstance(before, str) else list(before)
    ours = f"{_METHOD}, {'days moved' if moved else 'no dates'}"
    made.DeidentificationMethod = list(dict.fromkeys([*methods, ours]))
    applied = [confidentiality.BASIC_PROFILE, confidentiality.CLEAN_STRUCTURED_CONTENT]
    applied += [confidentiality.MODIFIED_DATES] if moved else []
    items = list(made.get("DeidentificationMethodCodeSequence") or [])
    known = {item.CodeValue for item in items}
    made.DeidentificationMethodCodeSequence = items + [code_item(code) for code in applied if code.value not in known]


def _is_term(element: DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    return all(value in TERMS[element.keyword] for value in values)


@dataclass(frozen=True, slots=True)
class _Cleaning:
    """One patient's attributes: what `confidentiality` says is done with them.

    Identifiers are hashed with their kind and their patient: that two patients have a block "A1" each tells nobody
    anything.
    """

    names: Pseudonyms
    patient: tuple[str, ...]
    days: int | None

    def dataset(self, source: Dataset, inside: str = "") -> Dataset:
        """Return the attributes that are taken over; `inside` is the sequence that the data set is an item of."""
        made = Dataset()
        for element in source:
            rule = ATTRIBUTES.get(element.keyword)
            if rule is None or rule.inside != inside or element.is_empty:
                continue
            value = self._value(rule.action, element)
            if value is not None:
                made.add(DataElement(element.tag, element.VR, value, validation_mode=IGNORE))
        return made

    def _value(self, action: Action, element: DataElement) -> Any:
        """Return the value that takes the place of one; None if none does."""
        if element.VR == "SQ":
            cleaners: dict[Action, Callable[[Dataset, str], Dataset | None]] = {
                Action.CODES: self._code, Action.ITEMS: self.dataset, Action.CONTENT: self._content
            }  # fmt: skip
            clean = cleaners[action]
            return [made for item in element.value if (made := clean(item, element.keyword))] or None
        changes = {Action.PATIENT: self._subject, Action.TEXT: self._text, Action.UID: self._uid, Action.DAY: self._day}
        if action in changes:
            return changes[action](element)
        foreign = action is Action.TERM and not _is_term(element)
        return None if foreign else element.value

    def _subject(self, element: DataElement) -> str:
        del element  # the name of a patient is the ID
        return self.names.text(*self.patient)

    def _text(self, element: DataElement) -> str | None:
        return self._identifier(element.keyword, str(element.value))

    def _uid(self, element: DataElement) -> str:
        return self.names.uid(str(element.value))

    def _day(self, element: DataElement) -> str | None:
        """Return the day of a date or date and time (DA, DT), moved; None if dates are dropped or it is no day."""
        day = str(element.value)[:8]
        if self.days is None or not is_date(day):
            return None
        try:
            return (date.fromisoformat(day) - timedelta(days=self.days)).isoformat().replace("-", "")
        except OverflowError:  # before the year 1
            return None

    def _identifier(self, keyword: str, text: str) -> str | None:
        return self.names.text(keyword, *self.patient, text.strip()) if text.strip() else None

    def _code(self, item: Dataset, inside: str) -> Dataset | None:
        code = public_code(item)
        if code is None:
            return None
        made = code_item(code)
        made.update(self.dataset(item, inside))  # its modifiers
        return made

    def _content(self, item: Dataset, inside: str) -> Dataset | None:
        """Return a content item (PS3.3 10.2) whose words are all the standard's, or a specimen's name under the key."""
        del inside
        concept = next((public_code(name) for name in item.get("ConceptNameCodeSequence") or []), None)
        made = Dataset()
        made.ValueType = str(item.get("ValueType", ""))
        if concept is None:
            return None
        made.ConceptNameCodeSequence = [code_item(concept)]
        if made.ValueType == "CODE" and concept in KEPT_CONCEPTS:
            values = filter(None, map(public_code, item.get("ConceptCodeSequence") or []))
            made.ConceptCodeSequence = [code_item(code) for code in values]
            return made if made.ConceptCodeSequence else None
        if made.ValueType == "TEXT" and concept in SPECIMEN_NAMES and item.get("TextValue"):
            made.TextValue = self._identifier("SpecimenIdentifier", str(item.TextValue)) or ""
            return made if made.TextValue else None
        return None
