"""How soon a slide that arrives becomes a claimed job, what that asks of the archive, and 500 slides in a minute.

    python -m tests.bench.bench_intake [--slides 20] [--many 500] [--quiet 5]

A real Orthanc, a watch and a worker as they come: no broker, and the worker looks into the ledger once a second.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.command import Slidewire
from tests.services.orthanc import start_orthanc
from tests.services.pacs import renamed
from tests.services.ports import wait_until
from tests.services.proxy import CountingProxy, counting_proxy
from tests.services.slides import SAMPLE_CACHE, SlideOnDisk, write_slide
from tests.services.warm import WarmProcess
from tests.services.watched import Watched
from worker.demo.pyramid import write_pyramid
from worker.demo.sample import fetch_sample

_SMALL_PX = 600  # of the slides that come by the hundred
_CLAIMED = (
    "SELECT min(attempt.at) FROM attempt JOIN shard ON shard.id = attempt.shard_id JOIN arrival "
    "ON arrival.job_id = shard.job_id WHERE arrival.series_uid = '{}' AND attempt.event = 'claimed'"
)


@contextmanager
def _site(folder: Path, quiet_s: float) -> Iterator[tuple[Watched, CountingProxy]]:
    orthanc, warm = start_orthanc(folder / "orthanc"), WarmProcess()
    slidewire = Slidewire(folder / "slidewire", warm, {"SLIDEWIRE_POLL_S": "1.0"})
    try:
        with counting_proxy(int(orthanc.url.rpartition(":")[2])) as proxy:
            site = Watched(slidewire, orthanc)
            site.configure(quiet_s=quiet_s, events=f"http://127.0.0.1:{proxy.port}", events_s=0.5)
            site.watch()
            yield site, proxy
    finally:
        slidewire.stop_all()
        warm.stop()
        orthanc.stop()


def _idle(proxy: CountingProxy, seconds: float) -> None:
    before = proxy.requests
    threading.Event().wait(seconds)
    print(f"idle: {(proxy.requests - before) / seconds:.2f} requests/s to Orthanc's API")


def _soon(site: Watched, slides: list[SlideOnDisk], quiet_s: float) -> None:
    worker, waits = site.worker(), []
    for slide in slides:
        site.send(slide)
        stored = time.time()
        wait_until(lambda one=slide: _claimed(site, one) is not None, "the claim")  # type: ignore[misc]
        claimed = _claimed(site, slide)
        assert claimed is not None
        waits.append(claimed - stored - quiet_s)
    worker.terminate()
    longest, middle = max(waits), statistics.median(waits)
    print(f"from the last instance stored to the job claimed, {len(waits)} slides, beyond the quiet time:")
    print(f"  median {middle:.2f} s, longest {longest:.2f} s")


def _claimed(site: Watched, slide: SlideOnDisk) -> float | None:
    at = site.slidewire.rows(_CLAIMED.format(slide.series_uid))[0][0]
    return None if at is None else float(at)


def _many(site: Watched, slides: list[SlideOnDisk], proxy: CountingProxy) -> None:
    before, requests = len(site.jobs()), proxy.requests
    start = time.perf_counter()
    for number, slide in enumerate(slides):
        site.send(slide)
        threading.Event().wait(max(0.0, start + 60.0 * number / len(slides) - time.perf_counter()))
    sent_s = time.perf_counter() - start
    wait_until(lambda: len(site.jobs()) - before >= len(slides), "all jobs", 1800.0)
    settled_s = time.perf_counter() - start - sent_s
    states = {site.arrival(slide)["state"] for slide in slides}
    jobs = {site.arrival(slide)["job_id"] for slide in slides}
    assert states == {"submitted"}, states
    assert len(jobs) == len(slides) == len(site.jobs()) - before
    print(f"{len(slides)} slides stored within {sent_s:.0f} s: all jobs {settled_s:.0f} s after the last, once")
    print(f"  {(proxy.requests - requests) / len(slides):.2f} requests a slide to Orthanc's API")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--slides", type=int, default=20)
    parser.add_argument("--many", type=int, default=500)
    parser.add_argument("--quiet", type=float, default=5.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = write_slide(fetch_sample(SAMPLE_CACHE), folder / "slide", 1)
        copies = [renamed(slide, folder / f"copy-{number}") for number in range(given.slides)]
        pixels = slide.pixels[:_SMALL_PX, :_SMALL_PX]
        levels = write_pyramid(pixels, slide.spacing_um, folder / "small", tiles=1)
        small = SlideOnDisk(folder / "small", levels, pixels, slide.spacing_um, 1)
        many = [renamed(small, folder / f"many-{number}") for number in range(given.many)]
        with _site(folder, given.quiet) as (site, proxy):
            _idle(proxy, 10.0)
            if copies:
                _soon(site, copies, given.quiet)
            _many(site, many, proxy)


if __name__ == "__main__":
    main()
