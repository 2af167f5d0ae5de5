"""Result objects in an archive: found by their series, or by their slide's, and fetched whole, one at a time."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ez_wsi_dicomweb.ml_toolkit import dicom_path
from pydicom.dataset import Dataset

from connectors.dicom.attributes import text, value, values_of
from connectors.dicom.metadata import SOP_CLASS, SOP_INSTANCE
from connectors.dicom.readback.part10 import instance_of
from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoint, require_uid
from connectors.http import json_of
from models.domain.errors import ResponseInvalid, ResultNotFound, SeriesNotFound

_SERIES, _MODALITY, _REFERENCED_SERIES = "0020000E", "00080060", "00081115"
_SLIDES = "SM"
_JSON = "application/dicom+json"


class ArchiveShelf:
    """The study of a result, in a DICOMweb server.

    Parameters
    ----------
    endpoint : Endpoint
    study_uid : str
    """

    def __init__(self, endpoint: Endpoint, study_uid: str) -> None:
        self._web = DicomWeb(endpoint)
        self._label = endpoint.label
        self._study = dicom_path.FromString(f"{endpoint.url.rstrip('/')}/studies/{study_uid}")

    def close(self) -> None:
        """Close the connections."""
        self._web.session.close()

    def find(self, series_uid: str, sop_class_uids: Sequence[str]) -> list[str]:
        """Return the URLs of a result's objects, all of one class and series.

        Parameters
        ----------
        series_uid : str
            Of the objects, or of the slide that they refer to.
        sop_class_uids : sequence of str
            Classes that will do; what is of an earlier one is taken before what is of a later one.

        Raises
        ------
        ResultNotFound
            There are none, or several series of them.
        """
        own = self._web.metadata(self._path(series_uid))
        for sop_class in sop_class_uids:
            if found := self._urls(series_uid, own, sop_class):
                return found
        about = list(self._about(series_uid))
        for sop_class in sop_class_uids:
            found_in = [urls for uid, items in about if (urls := self._urls(uid, items, sop_class))]
            if len(found_in) == 1:
                return found_in[0]
            if found_in:
                raise ResultNotFound(
                    f"{len(found_in)} series of results refer to that slide: give the one you want "
                    "(slidewire jobs show JOB)."
                )
        raise ResultNotFound("No results in the study refer to that series: embed the slide with --write-back.")

    def instances(self, urls: Sequence[str]) -> Iterator[Dataset]:
        """Yield instances, each fetched whole when it is asked for: servers cut long values out of ``/metadata``.

        Raises
        ------
        ResultCorrupt
            What the server gives is no DICOM object.
        """
        for url in urls:
            yield instance_of(self._web.instance(url))

    def headers(self, series_uid: str) -> Sequence[Mapping[str, Any]]:
        """Return the DICOM JSON of a series' instances; nothing if the study has no such series here."""
        if not series_uid:
            return ()
        try:
            return [item for item in self._web.metadata(self._path(series_uid)) if isinstance(item, Mapping)]
        except SeriesNotFound:
            return ()

    def _path(self, series_uid: str) -> Any:
        return dicom_path.FromPath(self._study, series_uid=require_uid(series_uid, "Series Instance UID"))

    def _urls(self, series_uid: str, items: Sequence[Any], sop_class: str) -> list[str]:
        base = f"{self._path(series_uid).complete_url}/instances"
        found = [item for item in items if isinstance(item, Mapping) and value(item, SOP_CLASS) == sop_class]
        return [f"{base}/{require_uid(text(item, SOP_INSTANCE), 'SOP Instance UID')}" for item in found]

    def _about(self, slide_series_uid: str) -> Iterator[tuple[str, Sequence[Any]]]:
        """Yield the series of the study that refer to a slide's, with their metadata."""
        answer = self._web.session.fetch(f"{self._study.complete_url}/series?includefield={_MODALITY}", _JSON)
        listed = json_of(answer, self._label, json.loads) if answer.body else []
        if not isinstance(listed, list):
            raise ResponseInvalid(f"The {self._label} answered a search with JSON that is no list.")
        for found in listed:
            if not isinstance(found, Mapping) or text(found, _MODALITY) == _SLIDES:
                continue
            uid = text(found, _SERIES)
            items = self.headers(uid)
            referred = [reference for item in items for reference in values_of(item, _REFERENCED_SERIES)]
            if any(isinstance(item, Mapping) and value(item, _SERIES) == slide_series_uid for item in referred):
                yield uid, items
