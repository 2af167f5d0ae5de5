"""Results as DICOM objects in the PACS that the slide came from: annotations, maps and report, by STOW-RS.

Servers answer a second STOW of the same UID in every way there is: 200 and keep the old bytes (Orthanc), 409
(Google, Azure), replace it. Some store what they say they refuse. So nothing is believed: what is there is read back
and compared, and an answer only says why it is not there.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace

from connectors.dicom.attributes import integer, items_of, text
from connectors.dicom.metadata import SOP_INSTANCE
from connectors.dicom.readback.part10 import instance_of
from connectors.dicom.readback.stored_objects import compare_stored
from connectors.dicom.result.objects import build_objects
from connectors.dicom.result.result_object import ResultObject
from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoint, Endpoints
from connectors.http import Answer, retrying
from connectors.protocols import Result
from connectors.upload import Upload
from models.domain.embedding import Output
from models.domain.errors import EndpointBusy, ResultCorrupt, SeriesNotFound, StoreMismatch, StoreRefused
from models.domain.request import Annotations, OutputSpec
from models.domain.slide import SlideRef

_JSON = "application/dicom+json"
# What a server says of the object, or of the search; of other statuses it is the server that fails, or access to it.
_REFUSALS = frozenset(range(400, 500)) - {401, 403, 408, 425, 429}
_NO_SEARCH = _REFUSALS | {501}
_FAILED, _OTHERS_FAILED, _REASON = "00081198", "0008119A", "00081197"  # PS3.18 10.5.3
_XML_REASON = re.compile(rb'tag="00081197"[^>]*>\s*<Value[^>]*>\s*([0-9]{1,5})\s*<')  # PS3.19 A.1
_THERE_ALREADY = {0x0111, 45070}  # PS3.4 B.2.3; Azure's own number for it
_WHAT = {"annotations": "the annotations", "map": "the map"}


class _NotTaken(Exception):
    """The server refuses an object, or says it took it and does not have it.

    Parameters
    ----------
    why : str
        What it says, in a few words.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class StowSink:
    """A `Sink` that stores in a DICOMweb server.

    Parameters
    ----------
    endpoint : Endpoint
    study_uid : str
        Study that the slide belongs to; the results join it.
    maps : bool
        Also store a Parametric Map.
    annotations : str
        ``if-accepted``: without annotations or map, if the server refuses them; see `OutputSpec`.
    """

    def __init__(
        self, endpoint: Endpoint, study_uid: str, *, maps: bool = False, annotations: Annotations = "required"
    ) -> None:
        self._maps = maps
        self._dispensable = annotations == "if-accepted"
        self._web = DicomWeb(endpoint)
        self._label = endpoint.label
        self._base = endpoint.url.rstrip("/")
        self._study_uid = study_uid

    def write(self, result: Result) -> tuple[Output, ...]:
        """Store what is not there yet; the report last, since it refers to the others.

        Of annotations or maps that the server refuses, and that may be left out, the report and its output say so.

        Raises
        ------
        StoreRefused
            The server refuses an object, or says it took it and does not have it.
        StoreMismatch
            It holds other values under the same UID.
        """
        stored: dict[str, Output] = {}
        refused: dict[str, str] = {}
        while lacking := self._store_all(result, stored, refused):
            refused |= lacking
        return tuple(stored.values())

    def store(self, made: ResultObject) -> Output:
        """Store one object if it is not there yet; errors as for `write`."""
        try:
            return self._store(made)
        except _NotTaken as exc:
            raise self._refusal(made, exc.why) from None

    def holds(self, output: Output) -> bool:
        """Whether the server still has an instance."""
        if not output.uri.startswith(f"{self._base}/"):
            return False
        if self._finds(output.uri):
            return True
        try:  # not every server can search for an instance
            self._web.instance(output.uri)
        except SeriesNotFound:
            return False
        return True

    def close(self) -> None:
        """Close the session."""
        self._web.session.close()

    def _store_all(self, result: Result, stored: dict[str, Output], refused: Mapping[str, str]) -> dict[str, str]:
        """Store what was not refused before; return the kind that is refused now, with a note, if there is one."""
        for made in build_objects(result, maps=self._maps, refused=refused):
            uid = str(made.dataset.SOPInstanceUID)
            if uid in stored:
                continue
            try:
                output = self._store(made)
            except _NotTaken as exc:
                # A server that takes one part of the annotations and not the next does not refuse the kind.
                if not self._dispensable or made.kind not in _WHAT or made.number > 1:
                    raise self._refusal(made, exc.why) from None
                return {made.kind: f"the archive refused {_WHAT[made.kind]} ({exc.why}): the values are in the table"}
            note = "; ".join(refused.values()) if made.kind == "report" else ""
            stored[uid] = replace(output, note=note)
        return {}

    def _refusal(self, made: ResultObject, why: str) -> StoreRefused:
        remedy = ": does it accept this kind and size?"
        if made.kind in _WHAT:
            remedy += " With --out and --annotations if-accepted the report is stored without them."
        return StoreRefused(f"The {self._label} does not take the {made.kind} ({why}){remedy}")

    def _store(self, made: ResultObject) -> Output:
        if not self._stored(made):
            against = self._send(made)
            if not self._stored(made):
                raise _NotTaken(against or "it said yes, and does not have it")
        dataset = made.dataset
        return Output(
            made.kind, self._url(made), made.sha256, str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID)
        )

    def _url(self, made: ResultObject) -> str:
        series, instance = made.dataset.SeriesInstanceUID, made.dataset.SOPInstanceUID
        return f"{self._base}/studies/{self._study_uid}/series/{series}/instances/{instance}"

    def _stored(self, made: ResultObject) -> bool:
        """Whether the server has an object with our values; other values under its UID are an error."""
        try:
            content = self._web.instance(self._url(made))
        except SeriesNotFound:
            return False
        if hashlib.sha256(content).hexdigest() == made.sha256:
            return True
        try:
            theirs = instance_of(content)
        except ResultCorrupt as exc:
            raise StoreMismatch(f"The {self._label} holds something under our UID that is no DICOM object.") from exc
        if not compare_stored(made.values_sha256, made.kind, theirs):
            raise StoreMismatch(
                f"The {self._label} holds other values under the UID of this {made.kind}; nothing was overwritten. "
                "Compare the two, and delete the one in the archive if it is wrong."
            )
        return True

    def _finds(self, uri: str) -> bool:
        """Whether a search (QIDO-RS, PS3.18 10.6) names an instance, which costs less than to fetch it."""
        instances, _, uid = uri.rpartition("/")
        answer = self._web.session.fetch(f"{instances}?SOPInstanceUID={uid}", _JSON, _NO_SEARCH)
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            return False
        return isinstance(found, list) and any(
            isinstance(one, dict) and text(one, SOP_INSTANCE) == uid for one in found
        )

    def _send(self, made: ResultObject) -> str:
        """Send an object, again if that may help; return what the server says against it, "" if nothing."""
        upload = Upload(made.chunks, made.size, made.sha256)
        sent = False

        def attempt() -> str:
            nonlocal sent
            if sent and self._stored(made):  # it was the answer that was lost
                return ""
            sent = True
            url = f"{self._base}/studies/{self._study_uid}"
            return self._objection(self._web.session.post_once(url, upload, _JSON, _REFUSALS))

        return retrying(attempt)

    def _objection(self, answer: Answer) -> str:
        """Return what an answer says against the object; "" for nothing that can be read."""
        reasons = _failure_reasons(answer.body) - _THERE_ALREADY
        codes = ", ".join(f"{reason:04X}H" for reason in sorted(reasons))
        if reasons and all(0xA700 <= reason <= 0xA7FF for reason in reasons):  # out of resources: PS3.4 B.2.3
            raise EndpointBusy(f"The {self._label} is out of resources for the object (failure reason {codes}).")
        if reasons:
            return f"failure reason {codes}, PS3.18 table 10.5.3-2"
        return f"status {answer.status}" if answer.status in _REFUSALS else ""


def _failure_reasons(body: bytes) -> set[int]:
    """Return the reasons of all failures that an answer lists, JSON or XML; 0 for one without a reason."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {int(number) for number in _XML_REASON.findall(body)}
    answers = [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]
    failed = [item for one in answers for tag in (_FAILED, _OTHERS_FAILED) for item in items_of(one, tag)]
    return {integer(item, _REASON) for item in failed}


def open_sink(output: OutputSpec, ref: SlideRef, endpoints: Endpoints) -> StowSink | None:
    """Return the sink for a slide's own PACS; None if nothing is to be written back."""
    if not output.write_back:
        return None
    return StowSink(endpoints.of_ref(ref), ref.study_uid, maps=output.maps, annotations=output.annotations)
