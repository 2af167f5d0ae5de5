"""How fast patches reach the encoder, beside EZ-WSI on the same server in the same run.

``make bench-feed``: the CMU section laid 6 x 6 in a real Orthanc, every 224 px patch of its finest level, plan to
pixels in memory, an encoder that does nothing. EZ-WSI refuses Orthanc as it comes; it is given the missing metadata
and otherwise left alone: with its frames preloaded (its fastest way), and without a cache. Runs alternate; medians.
"""

import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ez_wsi_dicomweb import credential_factory, dicom_slide, dicom_web_interface
from numpy.typing import NDArray

from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoints
from connectors.registry import open_source
from models.domain.plan import Plan
from models.domain.request import PatchSpec
from models.domain.slide import SlideRef
from tests.services.orthanc import start_orthanc
from tests.services.slides import SAMPLE_CACHE, write_slide
from worker.demo.sample import fetch_sample
from worker.pipeline import Cancellation, Limits, Part, embed_part
from worker.stages.plan import plan_patches

RUNS = 3
BATCH = 64
UNCACHED_PATCHES = 16


class Nothing:
    """An encoder that does nothing."""

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return zeros."""
        return np.zeros((len(pixels), 1), np.float32)


class GivenMetadata(dicom_web_interface.DicomWebInterface):  # type: ignore[misc]
    """Stock EZ-WSI, with the metadata that Orthanc's QIDO does not give it."""

    def __init__(self, ours: DicomWeb) -> None:
        super().__init__(credential_factory.NoAuthCredentialsFactory())
        self._ours = ours

    def get_instances(self, parent_path: object, **_: object) -> list[object]:
        """Return what our interface returns."""
        return list(self._ours.get_instances(parent_path))


def feed(ref: SlideRef, endpoints: Endpoints) -> tuple[Plan, float]:
    """Return the plan, and the patches a second from plan to pixels in memory."""
    source = open_source(ref, endpoints)
    started = time.perf_counter()
    plan = plan_patches(source.slide, PatchSpec(tissue_fraction=None), None, BATCH)
    part, limits = Part(0, len(plan.grid)), Limits()
    count = sum(len(batch.matrix) for batch in embed_part(source, plan, part, (Nothing(), 1), limits, Cancellation()))
    elapsed = time.perf_counter() - started
    assert count == len(plan.grid)
    source.close()
    return plan, count / elapsed


def ez_wsi(ref: SlideRef, endpoints: Endpoints, plan: Plan, *, preload: bool, patches: int) -> float:
    """Return EZ-WSI's patches a second over the first patches of the same plan."""
    ours = DicomWeb(endpoints.of_ref(ref))
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


def main() -> None:
    """Measure, and print a table and one line of JSON."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        slide = write_slide(fetch_sample(SAMPLE_CACHE), Path(folder) / "slide", 6)
        server = start_orthanc(Path(folder) / "orthanc")
        try:
            server.load(slide.folder)
            endpoints = Endpoints()
            ref = endpoints.locate(f"{server.dicomweb}/studies/{slide.study_uid}/series/{slide.series_uid}")
            figures = measure(ref, endpoints)
        finally:
            server.stop()
    for name, value in figures.items():
        sys.stdout.write(f"{name:<28} {value:>10.1f}\n")
    ratio = figures["feed_patches_s"] / figures["ezwsi_preloaded_patches_s"]
    sys.stdout.write(f"{'feed / EZ-WSI preloaded':<28} {ratio:>10.2f}\n{json.dumps(figures)}\n")


def measure(ref: SlideRef, endpoints: Endpoints) -> dict[str, float]:
    """Return the medians of alternating runs, in patches a second."""
    plan, _ = feed(ref, endpoints)  # warms Orthanc's and the system's caches for both
    sides: dict[str, Callable[[], float]] = {
        "feed_patches_s": lambda: feed(ref, endpoints)[1],
        "ezwsi_preloaded_patches_s": lambda: ez_wsi(ref, endpoints, plan, preload=True, patches=len(plan.grid)),
        "ezwsi_patches_s": lambda: ez_wsi(ref, endpoints, plan, preload=False, patches=UNCACHED_PATCHES),
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(RUNS):
        for name, run in sides.items():
            found[name].append(run())
    return {name: round(statistics.median(values), 1) for name, values in found.items()}


if __name__ == "__main__":
    main()
