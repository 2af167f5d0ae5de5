"""A slide in any DICOMweb server, opened by EZ-WSI's `DicomSlide` over our interface."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ez_wsi_dicomweb import dicom_slide, ez_wsi_errors
from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors import multipart
from connectors.dicom.metadata import SOP_INSTANCE, select_slide, slide_of, value
from connectors.dicomweb import AS_STORED, DicomWeb
from connectors.endpoints import Endpoint, Endpoints
from connectors.protocols import Traffic
from models.domain.errors import NotASlide
from models.domain.patch import EncodedFrame
from models.domain.slide import Slide, SlideRef


class DicomWebSource:
    """A `Source` that reads a slide from a DICOMweb server.

    Parameters
    ----------
    ref : SlideRef
    endpoint : Endpoint
    """

    def __init__(self, ref: SlideRef, endpoint: Endpoint) -> None:
        self._web = DicomWeb(endpoint)
        path = dicom_path.FromString(f"{endpoint.url.rstrip('/')}/studies/{ref.study_uid}/series/{ref.series_uid}")
        selected = select_slide(self._web.metadata(path), ref.instance_uids)
        self._metadata = {str(value(item, SOP_INSTANCE)): item for item in selected.instances}
        self._paths = {uid: dicom_path.FromPath(path, instance_uid=uid) for uid in self._metadata}
        try:
            # EZ-WSI gives the geometry; the feed goes by each frame's own part.
            objects = self._web.objects_of(selected, path, alike=True)
            self.ez_wsi = dicom_slide.DicomSlide(self._web, path, instances=objects)
        except ez_wsi_errors.EZWsiError as exc:
            raise NotASlide(f"EZ-WSI cannot open the series ({type(exc).__name__}).") from exc
        notes = (*selected.notes, *sorted(self._web.mislabelled))
        self._slide = slide_of(self.ez_wsi.levels, ref, ref.series_uid, notes)

    @property
    def slide(self) -> Slide:
        """The slide's geometry, as EZ-WSI's level map gives it."""
        return self._slide

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield frames in order, many a request."""
        for instance in self._slide.levels[level].instances:
            first, last = instance.frame_offset, instance.frame_offset + instance.frame_count
            numbers = [index - first + 1 for index in indices if first <= index < last]
            path = self._paths[instance.uid]
            for batch in self._web.batches(path, numbers):
                for number, part in zip(batch, self._web.frame_parts(path, batch, AS_STORED), strict=True):
                    syntax = multipart.transfer_syntax_of(part.content_type)
                    yield EncodedFrame(number - 1 + first, part.data, syntax)

    def header(self, level: int) -> Mapping[str, Any] | None:
        """Return the metadata of the level's first instance."""
        return self._metadata[self._slide.levels[level].instances[0].uid]

    def icc_profile(self, level: int) -> bytes | None:
        """Return None."""
        del level
        return None

    def close(self) -> Traffic:
        """Close the session."""
        self._web.session.close()
        return Traffic()


def open_source(ref: SlideRef, endpoints: Endpoints) -> DicomWebSource:
    """Open a slide in a DICOMweb server."""
    return DicomWebSource(ref, endpoints.of_ref(ref))
