"""Embeddings out of a PACS: find a result by its series, or by its slide's, and read it back whole."""

import json
from io import BytesIO

import numpy as np
import pyarrow as pa
import pydicom
import pydicom.errors
from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors.dicom.attributes import value, values_of
from connectors.dicom.metadata import SOP_CLASS, SOP_INSTANCE
from connectors.dicom.readback import StoredEmbeddings, read_annotations
from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoints
from connectors.http import json_of
from connectors.tables.parquet import encode, to_table
from models.domain.embedding import Embeddings
from models.domain.errors import RequestError, ResponseInvalid, ResultCorrupt, ResultNotFound
from models.domain.slide import SlideRef

_ANNOTATIONS = "1.2.840.10008.5.1.4.1.1.91.1"
_SERIES, _REFERENCED_SERIES = "0020000E", "00081115"


def read_series(ref: SlideRef, endpoints: Endpoints) -> StoredEmbeddings:
    """Read embeddings from a series of annotations, or from the one that refers to a slide's series.

    Always by whole instance: servers cut long values out of ``/metadata``.

    Raises
    ------
    ResultNotFound
        There are none, or several to choose from.
    ResultCorrupt
        A number is missing, or the digest is not the recorded one.
    """
    if ref.kind != "dicomweb":
        raise RequestError("Give the series in a PACS: its DICOMweb URL, or ENDPOINT/STUDY_UID/SERIES_UID.")
    endpoint = endpoints.of_ref(ref)
    web = DicomWeb(endpoint)
    try:
        path = dicom_path.FromString(f"{endpoint.url.rstrip('/')}/studies/{ref.study_uid}/series/{ref.series_uid}")
        found = [item for item in web.metadata(path) if value(item, SOP_CLASS) == _ANNOTATIONS]
        if not found:
            path = _series_about(web, path)
            found = [item for item in web.metadata(path) if value(item, SOP_CLASS) == _ANNOTATIONS]
        if len(found) != 1:
            raise ResultNotFound(f"The series holds {len(found)} annotation objects, not one.")
        content = web.instance(f"{path.complete_url}/instances/{value(found[0], SOP_INSTANCE)}")
    finally:
        web.session.close()
    try:
        dataset = pydicom.dcmread(BytesIO(content))
    except (pydicom.errors.InvalidDicomError, ValueError, KeyError, AttributeError) as exc:
        raise ResultCorrupt("What the server gives as annotations is no DICOM object.") from exc
    return read_annotations(dataset)


def _series_about(web: DicomWeb, slide: dicom_path.Path) -> dicom_path.Path:
    study = slide.GetStudyPath()
    answer = web.session.fetch(f"{study.complete_url}/series?Modality=ANN", "application/dicom+json")
    label = web.session.endpoint.label
    listed = json_of(answer, label, json.loads) if answer.body else []
    if not isinstance(listed, list):
        raise ResponseInvalid(f"The {label} answered a search with JSON that is no list.")
    about = []
    for item in listed:
        uid = str(value(item, _SERIES))
        path = dicom_path.FromPath(study, series_uid=uid)
        referred = [reference for entry in web.metadata(path) for reference in values_of(entry, _REFERENCED_SERIES)]
        if any(value(reference, _SERIES) == slide.series_uid for reference in referred):
            about.append(path)
    if not about:
        raise ResultNotFound("No annotations in the study refer to that series: embed the slide with --write-back.")
    if len(about) > 1:
        raise ResultNotFound(
            f"{len(about)} series of annotations refer to that slide: give the one you want (slidewire jobs show JOB)."
        )
    return about[0]


def to_file(stored: StoredEmbeddings, suffix: str) -> bytes:
    """Return what was read as a ``.parquet`` or ``.npz`` file (`embeddings`, `x`, `y`).

    Raises
    ------
    RequestError
        Another suffix.
    ResultCorrupt
        Where the patches lie in level 0 is not recorded.
    """
    px, um = stored.positions()
    if px is None:
        raise ResultCorrupt("The annotations do not say how their coordinates relate to the slide's finest level.")
    if suffix == ".npz":
        buffer = BytesIO()
        x, y = np.rint(px).astype(np.int64).T
        np.savez(buffer, embeddings=stored.matrix, x=x, y=y)
        return buffer.getvalue()
    if suffix == ".parquet":
        level = int(stored.provenance.get("level", 0))
        table: pa.Table = to_table(Embeddings(stored.matrix, stored.boxes, px, um), stored.provenance, level)
        return encode(table)
    raise RequestError("Export writes .parquet or .npz: name the file accordingly.")
