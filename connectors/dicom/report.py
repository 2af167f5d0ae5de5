"""The report of a result: a Comprehensive 3D SR (PS3.3 A.35.13) that says what was made, how, and with which digest.

The content is Measurement Report (PS3.16 TID 1500), its one measurement group a TID 1501 with a few private
text items (the template is extensible). The digest is that of the values (`Embeddings.digest`), which the
annotations and the table both reproduce; no digest of a file, which every writer makes differently.
"""

from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from connectors.dicom import concepts
from connectors.dicom.derived import DEVICE_UID, MAKER, PRODUCT, REPORT, begin, line, reference, source_of
from connectors.protocols import Result
from models.domain.embedding import Provenance


def build_report(result: Result, annotations: Dataset | None) -> Dataset:
    """Return the report of a result.

    The specimen is named in the content (PS3.16 TID 1009), as SR objects have no Specimen and no Frame of
    Reference module (PS3.3 A.35.13.3).

    Parameters
    ----------
    result : Result
    annotations : Dataset or None
        The object of `build_annotations`; None if there is none, as with no patches.

    Raises
    ------
    SourceError
        The slide is no DICOM, or its header has no usable UIDs.
    """
    source = source_of(result)
    dataset = begin(result, source, REPORT)
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PerformedProcedureCodeSequence = []
    dataset.ReferencedPerformedProcedureStepSequence = []
    evidence = [source] if annotations is None else [source, annotations]
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(evidence)]
    for element in _content(result, source, annotations):
        dataset.add(element)
    return dataset


def _evidence(instances: list[Dataset]) -> Dataset:
    """Return the study's item of the evidence (PS3.3 Table 10-11); each instance is alone in its series."""
    study = Dataset()
    study.StudyInstanceUID = instances[0].StudyInstanceUID
    study.ReferencedSeriesSequence = []
    for instance in instances:
        series = Dataset()
        series.SeriesInstanceUID = instance.SeriesInstanceUID
        series.ReferencedSOPSequence = [reference(instance)]
        study.ReferencedSeriesSequence.append(series)
    return study


def _content(result: Result, source: Dataset, annotations: Dataset | None) -> Dataset:
    """Return the root container (PS3.16 TID 1500)."""
    from highdicom import sr

    provenance = result.provenance
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(result.key.uid("report/group"), PRODUCT),
        finding_type=concepts.SELECTED_REGION,
        algorithm_id=sr.AlgorithmIdentification(
            name=_said(provenance.encoder),
            version=_said(provenance.encoder_revision),
            parameters=[f"{name}={value}" for name, value in _parameters(provenance)],
            family=concepts.ARTIFICIAL_INTELLIGENCE,
        ),
        measurements=[sr.Measurement(name, value, unit) for name, value, unit in _numbers(result)],
        source_images=[sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID)],
    )
    contains = sr.RelationshipTypeValues.CONTAINS
    items = group[0].ContentSequence
    items.extend(sr.TextContentItem(name, text, contains) for name, text in _texts(result))
    if annotations is not None:
        uids = annotations.SOPClassUID, annotations.SOPInstanceUID
        items.append(sr.CompositeContentItem(concepts.EMBEDDINGS, *uids, contains))
    report = sr.MeasurementReport(
        observation_context=_observation(source),
        procedure_reported=concepts.LIGHT_MICROSCOPY,
        imaging_measurements=[group],
    )
    root: Dataset = report[0]
    return root


def _observation(source: Dataset) -> Any:
    """Return who observes what: Slidewire, the specimen if there is exactly one (PS3.16 TID 1001)."""
    from highdicom import sr

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=DEVICE_UID, name=PRODUCT, manufacturer_name=MAKER, model_name=PRODUCT
    )
    specimens = source.get("SpecimenDescriptionSequence") or []
    subject = None
    if len(specimens) == 1 and specimens[0].get("SpecimenUID"):
        specimen = sr.SubjectContextSpecimen(
            uid=specimens[0].SpecimenUID,
            identifier=line(str(specimens[0].get("SpecimenIdentifier", ""))) or None,
            container_identifier=line(str(source.get("ContainerIdentifier", ""))) or None,
        )
        subject = sr.SubjectContext(concepts.SPECIMEN, specimen)
    return sr.ObservationContext(
        observer_device_context=sr.ObserverContext(concepts.DEVICE, device), subject_context=subject
    )


def _parameters(provenance: Provenance) -> list[tuple[str, Any]]:
    """Return what the algorithm was run with, for readers that know TID 4019 and not our codes."""
    spacing = "unknown" if provenance.spacing_um is None else "{} x {}".format(*provenance.spacing_um)
    return [
        ("weights_sha256", provenance.weights_sha256 or "none"),
        ("patch_px", provenance.patch_px),
        ("stride_px", provenance.stride_px),
        ("spacing_um", spacing),
        ("slidewire", provenance.slidewire),
        *provenance.encoder_options,
    ]


def _numbers(result: Result) -> list[tuple[Code, float, Code]]:
    """Return the measurements: concept, value, unit; what is unknown or was not asked for is left out."""
    provenance = result.provenance
    x, y = provenance.spacing_um or (None, None)
    rows: list[tuple[Code, float | None, Code]] = [
        (concepts.PATCHES, len(result.embeddings), concepts.NO_UNITS),
        (concepts.GRID_PATCHES, provenance.grid_patches, concepts.NO_UNITS),
        (concepts.DIMENSION, provenance.dimension, concepts.NO_UNITS),
        (concepts.PATCH_SIDE, provenance.patch_px, concepts.PIXELS),
        (concepts.PATCH_STEP, provenance.stride_px, concepts.PIXELS),
        (concepts.LEVEL, provenance.level, concepts.NO_UNITS),
        (concepts.SPACING_X, x, concepts.MICROMETRE),
        (concepts.SPACING_Y, y, concepts.MICROMETRE),
        (concepts.SPACING_ASKED, provenance.requested_spacing_um, concepts.MICROMETRE),
        (concepts.TISSUE_SHARE, provenance.tissue_fraction, concepts.NO_UNITS),
    ]
    return [(name, value, unit) for name, value, unit in rows if value is not None]


def _texts(result: Result) -> list[tuple[Code, str]]:
    provenance = result.provenance
    rows = [
        (concepts.VALUES_SHA256, result.embeddings.digest),
        (concepts.MODEL_SHA256, provenance.weights_sha256 or "none"),
        (concepts.MODEL_SOURCE, _said(provenance.encoder_source)),
        (concepts.MODEL_LICENCE, _said(provenance.encoder_licence)),
        (concepts.PREPROCESSING, _said(provenance.preprocessing)),
        (concepts.RESULT_KEY, provenance.result_key),
    ]
    return rows + [(concepts.NOTE, _said(note)) for note in provenance.notes]


def _said(text: str) -> str:
    """Return text that a TEXT content item may hold: never empty (PS3.3 C.17.3.2.4)."""
    return line(text, 4096) or "unknown"
