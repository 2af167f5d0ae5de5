"""A slide in any DICOMweb server, opened by EZ-WSI's `DicomSlide` over our interface."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from ez_wsi_dicomweb import dicom_slide, ez_wsi_errors
from ez_wsi_dicomweb.ml_toolkit import dicom_path

from connectors import multipart
from connectors.dicom.attributes import Json, integer, text
from connectors.dicom.icc import icc_of
from connectors.dicom.levels import levels_of
from connectors.dicom.metadata import SOP_INSTANCE, frame_count, select_slide
from connectors.dicom.photometric import photometric_of
from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoint, Endpoints
from connectors.protocols import Traffic
from models.domain.errors import NotASlide
from models.domain.patch import EncodedFrame
from models.domain.slide import Slide, SlideRef

_WHOLE_INSTANCE_BYTES = 64 << 20  # uncompressed; for its header only


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
        selected = select_slide(self._web.metadata(path), ref.instance_uids, ref.reading)
        self._metadata = {text(item, SOP_INSTANCE): item for item in selected.instances}
        self._paths = {uid: dicom_path.FromPath(path, instance_uid=uid) for uid in self._metadata}
        self._path, self._selected = path, selected
        self._web.syntax_of(min(selected.instances, key=frame_count), path)  # for what there is to note of it
        notes = (*selected.notes, *sorted(self._web.mislabelled))
        opened = levels_of(replace(selected, notes=notes), ref, ref.series_uid)
        self._slide, self._tilings = opened.slide, opened.tilings

    @cached_property
    def ez_wsi(self) -> dicom_slide.DicomSlide:
        """The slide as EZ-WSI opens it, over our session.

        Raises
        ------
        NotASlide
            It cannot: it knows neither sparse tiles nor several focal planes or optical paths.
        """
        try:
            objects = self._web.objects_of(self._selected, self._path, alike=True)
            return dicom_slide.DicomSlide(self._web, self._path, instances=objects)
        except (ez_wsi_errors.EZWsiError, KeyError) as exc:
            raise NotASlide(f"EZ-WSI cannot open the series ({type(exc).__name__}).") from exc

    @property
    def slide(self) -> Slide:
        """The slide's geometry."""
        return self._slide

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield frames in order, many a request."""
        geometry = self._slide.levels[level]
        native_bytes = geometry.frame_width_px * geometry.frame_height_px * 3
        for place in self._tilings[level].places(indices):
            said = self._metadata[place.instance_uid]
            planar = integer(said, "00280006") == 1
            found = self._web.frames(self._paths[place.instance_uid], place.numbers, native_bytes)
            for (_, part), tile in zip(found, place.tiles, strict=True):
                syntax = multipart.transfer_syntax_of(part.content_type)
                photometric = photometric_of(said, part.data, native_bytes)
                yield EncodedFrame(tile, part.data, syntax, photometric, planar)

    def header(self, level: int) -> Mapping[str, Any] | None:
        """Return the metadata of the level's first instance."""
        return self._metadata[self._slide.levels[level].instances[0].uid]

    def icc_profile(self, level: int) -> bytes | None:
        """Return the profile of the optical path that is read, from metadata or bulk data."""
        uid = self._slide.levels[level].instances[0].uid
        path = self._tilings[level].optical_path
        found = icc_of(self._metadata[uid], path) or icc_of(self._smallest, path)
        return self._web.get_bulkdata(found) if isinstance(found, str) else found

    @cached_property
    def _smallest(self) -> Json:
        """Header of the smallest instance, taken whole: some servers drop binary attributes from their metadata."""
        item = min(self._metadata.values(), key=frame_count)
        if frame_count(item) * integer(item, "00280010") * integer(item, "00280011") * 3 > _WHOLE_INSTANCE_BYTES:
            return {}
        return self._web.header(self._paths[text(item, SOP_INSTANCE)])

    @property
    def traffic(self) -> Traffic:
        """What was read so far."""
        return self._web.session.traffic

    def close(self) -> Traffic:
        """Close the session."""
        self._web.session.close()
        return self.traffic


def open_source(ref: SlideRef, endpoints: Endpoints) -> DicomWebSource:
    """Open a slide in a DICOMweb server."""
    return DicomWebSource(ref, endpoints.of_ref(ref))
