"""Results as DICOM objects in the PACS that the slide came from: annotations and report, by STOW-RS.

Servers answer a second STOW of the same UID in every way there is: 200 and keep the old bytes (Orthanc), 409
(Google, Azure), replace it. So nothing is believed: what is there is read back and compared.
"""

import hashlib
import logging
from io import BytesIO

import pydicom
import pydicom.errors
import requests
from dicomweb_client.web import DICOMwebClient

from connectors.dicom.derived import to_bytes
from connectors.dicom.objects import ResultObject, build_objects
from connectors.dicom.readback import compare_stored
from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoint, Endpoints
from connectors.http import error_of, retrying, translated
from connectors.protocols import Result
from models.domain.embedding import Output
from models.domain.errors import (
    EndpointBusy,
    ResponseInvalid,
    SeriesNotFound,
    StoreMismatch,
    StoreRefused,
)
from models.domain.request import OutputSpec
from models.domain.slide import SlideRef

# What taking an answer apart raises; the client parses JSON and XML (SyntaxError) itself.
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, SyntaxError)

# It writes Study and SOP Instance UIDs at every level from DEBUG to ERROR.
logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL + 1)


class StowSink:
    """A `Sink` that stores in a DICOMweb server.

    Parameters
    ----------
    endpoint : Endpoint
    study_uid : str
        Study that the slide belongs to; the results join it.
    maps : bool
        Also store a Parametric Map.
    """

    def __init__(self, endpoint: Endpoint, study_uid: str, *, maps: bool = False) -> None:
        self._maps = maps
        self._web = DicomWeb(endpoint)
        self._label = endpoint.label
        self._base = endpoint.url.rstrip("/")
        self._study_uid = study_uid
        limits = endpoint.timeouts
        self._client = DICOMwebClient(self._base, session=self._web.session, timeout=(limits.connect_s, limits.total_s))
        # Its own retry would send an empty body the second time (a generator, consumed).
        self._client.set_http_retry_params(retry=False)

    def write(self, result: Result) -> tuple[Output, ...]:
        """Store what is not there yet; the report last, since it refers to the annotations.

        Raises
        ------
        StoreRefused
            The server refuses an object, or says it took it and does not have it.
        StoreMismatch
            It holds other values under the same UID.
        """
        return tuple(self.store(made) for made in build_objects(result, maps=self._maps))

    def store(self, made: ResultObject) -> Output:
        """Store one object if it is not there yet; errors as for `write`."""
        kind, dataset = made.kind, made.dataset
        content = to_bytes(dataset)
        if not self._stored(dataset):
            # Read again: the client writes it anew, and only what was read has a group length (PS3.10 7.1).
            self._send(pydicom.dcmread(BytesIO(content)))
            if not self._stored(dataset):
                raise StoreRefused(f"The {self._label} took the {kind} and does not have it.")
        digest = hashlib.sha256(content).hexdigest()
        return Output(kind, self._url(dataset), digest, str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))

    def holds(self, output: Output) -> bool:
        """Whether the server still has an instance."""
        if not output.uri.startswith(f"{self._base}/"):
            return False
        try:
            self._web.instance(output.uri)
        except SeriesNotFound:
            return False
        return True

    def close(self) -> None:
        """Close the session."""
        self._web.session.close()

    def _url(self, dataset: pydicom.Dataset) -> str:
        series, instance = dataset.SeriesInstanceUID, dataset.SOPInstanceUID
        return f"{self._base}/studies/{self._study_uid}/series/{series}/instances/{instance}"

    def _stored(self, dataset: pydicom.Dataset) -> bool:
        """Whether the server has an object with our values; other values under its UID are an error."""
        try:
            content = self._web.instance(self._url(dataset))
        except SeriesNotFound:
            return False
        try:
            theirs = pydicom.dcmread(BytesIO(content))
        except (pydicom.errors.InvalidDicomError, ValueError, KeyError, AttributeError) as exc:
            raise StoreMismatch(f"The {self._label} holds something under our UID that is no DICOM object.") from exc
        if not compare_stored(dataset, theirs):
            raise StoreMismatch(
                f"The {self._label} holds other values under the UID of this result; nothing was overwritten. "
                "Compare the two, and delete the one in the archive if it is wrong."
            )
        return True

    def _send(self, dataset: pydicom.Dataset) -> None:
        sent = False

        def attempt() -> None:
            nonlocal sent
            if sent and self._stored(dataset):  # it was the answer that was lost
                return
            sent = True
            with translated(self._label):
                try:
                    answer = self._client.store_instances([dataset], self._study_uid)
                except requests.HTTPError as exc:
                    answer = self._judge(exc.response)
                except _UNREADABLE:
                    answer = pydicom.Dataset()  # it says yes in words of its own: reading back tells
            self._refuse_failed(answer)

        retrying(attempt)

    def _judge(self, response: requests.Response) -> pydicom.Dataset:
        """Return what a failing answer says of each instance, or raise what its status means."""
        status = response.status_code
        if status in {400, 409}:
            try:
                answer = pydicom.Dataset.from_json(response.json())
            except _UNREADABLE:
                answer = pydicom.Dataset()
            if status == 409 or "FailedSOPSequence" in answer:
                return answer  # refused, or there already: reading back tells which
        error = error_of(status, self._label, response.headers.get("Retry-After"))
        if isinstance(error, ResponseInvalid) and status >= 400:
            raise StoreRefused(f"The {self._label} refused the object ({status}): does it accept this kind and size?")
        raise error

    def _refuse_failed(self, answer: pydicom.Dataset) -> None:
        reasons = _failure_reasons(answer) - {0x0111, 45070}  # there already: PS3.4 B.2.3; Azure's own number for it
        codes = ", ".join(f"{reason:04X}H" for reason in sorted(reasons))
        if reasons and all(0xA700 <= reason <= 0xA7FF for reason in reasons):  # out of resources: PS3.4 B.2.3
            raise EndpointBusy(f"The {self._label} is out of resources for the object (failure reason {codes}).")
        if reasons:
            raise StoreRefused(
                f"The {self._label} refused the object (failure reason {codes}, PS3.18 table 10.5.3-2): "
                "does it accept this kind?"
            )


def _failure_reasons(answer: pydicom.Dataset) -> set[int]:
    try:
        return {int(item.get("FailureReason") or 0) for item in answer.get("FailedSOPSequence") or []}
    except _UNREADABLE:
        return {0}


def open_sink(output: OutputSpec, ref: SlideRef, endpoints: Endpoints) -> StowSink | None:
    """Return the sink for a slide's own PACS; None if nothing is to be written back."""
    return StowSink(endpoints.of_ref(ref), ref.study_uid, maps=output.maps) if output.write_back else None
