"""What others do with the same patches of the same slide: EZ-WSI as it comes and at its fastest, and wsidicom."""

import time

import numpy as np
from ez_wsi_dicomweb import credential_factory, dicom_slide, dicom_web_interface
from numpy.typing import NDArray
from wsidicom import WsiDicom, WsiDicomWebClient

from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoints
from models.domain.plan import Plan
from models.domain.slide import SlideRef


class GivenMetadata(dicom_web_interface.DicomWebInterface):  # type: ignore[misc]
    """Stock EZ-WSI, with the metadata that Orthanc's QIDO does not give it."""

    def __init__(self, ours: DicomWeb) -> None:
        super().__init__(credential_factory.NoAuthCredentialsFactory())
        self._ours = ours

    def get_instances(self, parent_path: object, **_: object) -> list[object]:
        """Return what our interface returns."""
        return list(self._ours.get_instances(parent_path))


def ez_wsi(ref: SlideRef, plan: Plan, *, preload: bool, patches: int) -> float:
    """Return EZ-WSI's patches a second over the first patches of a plan."""
    ours = DicomWeb(Endpoints().of_ref(ref))
    path = dicom_slide.dicom_path.FromString(f"{ref.location}/studies/{ref.study_uid}/series/{ref.series_uid}")
    slide = dicom_slide.DicomSlide(GivenMetadata(ours), path)
    if preload:
        slide.init_slide_frame_cache()
    started = time.perf_counter()
    wanted = [slide.get_patch(slide.native_level, *map(int, box)) for box in plan.grid.boxes[:patches]]
    if preload:
        slide.preload_patches_in_frame_cache(wanted)
    for patch in wanted:
        patch.image_bytes()
    elapsed = time.perf_counter() - started
    ours.session.close()
    return patches / elapsed


def wsidicom_web(ref: SlideRef, plan: Plan, patches: int) -> float:
    """Return the patches a second of wsidicom's DICOMweb client."""
    client = WsiDicomWebClient.create_client(ref.location)
    with WsiDicom.open_web(client, ref.study_uid, ref.series_uid) as slide:
        return _read(slide, plan.grid.boxes[:patches])


def wsidicom_local(ref: SlideRef, plan: Plan) -> float:
    """Return the patches a second of wsidicom on files."""
    with WsiDicom.open(ref.location) as slide:
        return _read(slide, plan.grid.boxes)


def _read(slide: WsiDicom, boxes: NDArray[np.int32]) -> float:
    started = time.perf_counter()
    for x, y, width, height in boxes.tolist():
        slide.read_region((x, y), 0, (width, height), as_array=True)
    return len(boxes) / (time.perf_counter() - started)
