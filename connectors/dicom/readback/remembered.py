"""A slide's header as its results remember it: what they took over, for when the slide itself is not at hand."""

from typing import Any

from pydicom.dataset import Dataset

from connectors.dicom.readback.stored import Origin
from connectors.dicom.result.concepts import ACQUISITION_EQUIPMENT
from connectors.dicom.result.inherited import FROM_EQUIPMENT, FROM_PATIENT_AND_STUDY, FROM_SPECIMEN

_FRAME = ("FrameOfReferenceUID", "PositionReferenceIndicator")


def memory_of(dataset: Dataset) -> Dataset:
    """Return what a result object has taken over from its slide: small, and safe to keep when the object is let go.

    Patient, study, specimen and frame of reference, and of Slidewire's own objects the scanner and the time of the
    slide; nothing of its pixels.
    """
    memory = Dataset()
    for keyword in (*FROM_PATIENT_AND_STUDY, *FROM_SPECIMEN, *_FRAME, "ContentDate", "ContentTime"):
        if keyword in dataset:
            memory.add(dataset[keyword])
    for item in dataset.get("ContributingEquipmentSequence") or []:
        purposes = item.get("PurposeOfReferenceCodeSequence") or [Dataset()]
        if purposes[0].get("CodeValue") == ACQUISITION_EQUIPMENT.value:
            for keyword in FROM_EQUIPMENT:
                if keyword in item:
                    memory.add(item[keyword])
    return memory


def header_of(memory: Dataset, origin: Origin) -> dict[str, Any] | None:
    """Return that as the DICOM JSON (PS3.18 F) of the image that the object refers to; None if it names none."""
    if not (origin.image_uid and origin.image_class_uid and origin.image_series_uid):
        return None
    named = Dataset()
    named.update(memory)
    named.SOPClassUID, named.SOPInstanceUID = origin.image_class_uid, origin.image_uid
    named.SeriesInstanceUID, named.StudyInstanceUID = origin.image_series_uid, origin.study_uid
    header: dict[str, Any] = named.to_json_dict(suppress_invalid_tags=True)
    return header
