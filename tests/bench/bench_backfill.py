"""How fast a backfill searches an archive and hands out its slides, and whether its memory stays flat.

    python -m tests.bench.bench_backfill [--series 100000] [--hand-out 10000]

The archive is made up by another process. Slides are not opened: what is handed out counts as done before.
"""

import argparse
import datetime as dt
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from models.domain.job import JobState
from models.domain.request import EmbedRequest, OutputSpec
from tests.bench.feed_memory import memory_mb
from tests.services.made_up_archive import made_up_archive
from worker.backfill import Order, Run, RunLimits
from worker.backfill.run import surveyed
from worker.ledger import JobRecord, Lane, NewJob
from worker.pipeline import Cancellation
from worker.settings import Settings
from worker.wiring import Installation

_FIRST = dt.date(2000, 1, 1)
_A_DAY = 20
_SAMPLES = 10


def _search(installation: Installation, order: Order, series: int) -> None:
    backfills, samples, start = installation.ledger.backfills, [memory_mb("VmRSS")], time.perf_counter()
    with surveyed(installation, order) as survey:
        record, cursor, found = backfills.open(order.key, order.wanted, survey.start), survey.start, 0
        while not cursor.listed:
            following, page = survey.step(cursor)
            backfills.found(record.id, cursor, following, [(one.study_uid, one.series_uid, "") for one in page])
            cursor, found = following, found + len(page)
            if found >= len(samples) * series / _SAMPLES:
                samples.append(memory_mb("VmRSS"))
    passed_s = time.perf_counter() - start
    assert found == series, found
    print(f"search: {found} series in {passed_s:.0f} s, {found / passed_s:.0f} series/s")
    print("  memory in MB, at the beginning and after every tenth:", " ".join(f"{mb:.0f}" for mb in samples))
    start = time.perf_counter()
    backfills.tally(record.id)
    print(f"  counting them all: {1000 * (time.perf_counter() - start):.0f} ms")


def _hand_out(installation: Installation, order: Order, slides: int) -> None:
    new = NewJob("done", "done", "pixel-grid", Lane.BACKFILL, {}, b"", 0, ())
    done = replace(installation.ledger.jobs.submit(new).job, state=JobState.SUCCEEDED, created_at=0.0)
    before, start = memory_mb("VmRSS"), time.perf_counter()

    def submitted(installation: Installation, request: EmbedRequest, lane: Lane) -> JobRecord:
        del installation, request, lane
        return done

    Run(installation, order, RunLimits(slides=slides, detach=True), Cancellation(), submitted).work(lambda _: None)
    passed_s = time.perf_counter() - start
    print(f"hand out: {slides} slides in {passed_s:.0f} s, {slides / passed_s:.0f} slides/s")
    print(f"  memory in MB, before and after: {before:.0f} {memory_mb('VmRSS'):.0f}")


def main() -> None:
    """Measure."""
    options = argparse.ArgumentParser()
    options.add_argument("--series", type=int, default=100_000)
    options.add_argument("--hand-out", type=int, default=10_000)
    given = options.parse_args()
    last = _FIRST + dt.timedelta(days=given.series // _A_DAY)
    with tempfile.TemporaryDirectory() as folder, made_up_archive(given.series, _A_DAY, _FIRST) as archive:
        order = Order("pacs", "SM", _FIRST, last, EmbedRequest("", "pixel-grid", OutputSpec(folder)))
        settings = Settings(
            state_folder=Path(folder), ledger_url="", broker_url="", endpoints={"pacs": {"url": archive.url}}
        )
        with Installation(settings) as installation:
            _search(installation, order, given.series)
            _hand_out(installation, order, given.hand_out)


if __name__ == "__main__":
    main()
