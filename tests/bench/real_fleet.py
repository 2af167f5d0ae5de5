"""A small fleet in earnest, to hold the simulation against: 40 jobs, one and two workers, an encoder that is slow.

The encoder sleeps for a known time each batch, as a GPU would keep the process waiting; what a publication takes, and
what a slide takes until its first batch, is read from the run with one worker.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine, text

from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
from tests.bench.fleet import Fleet, Rates
from tests.services.slides import SAMPLE_CACHE, write_slide
from worker.demo.sample import fetch_sample
from worker.embedding import submit
from worker.settings import Settings
from worker.wiring import Installation

JOBS = 40
BATCH_S = 0.25
BATCH = 64
TILES = 2
_ROOT = Path(__file__).parents[2]
_TIMES = """
SELECT shard.kind, claimed.at AS began, completed.at AS ended FROM shard
JOIN attempt AS claimed ON claimed.shard_id = shard.id AND claimed.event = 'claimed'
JOIN attempt AS completed ON completed.shard_id = shard.id AND completed.event = 'completed'
"""


def compare() -> None:
    """Run both, print a line for each number of workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        slide = write_slide(fetch_sample(SAMPLE_CACHE), folder / "slide", TILES)
        rates: Rates | None = None
        for workers in (1, 2):
            patches, took_s, kinds = _run(slide.folder, folder / str(workers), workers)
            encode_s = -(-patches // BATCH) * BATCH_S
            rates = rates or Rates(
                encoder=patches / encode_s, patches=patches, spread=0.0, submit_s=0.0,
                open_s=kinds["embed"] - encode_s, publish_s=kinds["publish"],
            )  # fmt: skip
            simulated_s = Fleet(workers, JOBS, rates).run().seconds
            sys.stdout.write(
                f"{workers} workers, {JOBS} jobs of {patches} patches: {took_s:.1f} s, simulated {simulated_s:.1f} s"
                f" ({simulated_s / took_s - 1:+.0%}); opening {kinds['embed'] - encode_s:.2f} s,"
                f" a publication {kinds['publish']:.2f} s\n"
            )


def _run(slide: Path, state: Path, workers: int) -> tuple[int, float, dict[str, float]]:
    """Return the patches of a job, the seconds from the first claim to the last completion, and of each kind."""
    with Installation(Settings(state_folder=state)) as installation:
        for number in range(JOBS):
            output = OutputSpec(str(state / f"out-{number}"))
            job = submit(installation, EmbedRequest(str(slide), "pixel-grid", output, PatchSpec(tissue_fraction=None)))
    command = [sys.executable, "-m", "tests.services.armed", f"slow=:{BATCH_S}", "--", "worker", "--drain"]
    environment = os.environ | {"SLIDEWIRE_STATE_FOLDER": str(state), "PYTHONPATH": str(_ROOT)}
    running = [
        subprocess.Popen(command, cwd=state, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(workers)
    ]
    for process in running:
        assert process.wait() == 0
    with closing(create_engine(f"sqlite:///{state / 'ledger.sqlite'}").connect()) as connection:
        rows = connection.execute(text(_TIMES)).all()
    assert len(rows) == 2 * JOBS
    kinds = {
        kind: statistics.mean(row.ended - row.began for row in rows if row.kind == kind)
        for kind in ("embed", "publish")
    }
    return job.patches, max(row.ended for row in rows) - min(row.began for row in rows), kinds
