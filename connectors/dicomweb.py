"""A DICOMweb server as EZ-WSI talks to one: its `DicomWebInterface`, over a session of our own.

Stock EZ-WSI takes metadata from QIDO (which Orthanc and others do not fill), opens a connection a frame,
has no timeout, and drops frames that fail. This interface takes metadata from WADO-RS ``/metadata``, the
transfer syntax from the header of the frame's own part checked against its bytes, keeps its connections
open, asks for many frames at a time, and raises where EZ-WSI would go on.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

from ez_wsi_dicomweb import dicom_web_interface
from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors import multipart
from connectors.dicom.metadata import (
    AVAILABLE_TRANSFER_SYNTAX,
    SOP_INSTANCE,
    TRANSFER_SYNTAX,
    Json,
    SlideMetadata,
    frame_count,
    select_slide,
    value,
)
from connectors.endpoints import Endpoint
from connectors.http import HttpSession, json_of
from models.domain.errors import FrameMissing, ResponseInvalid, SeriesNotFound
from models.imaging.syntax import settle

_JSON = "application/dicom+json"
_FRAMES = 'multipart/related; type="application/octet-stream"; transfer-syntax={}'
_INSTANCE = 'multipart/related; type="application/dicom"; transfer-syntax={}'
AS_STORED = "*"
_NOT_THERE = frozenset({404, 410})
_NO_SUCH_FRAME = frozenset({400, 404, 410})  # Orthanc says 400 of a frame beyond the last


class DicomWeb(dicom_web_interface.DicomWebInterface):  # type: ignore[misc]
    """EZ-WSI's interface to a DICOMweb server, over one pooled session.

    Parameters
    ----------
    endpoint : Endpoint

    Attributes
    ----------
    session : HttpSession
    mislabelled : set of str
        What the server said of frames that their bytes contradict; for the notes of a slide.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.session = HttpSession(endpoint)
        super().__init__(self.session.credential_factory)
        self.mislabelled: set[str] = set()

    def metadata(self, path: Any) -> list[Any]:
        """Return the DICOM JSON of a series or instance, from WADO-RS ``/metadata`` (PS3.18 10.4.1.1.2)."""
        answer = self.session.fetch(f"{path.complete_url}/metadata", _JSON, _NOT_THERE)
        label = self.session.endpoint.label
        if answer.status in _NOT_THERE or not answer.body:
            raise SeriesNotFound(f"The {label} has no such series: check study and series UID.")
        found = json_of(answer, label, json.loads)
        if not isinstance(found, list):
            raise ResponseInvalid(f"The {label} answered /metadata with JSON that is no list of instances.")
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
            found = list(pool.map(lambda item: self._syntax(item, series_path), asked))
        syntaxes = found * len(instances) if alike else found
        objects = []
        for item, syntax in zip(instances, syntaxes, strict=True):
            # EZ-WSI takes what it does not need out of the dictionary it is given.
            copied = json.loads(json.dumps({**item, TRANSFER_SYNTAX: {"vr": "UI", "Value": [syntax]}}))
            build = dicom_web_interface._build_dicom_object  # noqa: SLF001 - EZ-WSI's own classes call it too
            objects.append(build(dicom_path.Type.INSTANCE, series_path, copied))
        return objects

    def _syntax(self, item: Json, series_path: Any) -> str:
        named = value(item, TRANSFER_SYNTAX) or value(item, AVAILABLE_TRANSFER_SYNTAX)
        if isinstance(named, str) and named:
            return named  # for EZ-WSI; our own feed goes by each frame's part and bytes
        path = dicom_path.FromPath(series_path, instance_uid=value(item, SOP_INSTANCE))
        [part] = self.frame_parts(path, [1], AS_STORED)
        native_bytes = int(value(item, "00280010")) * int(value(item, "00280011")) * 3
        declared = multipart.transfer_syntax_of(part.content_type)
        syntax, kept = settle(declared, part.data, native_bytes)
        if declared and not kept:
            self.mislabelled.add(
                f"the server labels frames {declared}, and their bytes are {syntax}: they were believed"
            )
        return syntax

    def frame_parts(self, instance_path: Any, numbers: Sequence[int], syntax: str) -> list[multipart.Part]:
        """Fetch frames of one instance in one request (PS3.18 10.4.1.1.6).

        Parameters
        ----------
        instance_path : dicom_path.Path
        numbers : sequence of int
            1-based, within the instance.
        syntax : str
            Transfer syntax to ask for; ``*`` for frames as they are stored.

        Raises
        ------
        FrameMissing
            The server has no such frame, or gives another number of frames than were asked for.
        """
        url = f"{instance_path.complete_url}/frames/{','.join(map(str, numbers))}"
        answer = self.session.fetch(url, _FRAMES.format(syntax), _NO_SUCH_FRAME)
        label = self.session.endpoint.label
        if answer.status in _NO_SUCH_FRAME:
            raise FrameMissing(
                f"The {label} does not give frames {numbers[0]} to {numbers[-1]} of an instance ({answer.status}), "
                "though its metadata promise them."
            )
        parts = multipart.parse(answer.body, answer.content_type, label)
        if len(parts) != len(numbers):
            raise FrameMissing(f"The {label} gave {len(parts)} frames where {len(numbers)} were asked for.")
        return parts

    def batches(self, instance_path: Any, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Split frame numbers into requests by count and by the length of the URL."""
        endpoint, batch = self.session.endpoint, list[int]()
        room = endpoint.url_characters - len(f"{instance_path.complete_url}/frames/")
        used = 0
        for number in numbers:
            width = len(str(number)) + 1
            if batch and (len(batch) >= endpoint.frames_per_request or used + width > room):
                yield batch
                batch, used = [], 0
            batch.append(number)
            used += width
        if batch:
            yield batch

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
        return [
            bytes(part.data)
            for batch in self.batches(instance_path, list(frame_numbers))
            for part in self.frame_parts(instance_path, batch, AS_STORED)
        ]

    def get_bulkdata(self, uri: str, chunk_size: int = 0) -> bytes:
        """Return bulk data (ICC profiles) over the same session."""
        del chunk_size
        answer = self.session.fetch(uri, 'multipart/related; type="application/octet-stream", */*')
        parts = multipart.parse(answer.body, answer.content_type, self.session.endpoint.label)
        return bytes(parts[0].data) if parts else b""

    def download_instance(
        self, instance_path: Any, transfer_syntax: str, output_stream: BinaryIO, *_: Any, **__: Any
    ) -> None:
        """Write a whole instance to a stream, asking in the form that every server knows."""
        output_stream.write(self.instance(instance_path.complete_url, transfer_syntax))

    def instance(self, url: str, syntax: str = AS_STORED) -> bytes:
        """Return a whole instance (Part 10); a `SeriesNotFound` if the server has none at that URL."""
        answer = self.session.fetch(url, _INSTANCE.format(syntax), _NOT_THERE)
        label = self.session.endpoint.label
        parts = [] if answer.status in _NOT_THERE else multipart.parse(answer.body, answer.content_type, label)
        if not parts:
            raise SeriesNotFound(f"The {label} has no such instance.")
        return bytes(parts[0].data)
