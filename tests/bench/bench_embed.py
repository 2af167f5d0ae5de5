"""What a job costs around its feed: ledger, checkpoints, table, DICOM objects, STOW, reading back.

``make bench``: the CMU section laid 6 x 6 in a real Orthanc, all 4,661 patches, the encoder without weights, from
submission to the last instance verified in the PACS; beside it, in the same run, the feed alone with that encoder.
"""

import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path

from connectors.endpoints import Endpoints
from connectors.registry import open_source
from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
from models.encoders import registry
from tests.services.orthanc import start_orthanc
from tests.services.slides import SAMPLE_CACHE, write_slide
from worker.demo.sample import fetch_sample
from worker.embedding import embed
from worker.pipeline import Cancellation, Limits, Part, embed_part
from worker.settings import Settings
from worker.stages.plan import plan_patches

RUNS = 3
ENCODER = "pixel-grid"
PATCHES = PatchSpec(tissue_fraction=None)


def job_s(source: str, folder: Path) -> float:
    """Return the seconds of a whole job, from submission to verified results."""
    settings = Settings(state_folder=folder / "state")
    request = EmbedRequest(source, ENCODER, OutputSpec(str(folder / "out"), write_back=True), PATCHES)
    started = time.perf_counter()
    embed(request, settings)
    return time.perf_counter() - started


def feed_s(source: str) -> float:
    """Return the seconds of feed and encoder alone."""
    endpoints, model = Endpoints(), registry.find(ENCODER)
    encoder = model.load(None, {})
    started = time.perf_counter()
    slide = open_source(endpoints.locate(source), endpoints)
    plan = plan_patches(slide.slide, PATCHES, None, 64)
    part, sized = Part(0, len(plan.grid)), (encoder, model.spec.dimension)
    for _ in embed_part(slide, plan, part, sized, Limits(), Cancellation()):
        pass
    slide.close()
    return time.perf_counter() - started


def main() -> None:
    """Measure, and print one line of JSON."""
    logging.disable(logging.CRITICAL)
    jobs, feeds = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = write_slide(fetch_sample(SAMPLE_CACHE), folder / "slide", 6)
        for run in range(RUNS):  # a PACS without results each time: the second job would find them
            server = start_orthanc(folder / f"orthanc-{run}")
            try:
                server.load(slide.folder)
                source = f"{server.dicomweb}/studies/{slide.study_uid}/series/{slide.series_uid}"
                feeds.append(feed_s(source))
                jobs.append(job_s(source, folder / f"run-{run}"))
            finally:
                server.stop()
    figures = {"job_s": round(statistics.median(jobs), 2), "feed_s": round(statistics.median(feeds), 2)}
    sys.stdout.write(json.dumps({**figures, "job_over_feed": round(figures["job_s"] / figures["feed_s"], 2)}) + "\n")


if __name__ == "__main__":
    main()
