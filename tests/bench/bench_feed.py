"""How fast patches reach the encoder, beside its peers on the same server and files in the same run.

``make bench-feed``: the CMU section laid 6 x 6 in a real Orthanc and in a folder, every 224 px patch of its finest
level, plan to pixels in memory, an encoder that does nothing. EZ-WSI refuses Orthanc as it comes; it is given the
missing metadata and otherwise left alone: with its frames preloaded (its fastest way), and without a cache. Runs
alternate; medians. The limit of the machine (tests/bench/limit.py) is measured in the same run.
"""

import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from connectors.endpoints import Endpoints
from connectors.registry import open_source
from models.domain.patch import Rows
from models.domain.plan import Plan
from models.domain.request import PatchSpec
from models.domain.slide import SlideRef
from tests.bench.limit import measure_cost
from tests.bench.peers import ez_wsi, wsidicom_local, wsidicom_web
from tests.services.orthanc import Orthanc, start_orthanc
from tests.services.proxy import counting_proxy
from tests.services.slides import SAMPLE_CACHE, SlideOnDisk, write_slide
from worker.demo.sample import fetch_sample
from worker.pipeline import Cancellation, Limits, Part, embed_part
from worker.stages.plan import plan_patches

RUNS = 5
BATCH = 64
UNCACHED_PATCHES = 16
WEB_PATCHES = 48


class Nothing:
    """An encoder that does nothing."""

    def __init__(self) -> None:
        self.first_at: float | None = None

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return zeros."""
        self.first_at = self.first_at or time.perf_counter()
        return Rows(np.zeros((len(pixels), 1), np.float32))


@dataclass(frozen=True)
class Fed:
    """One run of the feed."""

    plan: Plan
    patches_s: float
    first_patch_s: float
    """Seconds from opening the slide to the first patch at the encoder."""


def feed(ref: SlideRef) -> Fed:
    """Run the feed over a whole slide."""
    opening = time.perf_counter()
    source = open_source(ref, Endpoints())
    started = time.perf_counter()
    plan = plan_patches(source.slide, PatchSpec(tissue_fraction=None), None, BATCH)
    encoder, part = Nothing(), Part(0, len(plan.grid))
    count = sum(len(batch.rows) for batch in embed_part(source, plan, part, (encoder, 1), Limits(), Cancellation()))
    elapsed = time.perf_counter() - started
    assert count == len(plan.grid)
    assert encoder.first_at is not None
    source.close()
    return Fed(plan, count / elapsed, encoder.first_at - opening)


def main() -> None:
    """Measure, and print a table and one line of JSON."""
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        slide = write_slide(fetch_sample(SAMPLE_CACHE), Path(folder) / "slide", 6)
        server = start_orthanc(Path(folder) / "orthanc")
        try:
            server.load(slide.folder)
            figures = measure(server, slide)
        finally:
            server.stop()
    for name, value in figures.items():
        sys.stdout.write(f"{name:<28} {value:>10.2f}\n")
    for peer in ("ezwsi_preloaded", "ezwsi", "wsidicom_web"):
        sys.stdout.write(f"{'feed / ' + peer:<28} {figures['feed_patches_s'] / figures[f'{peer}_patches_s']:>10.2f}\n")
    local = figures["local_patches_s"] / figures["wsidicom_local_patches_s"]
    sys.stdout.write(f"{'local / wsidicom_local':<28} {local:>10.2f}\n{json.dumps(figures)}\n")


def measure(server: Orthanc, slide: SlideOnDisk) -> dict[str, float]:
    """Return the medians of alternating runs, in patches a second."""
    ref = Endpoints().locate(f"{server.dicomweb}/studies/{slide.study_uid}/series/{slide.series_uid}")
    files = Endpoints().locate(str(slide.folder))
    plan = feed(ref).plan  # warms Orthanc's and the system's caches for all
    frames = plan.level.rows * plan.level.columns
    requests = counted_requests(server, slide)
    sides: dict[str, Callable[[], dict[str, float]]] = {
        "feed": lambda: _fed(feed(ref)),
        "limit": lambda: {
            "limit": measure_cost(server, plan.slide, round(frames / requests)).frames_s() * len(plan.grid) / frames
        },
        "ezwsi_preloaded": lambda: {
            "ezwsi_preloaded_patches_s": ez_wsi(ref, plan, preload=True, patches=len(plan.grid))
        },
        "ezwsi": lambda: {"ezwsi_patches_s": ez_wsi(ref, plan, preload=False, patches=UNCACHED_PATCHES)},
        "wsidicom_web": lambda: {"wsidicom_web_patches_s": wsidicom_web(ref, plan, WEB_PATCHES)},
        "local": lambda: {"local_patches_s": feed(files).patches_s},
        "wsidicom_local": lambda: {"wsidicom_local_patches_s": wsidicom_local(files, plan)},
    }
    found: dict[str, list[float]] = {}
    for _ in range(RUNS):
        for run in sides.values():
            for name, value in run().items():
                found.setdefault(name, []).append(value)
    medians = {name: round(statistics.median(values), 2) for name, values in found.items()}
    limit = medians.pop("limit")
    return {
        **medians,
        "limit_patches_s": limit,
        "limit_share": round(medians["feed_patches_s"] / limit, 3),
        "frames_per_request": round(frames / requests, 1),
    }


def _fed(run: Fed) -> dict[str, float]:
    return {"feed_patches_s": run.patches_s, "first_patch_s": run.first_patch_s}


def counted_requests(server: Orthanc, slide: SlideOnDisk) -> int:
    """Return how many requests for frames the feed makes for the whole level."""
    port = urlsplit(server.url).port or 0
    with counting_proxy(port) as proxy:
        base = server.dicomweb.replace(f":{port}", f":{proxy.port}")
        feed(Endpoints().locate(f"{base}/studies/{slide.study_uid}/series/{slide.series_uid}"))
        return proxy.requests - 2  # metadata, and the frame that tells the transfer syntax


if __name__ == "__main__":
    main()
