"""What the engine adds to the work: ledger, checkpoints and doorbell, as a share of a job with the fastest encoder.

``make bench-overhead``: the CMU section laid 9 x 9 (about 10,500 patches, three shards), from files and from Orthanc,
with SQLite alone, and with PostgreSQL and a Redis to ring through; beside it, in the same run, the pipeline alone over
the same shards. Runs alternate; medians.
"""

import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from connectors.registry import open_source
from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
from models.encoders import registry
from tests.bench.stopwatch import Stopwatch
from tests.services.orthanc import start_orthanc
from tests.services.postgresql import running_postgresql
from tests.services.redis import start_redis
from tests.services.slides import SAMPLE_CACHE, write_slide
from worker.app import make_app
from worker.demo.sample import fetch_sample
from worker.embedding import submit
from worker.engine import Engine
from worker.ledger import Checkpoints, Database, JobState
from worker.pipeline import Cancellation, Part, embed_part
from worker.process import Sweeper
from worker.settings import Settings
from worker.submission import Ways, prepare
from worker.wiring import Installation

RUNS = 5
TILES = 9
ENCODER = "pixel-grid"
PATCHES = PatchSpec(tissue_fraction=None)
WATCHED = ("ledger", "checkpoints")


@dataclass(frozen=True)
class Side:
    """One way to run a job."""

    name: str
    source: str
    ledger_url: str = ""
    broker_url: str = ""

    def settings(self, folder: Path) -> Settings:
        """Return the settings of a run in a folder of its own."""
        return Settings(state_folder=folder, ledger_url=self.ledger_url, broker_url=self.broker_url)


def job(side: Side, installation: Installation, folder: Path) -> dict[str, float]:
    """Run one job as a worker does; return seconds: in all, of its parts, and what was spent in the engine's own."""
    ledger = installation.ledger
    with _doorbell(installation) as rung, _watched() as watch:
        engine = Engine(installation, Cancellation(), after_shard=rung)
        started = time.perf_counter()
        record = submit(installation, EmbedRequest(side.source, ENCODER, OutputSpec(str(folder)), PATCHES))
        submitted = time.perf_counter()
        parts = [_timed(engine) for _ in range(ledger.shards.remaining(record.id))]
        published_s = _timed(engine)
        total_s = time.perf_counter() - started
    engine.close()
    assert ledger.jobs.get(record.id).state is JobState.SUCCEEDED
    spent = {label: watch.seconds[label] for label in (*WATCHED, "aside")}
    spent["calls"] = float(sum(watch.calls[label] for label in WATCHED))
    spent["share"] = sum(spent[label] for label in WATCHED) / total_s
    return {"s": total_s, "submit_s": submitted - started, "embed_s": sum(parts), "publish_s": published_s, **spent}


def pipeline(side: Side, installation: Installation) -> dict[str, float]:
    """Return the seconds of the pipeline alone, over the same shards, the encoder loaded and the slide planned."""
    settings, endpoints, model = installation.settings, installation.endpoints, registry.find(ENCODER)
    request = EmbedRequest(side.source, ENCODER, OutputSpec(str(settings.state_folder)), PATCHES)
    prepared = prepare(request, endpoints, Ways.of(settings))
    limits, encoder = installation.limits_for(prepared.ref).paced(), (model.load(None, {}), model.spec.dimension)
    started = time.perf_counter()
    source = open_source(prepared.ref, endpoints)
    for start, stop in prepared.plan.shards(settings.shard_patches):
        for _ in embed_part(source, prepared.plan, Part(start, stop), encoder, limits, Cancellation()):
            pass
    source.close()
    return {"s": time.perf_counter() - started, "patches": float(len(prepared.plan.grid))}


def _timed(engine: Engine) -> float:
    started = time.perf_counter()
    assert engine.run_next()
    return time.perf_counter() - started


@contextmanager
def _doorbell(installation: Installation) -> "Iterator[object]":
    """Give what a worker does after a shard: wake the thread that rings, if there is a broker."""
    if not installation.settings.broker_url:
        yield lambda: None
        return
    sweeper = Sweeper(installation.ledger, make_app(installation.settings.broker_url))
    sweeper.start()
    try:
        yield sweeper.wake
    finally:
        sweeper.stop()


@contextmanager
def _watched() -> Iterator[Stopwatch]:
    with Stopwatch() as watch:
        for name in ("read", "write"):
            watch.watch_block(Database, name, "ledger")
        for name in ("save", "load", "discard"):
            watch.watch(Checkpoints, name, "checkpoints")
        yield watch


def measure(folder: Path, sides: list[Side]) -> dict[str, dict[str, float]]:
    """Return the medians of alternating runs."""
    found: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as opened:
        # Kept open as a worker does: the first job of a process also loads the encoder and compiles its SQL.
        installations = [
            opened.enter_context(Installation(side.settings(folder / f"state-{number}")))
            for number, side in enumerate(sides)
        ]
        for run in range(RUNS + 1):
            for side, installation in zip(sides, installations, strict=True):
                taken = {side.name: job(side, installation, folder / f"out-{run}" / side.name)}
                if not side.ledger_url:
                    taken[f"{side.name}, pipeline alone"] = pipeline(side, installation)
                for name, figures in taken.items():
                    if run:  # the first warms the caches
                        found.setdefault(name, []).append(figures)
    return {
        name: {key: round(statistics.median(run[key] for run in runs), 4) for key in runs[0]}
        for name, runs in found.items()
    }


def main() -> None:
    """Measure, and print a table and one line of JSON."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as name, ExitStack() as services:
        folder = Path(name)
        slide = write_slide(fetch_sample(SAMPLE_CACHE), folder / "slide", TILES)
        postgresql = services.enter_context(running_postgresql(durable=True))
        redis, orthanc = start_redis(folder / "redis"), start_orthanc(folder / "orthanc")
        services.callback(redis.stop)
        services.callback(orthanc.stop)
        orthanc.load(slide.folder)
        sides = []
        for where, source in (
            ("files", str(slide.folder)),
            ("Orthanc", f"{orthanc.dicomweb}/studies/{slide.study_uid}/series/{slide.series_uid}"),
        ):
            sides += [
                Side(f"{where}, SQLite", source),
                Side(f"{where}, PostgreSQL and Redis", source, postgresql.create_database(), redis.url),
            ]
        figures = measure(folder, sides)
    for name, values in figures.items():
        sys.stdout.write(f"{name:<32}" + "".join(f" {key} {value:<8}" for key, value in values.items()) + "\n")
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
