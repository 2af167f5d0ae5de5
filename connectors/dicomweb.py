"""A DICOMweb server as EZ-WSI talks to one: its `DicomWebInterface`, over a session of our own.

Stock EZ-WSI takes metadata from QIDO (which Orthanc and others do not fill), opens a connection a frame,
has no timeout, and drops frames that fail. This interface takes metadata from WADO-RS ``/metadata``, the
transfer syntax from the header of the frame's own part checked against its bytes, keeps its connections
open, asks for many frames at a time, and raises where EZ-WSI would go on.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, BinaryIO
from urllib.parse import urljoin, urlsplit

import pydicom
import pydicom.errors
from ez_wsi_dicomweb import dicom_web_interface
from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors import multipart
from connectors.dicom.attributes import Json, integer, text
from connectors.dicom.metadata import (
    AVAILABLE_TRANSFER_SYNTAX,
    SOP_INSTANCE,
    TRANSFER_SYNTAX,
    SlideMetadata,
    frame_count,
    select_slide,
)
from connectors.endpoints import Endpoint, lies_under
from connectors.frames import FrameFeed
from connectors.http import HttpSession, json_of
from connectors.negotiation import AS_STORED, terms_of
from models.domain.errors import FrameMissing, ResponseInvalid, SeriesNotFound
from models.imaging.syntax import settle

_JSON = "application/dicom+json"
_FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax={}'
_BULK = 'multipart/related; type="application/octet-stream", */*'
_NOT_THERE = frozenset({404, 410})
_NO_SUCH_FRAME = frozenset({400, 404, 410})
_NO_SUCH_FORM = frozenset({400, 406, 415})
_ROWS, _COLUMNS, _SAMPLES, _BITS = "00280010", "00280011", "00280002", "00280100"
_LOSSY_METHOD = "00282114"
_ANY_FRAME_BYTES = 64 << 20  # where nothing is known of the instance
_BULK_BYTES = 64 << 20  # profiles are far smaller


class DicomWeb(dicom_web_interface.DicomWebInterface):  # type: ignore[misc]
    """EZ-WSI's interface to a DICOMweb server, over one pooled session.

    Parameters
    ----------
    endpoint : Endpoint

    Attributes
    ----------
    session : HttpSession
    mislabelled : set of str
        What the server said of frames that their bytes contradict, and which pixels it decoded itself; for the notes
        of a slide.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.session = HttpSession(endpoint)
        super().__init__(self.session.credential_factory)
        self._terms = terms_of(endpoint)
        self._feed = FrameFeed(self.session, self._terms)
        self.mislabelled: set[str] = self._feed.notes
        self._stored_as: dict[str, str] = {}  # by instance: as far as metadata name it

    def metadata(self, path: Any) -> list[Any]:
        """Return the DICOM JSON of a series or instance, from WADO-RS ``/metadata`` (PS3.18 10.4.1.1.2)."""
        answer = self.session.fetch(f"{path.complete_url}/metadata", _JSON, _NOT_THERE)
        label = self.session.endpoint.label
        if answer.status in _NOT_THERE or not answer.body:
            raise SeriesNotFound(f"The {label} has no such series: check study and series UID.")
        found = json_of(answer, label, json.loads)
        if not isinstance(found, list):
            raise ResponseInvalid(f"The {label} answered /metadata with JSON that is no list of instances.")
        for item in found:
            if isinstance(item, Mapping):
                self._stored_as[text(item, SOP_INSTANCE)] = syntax_named(item) or text(item, _LOSSY_METHOD)
        return found

    def get_instances(self, parent_path: Any, **dicomweb_filter: Any) -> list[Any]:
        """Return the slide's instances as EZ-WSI wants them; without filters, as `DicomSlide` asks."""
        if dicomweb_filter:
            return list(super().get_instances(parent_path, **dicomweb_filter))
        return self.objects_of(select_slide(self.metadata(parent_path)), parent_path)

    def objects_of(self, selected: SlideMetadata, series_path: Any, *, alike: bool = False) -> list[Any]:
        """Turn selected metadata into EZ-WSI's objects, each with the transfer syntax its frames really have.

        Parameters
        ----------
        selected : SlideMetadata
        series_path : dicom_path.Path
        alike : bool
            Ask for a frame of the smallest instance only and take the others to be alike: enough for geometry, and a
            request less for every further instance. Else each instance is asked.
        """
        instances = selected.instances
        asked = [min(instances, key=frame_count)] if alike else list(instances)
        with ThreadPoolExecutor(self.session.endpoint.connections, thread_name_prefix="probe") as pool:
            found = list(pool.map(lambda item: self.syntax_of(item, series_path), asked))
        syntaxes = found * len(instances) if alike else found
        objects = []
        for item, syntax in zip(selected.for_ez_wsi(), syntaxes, strict=True):
            given = {**item, TRANSFER_SYNTAX: {"vr": "UI", "Value": [syntax]}}
            build = dicom_web_interface._build_dicom_object  # noqa: SLF001 - EZ-WSI's own classes call it too
            objects.append(build(dicom_path.Type.INSTANCE, series_path, given))
        return objects

    def syntax_of(self, item: Json, series_path: Any) -> str:
        """Return the transfer syntax of an instance: as its metadata name it, else as its first frame shows it.

        A server that labels frames otherwise than they are is noted in `mislabelled`.
        """
        named = syntax_named(item)
        if named:
            return named  # for EZ-WSI; our own feed goes by each frame's part and bytes
        path = dicom_path.FromPath(series_path, instance_uid=text(item, SOP_INSTANCE))
        native_bytes = native_bytes_of(item)
        [(_, part)] = self.frames(path, [1], native_bytes)
        declared = multipart.transfer_syntax_of(part.content_type)
        syntax, kept = settle(declared, part.data, native_bytes)
        if declared and not kept:
            self.mislabelled.add(
                f"the server labels frames {declared}, and their bytes are {syntax}: they were believed"
            )
        return syntax

    def frames(
        self, instance_path: Any, numbers: Sequence[int], native_bytes: int
    ) -> Iterator[tuple[int, multipart.Part]]:
        """Yield (number, part) of an instance's frames as they are stored, in the order asked.

        Parameters
        ----------
        instance_path : dicom_path.Path
        numbers : sequence of int
            1-based within the instance, each once.
        native_bytes : int
            Length of one frame if it were uncompressed.

        Raises
        ------
        FrameMissing
            The first frame that was not yielded; the caller may go on with those after it.
        EndpointError
            The server fails, or gives something else.
        """
        stored_as = self._stored_as.get(instance_path.instance_uid, "")
        return self._feed.frames(instance_path, numbers, native_bytes, stored_as)

    def batches(self, instance_path: Any, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Split frame numbers into requests by count and by the length of the URL."""
        return self._feed.batches(instance_path, numbers)

    def frame_parts(self, instance_path: Any, numbers: Sequence[int], syntax: str) -> list[multipart.Part]:
        """Return frames of one instance in a transfer syntax (PS3.18 10.4.1.1.6); ``*`` for as they are stored.

        Raises
        ------
        FrameMissing
            The server has no such frame, or gives another number of frames than were asked for.
        """
        if syntax == AS_STORED:
            return [part for _, part in self.frames(instance_path, numbers, _ANY_FRAME_BYTES)]
        url = f"{instance_path.complete_url}/frames/{','.join(map(str, numbers))}"
        answer = self.session.fetch(url, _FRAMES.format(syntax), _NO_SUCH_FRAME)
        label = self.session.endpoint.label
        if answer.status in _NO_SUCH_FRAME:
            raise FrameMissing(f"The {label} does not give a frame of an instance decoded ({answer.status}).")
        parts = multipart.parse(answer.body, answer.content_type, label, len(numbers))
        if len(parts) != len(numbers):
            raise FrameMissing(f"The {label} gave another number of frames than were asked for.")
        return parts

    def get_frame_image(self, instance_path: Any, frame_index: int, transcode_frame: Any) -> bytes:
        """Return one frame's bytes (EZ-WSI's own path, used by `DicomSlide`)."""
        [part] = self.frame_parts(instance_path, [frame_index], transcode_frame.value)
        return bytes(part.data)

    def download_instance_frame_list_untranscoded(
        self,
        instance_path: Any,
        frame_numbers: Any,
        retry: bool = True,  # noqa: FBT001, FBT002 - EZ-WSI's signature
    ) -> list[bytes]:
        """Return frames of an instance as they are stored (EZ-WSI's own path, used by its caches)."""
        del retry  # the session retries
        return [bytes(part.data) for part in self.frame_parts(instance_path, list(frame_numbers), AS_STORED)]

    def get_bulkdata(self, uri: str, chunk_size: int = 0) -> bytes:
        """Return bulk data (ICC profiles) over the same session.

        A Bulk Data URI (PS3.18 F.2.2) may be relative, or name a host that only the server itself knows (dcm4chee
        behind a proxy): whatever it says, this server is asked, at the same resource.

        Raises
        ------
        EndpointNotAllowed
            It names another server, and no resource below a study.
        """
        del chunk_size
        answer = self.session.fetch(self._own_address(uri), _BULK, most_bytes=_BULK_BYTES)
        parts = multipart.parse(answer.body, answer.content_type, self.session.endpoint.label)
        return bytes(parts[0].data) if parts else b""

    def _own_address(self, uri: str) -> str:
        base = f"{self.session.endpoint.url.rstrip('/')}/"
        absolute = urljoin(base, uri)
        if lies_under(absolute, base):
            return absolute
        _, found, below = urlsplit(absolute).path.partition("/studies/")
        query = urlsplit(absolute).query
        return f"{base}studies/{below}{'?' if query else ''}{query}" if found else absolute

    def download_instance(
        self, instance_path: Any, transfer_syntax: str, output_stream: BinaryIO, *_: Any, **__: Any
    ) -> None:
        """Write a whole instance to a stream, asking in the form that every server knows."""
        output_stream.write(self.instance(instance_path.complete_url, transfer_syntax))

    def instance(self, url: str, syntax: str = AS_STORED) -> bytes:
        """Return a whole instance (Part 10), asked for in the form that the server answers.

        Raises
        ------
        SeriesNotFound
            The server has none at that URL.
        ResponseInvalid
            It gives instances in no form that Slidewire knows.
        """
        label, statuses = self.session.endpoint.label, set[int]()
        for form in self._terms.instance_forms():
            answer = self.session.fetch(url, form.format(syntax), _NOT_THERE | _NO_SUCH_FORM)
            if answer.status in _NOT_THERE:
                break
            if answer.status in _NO_SUCH_FORM:
                statuses.add(answer.status)
                continue
            parts = multipart.parse(answer.body, answer.content_type, label, 1)
            if parts:
                self._terms.settle_instance(form)
                return bytes(parts[0].data)
            break
        else:
            said = ", ".join(map(str, sorted(statuses)))
            raise ResponseInvalid(f"The {label} gives whole instances in no form that Slidewire knows ({said}).")
        raise SeriesNotFound(f"The {label} has no such instance.")

    def header(self, instance_path: Any) -> Json:
        """Return the DICOM JSON of an instance that is fetched whole: with what a server drops from its metadata.

        Raises
        ------
        ResponseInvalid
            What it gives is no DICOM.
        """
        try:
            with pydicom.dcmread(BytesIO(self.instance(instance_path.complete_url)), stop_before_pixels=True) as found:
                return dict(found.to_json_dict(suppress_invalid_tags=True))
        except (pydicom.errors.InvalidDicomError, AttributeError, EOFError, LookupError, TypeError, ValueError) as exc:
            label = self.session.endpoint.label
            raise ResponseInvalid(f"The {label} gave an instance that is damaged ({type(exc).__name__}).") from exc


def syntax_named(item: Mapping[str, Any]) -> str:
    """Return the transfer syntax that an instance's metadata name; "" if they name none."""
    return text(item, TRANSFER_SYNTAX) or text(item, AVAILABLE_TRANSFER_SYNTAX)


def native_bytes_of(item: Mapping[str, Any]) -> int:
    """Return the length in bytes of an uncompressed frame of an instance."""
    samples, bits = integer(item, _SAMPLES) or 3, integer(item, _BITS) or 8
    return integer(item, _ROWS) * integer(item, _COLUMNS) * samples * bits // 8
