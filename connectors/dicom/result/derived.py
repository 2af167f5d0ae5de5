"""What every result object has in common: what it takes over from its slide, its UIDs, its dates, its bytes.

Nothing here looks at a clock or draws a random number, so the same result is the same file to the byte.
"""

import re
from io import BytesIO
from typing import Final, NamedTuple

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import ExplicitVRLittleEndian

from connectors.dicom.result.concepts import ACQUISITION_EQUIPMENT, PROCESSING_EQUIPMENT, code_item, scheme_item
from connectors.dicom.result.header import TYPE_2, dataset_of
from connectors.dicom.result.inherited import (
    FROM_EQUIPMENT,
    FROM_PATIENT_AND_STUDY,
    FROM_SPECIMEN,
    TRIAL_STUDY,
    TRIAL_SUBJECT,
)
from connectors.dicom.result.text_values import is_date, is_time
from connectors.protocols import Result
from models.domain.embedding import Provenance
from models.domain.errors import SourceError

MAKER = "Slidewire project"
PRODUCT = "Slidewire"
# UUIDv5 of "implementation.slidewire" and "device.slidewire" (DNS) as UIDs (PS3.5 B.2).
IMPLEMENTATION_UID = "2.25.41630122101340741367768511766760109097"
DEVICE_UID = "2.25.224795251696261144668776546860988693464"

_LONG_AGO = ("19000101", "000000")


class Kind(NamedTuple):
    """One kind of result object; `part` names its UIDs (`ResultKey.uid`)."""

    part: str
    sop_class_uid: str
    modality: str
    series_number: int
    series_description: str


ANNOTATIONS: Final = Kind("annotations", "1.2.840.10008.5.1.4.1.1.91.1", "ANN", 901, "Embeddings")
REPORT: Final = Kind("report", "1.2.840.10008.5.1.4.1.1.88.34", "SR", 902, "Embeddings: how they were made")
MAP: Final = Kind("map", "1.2.840.10008.5.1.4.1.1.30", "OT", 903, "Maps of embeddings")


def source_of(result: Result) -> Dataset:
    """Return the header of the instance that the patches were cut from.

    Raises
    ------
    SourceError
        The slide is no DICOM, or its header has no usable UIDs.
    """
    if result.header is None:
        raise SourceError(
            "The slide is no DICOM: its result cannot be a DICOM object. Ask for a table in a folder instead."
        )
    return dataset_of(result.header)


def begin(result: Result, source: Dataset, kind: Kind, number: int = 1) -> Dataset:
    """Return a new object with its patient, study, series, equipment and SOP common modules (PS3.3 C.7, C.12).

    `number` is its Instance Number; objects of a kind are in one series.
    """
    date, time = moment_of(source)
    dataset = Dataset()
    inherit(dataset, source, FROM_PATIENT_AND_STUDY)
    _complete_trial(dataset)
    dataset.SpecificCharacterSet = "ISO_IR 192"  # JSON is UTF-8, and so are the copies of its strings
    dataset.SOPClassUID = kind.sop_class_uid
    dataset.SOPInstanceUID = result.key.uid(kind.part if number == 1 else f"{kind.part}/{number}")
    dataset.SeriesInstanceUID = result.key.uid(f"{kind.part}/series")
    dataset.Modality = kind.modality
    dataset.SeriesNumber = kind.series_number
    dataset.SeriesDescription = line(f"{kind.series_description} ({result.provenance.encoder})")
    dataset.InstanceNumber = number
    for event in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{event}Date", date)
        setattr(dataset, f"{event}Time", time)
    _equip(dataset, result.provenance)
    dataset.ContributingEquipmentSequence = _contributors(source, result.provenance, date + time)
    dataset.CodingSchemeIdentificationSequence = [scheme_item()]
    dataset.file_meta = _file_meta(dataset)
    return dataset


def inherit(dataset: Dataset, source: Dataset, keywords: tuple[str, ...]) -> None:
    """Copy the attributes that `source` has, as they are; empty ones only where they may be empty (type 2)."""
    for keyword in keywords:
        if keyword in source and (keyword in TYPE_2 or not source[keyword].is_empty):
            dataset.add(source[keyword])


def _complete_trial(dataset: Dataset) -> None:
    """Add what the Clinical Trial modules ask for (type 2); without sponsor, protocol or subject (type 1), no trial."""
    subject = any(dataset.get(f"ClinicalTrialSubject{which}") for which in ("ID", "ReadingID"))
    if not (subject and dataset.get("ClinicalTrialSponsorName") and dataset.get("ClinicalTrialProtocolID")):
        for keyword in (*TRIAL_SUBJECT, *TRIAL_STUDY):
            dataset.pop(keyword, None)
        return
    type_2 = ["ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName"]
    if any(keyword in dataset for keyword in TRIAL_STUDY):
        type_2.append("ClinicalTrialTimePointID")
    for keyword in type_2:
        if keyword not in dataset:
            setattr(dataset, keyword, "")


def inherit_specimen(dataset: Dataset, source: Dataset) -> None:
    """Copy the Specimen module (PS3.3 C.7.6.22) if the slide has it, with the type 2 attributes it forgot.

    Without it (and it is left out if a specimen lacks its identifiers, type 1) the General Series module asks for
    Laterality (2C, PS3.3 C.7.3.1): it is unknown.
    """
    specimens = source.get("SpecimenDescriptionSequence") or []
    known = all(specimen.get("SpecimenIdentifier") and specimen.get("SpecimenUID") for specimen in specimens)
    if not source.get("ContainerIdentifier") or not specimens or not known:
        dataset.Laterality = ""
        return
    inherit(dataset, source, FROM_SPECIMEN)
    for keyword in ("IssuerOfTheContainerIdentifierSequence", "ContainerTypeCodeSequence"):
        if keyword not in dataset:
            setattr(dataset, keyword, [])
    for item in dataset.SpecimenDescriptionSequence:
        for keyword in ("IssuerOfTheSpecimenIdentifierSequence", "SpecimenPreparationSequence"):
            if keyword not in item:
                setattr(item, keyword, [])


def reference(instance: Dataset) -> Dataset:
    """Return the item that refers to an instance (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item


def refer_to_series(dataset: Dataset, source: Dataset) -> None:
    """Refer to the slide's series, and in it to the one instance (PS3.3 C.12.2)."""
    series = Dataset()
    series.SeriesInstanceUID = source.SeriesInstanceUID
    series.ReferencedInstanceSequence = [reference(source)]
    dataset.ReferencedSeriesSequence = [series]


def moment_of(source: Dataset) -> tuple[str, str]:
    """Return date and time (DA, TM) of the slide's making: the same whenever the result is computed.

    Acquisition DateTime (0008,002A), else the content's, else the study's, else 1900-01-01.
    """
    acquired = re.split(r"[+-]", str(source.get("AcquisitionDateTime", "")))[0]
    candidates = (
        (acquired[:8], acquired[8:]),
        (source.get("ContentDate", ""), source.get("ContentTime", "")),
        (source.get("StudyDate", ""), source.get("StudyTime", "")),
    )
    for date, time in candidates:
        if is_date(str(date)):
            return str(date), str(time) if is_time(str(time)) else "000000"
    return _LONG_AGO


def line(text: str, longest: int = 64) -> str:
    """Return `text` as one value of VR LO (PS3.5 6.2): no backslash, control or lone surrogate, cut to size."""
    return re.sub(r"[\\\x00-\x1f\x7f\ud800-\udfff]+", " ", text)[:longest].strip()


def to_bytes(dataset: Dataset) -> bytes:
    """Return the object as a file (PS3.10 7.1): Explicit VR Little Endian, the preamble zero."""
    dataset.preamble = b"\x00" * 128
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _equip(dataset: Dataset, provenance: Provenance) -> None:
    """Fill the Enhanced General Equipment module (PS3.3 C.7.5.2)."""
    dataset.Manufacturer = MAKER
    dataset.ManufacturerModelName = PRODUCT
    dataset.DeviceSerialNumber = "none"  # type 1; software has none
    dataset.SoftwareVersions = [
        line(provenance.slidewire) or "unknown",
        line(f"{provenance.encoder} {provenance.encoder_revision}"),
    ]


def _contributors(source: Dataset, provenance: Provenance, moment: str) -> list[Dataset]:
    """Return who made the slide (if it says so) and who made this (PS3.3 C.12.1, General Equipment C.7.5.1)."""
    items = []
    if source.get("Manufacturer"):
        scanner = Dataset()
        scanner.PurposeOfReferenceCodeSequence = [code_item(ACQUISITION_EQUIPMENT)]
        inherit(scanner, source, FROM_EQUIPMENT)
        items.append(scanner)
    ours = Dataset()
    ours.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    _equip(ours, provenance)
    ours.ContributionDescription = line(f"Embeddings by {provenance.encoder}", 1024)
    items.append(ours)
    for item in items:
        item.ContributionDateTime = moment
    return items


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "SLIDEWIRE"
    return meta
