"""The report of a result: a Comprehensive 3D SR (PS3.3 A.35.13) that says what was made, how, and with which digest.

The content is Measurement Report (PS3.16 TID 1500), its one measurement group a TID 1501 with a few private
items (the template is extensible). A digest of a file is a text item that has what it was made from below it: the
object (inferred from), or the name of the table (has properties). The digest of the values (`Embeddings.digest`) is
there, too: objects and tables both reproduce it, whoever writes their files anew.
"""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from connectors.dicom.result import concepts
from connectors.dicom.result.derived import DEVICE_UID, MAKER, PRODUCT, REPORT, begin, line, reference, source_of
from connectors.dicom.result.result_object import ResultObject
from connectors.protocols import Result
from models.domain.embedding import Output, Provenance

_CONTENT: Final = {"annotations": concepts.EMBEDDINGS, "map": concepts.MAP}
_NO_TABLE = {"annotations", "map", "report", "picture", "page"}


def build_report(result: Result, objects: Sequence[ResultObject]) -> Dataset:
    """Return the report of a result.

    The specimen is named in the content (PS3.16 TID 1009), as SR objects have no Specimen and no Frame of
    Reference module (PS3.3 A.35.13.3).

    Parameters
    ----------
    result : Result
        Of its `written`, the tables are named: a file in a folder by its name alone, one in a bucket by its URI.
    objects : sequence of ResultObject
        The result's other objects, in their order; none, if there are no patches.

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
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence([source, *(made.dataset for made in objects)])]
    for element in _content(result, source, objects):
        dataset.add(element)
    return dataset


def _evidence(instances: list[Dataset]) -> Dataset:
    """Return the study's item of the evidence, by series (PS3.3 Table 10-11, Hierarchical SOP Instance Reference)."""
    study = Dataset()
    study.StudyInstanceUID = instances[0].StudyInstanceUID
    study.ReferencedSeriesSequence = []
    of_series: dict[str, Dataset] = {}
    for instance in instances:
        uid = str(instance.SeriesInstanceUID)
        if uid not in of_series:
            series = of_series[uid] = Dataset()
            series.SeriesInstanceUID = uid
            series.ReferencedSOPSequence = []
            study.ReferencedSeriesSequence.append(series)
        of_series[uid].ReferencedSOPSequence.append(reference(instance))
    return study


def _content(result: Result, source: Dataset, objects: Sequence[ResultObject]) -> Dataset:
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
    items.extend(_object_digest(made) for made in objects)
    items.extend(_table_digest(output) for output in result.written if output.kind not in _NO_TABLE)
    report = sr.MeasurementReport(
        observation_context=_observation(source),
        procedure_reported=concepts.IMAGING_PROCEDURE,
        imaging_measurements=[group],
    )
    root: Dataset = report[0]
    return root


def _object_digest(made: ResultObject) -> Dataset:
    from highdicom import sr

    uids = made.dataset.SOPClassUID, made.dataset.SOPInstanceUID
    below = sr.CompositeContentItem(_CONTENT[made.kind], *uids, sr.RelationshipTypeValues.INFERRED_FROM)
    return _digest(made.sha256, below)


def _table_digest(output: Output) -> Dataset:
    from highdicom import sr

    name = line(_place(output.uri), 4096) or output.kind
    return _digest(output.sha256, sr.TextContentItem(concepts.TABLE, name, sr.RelationshipTypeValues.HAS_PROPERTIES))


def _digest(sha256: str, below: Dataset) -> Dataset:
    """Return the digest of a file with what it is of below it; all relationships as PS3.3 Table A.35.13-2 allows."""
    from highdicom import sr

    item: Dataset = sr.TextContentItem(concepts.FILE_SHA256, sha256, sr.RelationshipTypeValues.CONTAINS)
    item.ContentSequence = [below]
    return item


def _place(uri: str) -> str:
    """Return the URI of a file in a bucket without user, query and fragment, or the name of one in a folder.

    How the folders of a computer are called is nobody's business; in a bucket nothing is found by its name alone.
    """
    parts = urlsplit(uri)
    if "://" not in uri or parts.scheme == "file":
        return re.split(r"[/\\]", uri.rstrip("/"))[-1]
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


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
    provenance, embeddings = result.provenance, result.embeddings.whole()
    x, y = provenance.spacing_um or (None, None)
    marks = embeddings.fallbacks
    rows: list[tuple[Code, float | None, Code]] = [
        (concepts.PATCHES, len(embeddings), concepts.NO_UNITS),
        (concepts.GRID_PATCHES, provenance.grid_patches, concepts.NO_UNITS),
        (concepts.DIMENSION, provenance.dimension, concepts.NO_UNITS),
        (concepts.PATCH_SIDE, provenance.patch_px, concepts.PIXELS),
        (concepts.PATCH_STEP, provenance.stride_px, concepts.PIXELS),
        (concepts.LEVEL, provenance.level, concepts.NO_UNITS),
        (concepts.SPACING_X, x, concepts.MICROMETRE),
        (concepts.SPACING_Y, y, concepts.MICROMETRE),
        (concepts.SPACING_ASKED, provenance.requested_spacing_um, concepts.MICROMETRE),
        (concepts.TISSUE_SHARE, provenance.tissue_fraction, concepts.NO_UNITS),
        (concepts.GRID_SHARE, _share(len(embeddings), provenance.grid_patches), concepts.NO_UNITS),
        (concepts.HOLES, provenance.patches - len(embeddings), concepts.NO_UNITS),
        (concepts.FALLBACKS, None if marks is None else int(marks.sum()), concepts.NO_UNITS),
    ]
    return [(name, value, unit) for name, value, unit in rows if value is not None]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


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
