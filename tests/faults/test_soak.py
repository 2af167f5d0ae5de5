"""Two thousand slides with a worker killed every few seconds (fault 31): nothing lost, nothing twice, flat memory.

One worker is killed all the time, the other one never: its memory is sampled. `make soak` prints a summary.
"""

import random
import statistics
import threading
import time
from pathlib import Path

import pytest

from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
from tests.faults.conftest import Fault
from tests.faults.fleet import Fleet, open_jobs, settled
from tests.faults.invariants import assert_ended, assert_sound
from tests.services.command import Slidewire
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess
from worker.embedding import submit
from worker.settings import Settings
from worker.wiring import Installation

pytestmark = [pytest.mark.faults, pytest.mark.soak, pytest.mark.timeout(7200)]

_JOBS, _STRIDES, _AHEAD = 2000, tuple(range(60, 80)), 40
_SEED = 31
_KILL_S = (1.0, 5.0)
_SPACING_UM = 4.0  # 8 x coarser than the finest level: some patches a job
_GROWTH = 1.1  # of the survivor's memory from the second quarter of the run to the last
_SMALL = {
    "SLIDEWIRE_LEASE_S": "2", "SLIDEWIRE_CHECKPOINT_S": "0.05", "SLIDEWIRE_SHARD_PATCHES": "8",
    "SLIDEWIRE_BATCH_SIZE": "4", "SLIDEWIRE_DECODERS": "1",
}  # fmt: skip


def _request(slide: Path, stride: int, folder: Path) -> EmbedRequest:
    patches = PatchSpec(spacing_um=_SPACING_UM, patch_px=64, stride_px=stride, tissue_fraction=None)
    return EmbedRequest(str(slide), "pixel-grid", patches=patches, output=OutputSpec(folder=str(folder)))


class _Submitting(threading.Thread):
    """Submits the jobs, some ahead of the workers; keeps which stride each has."""

    def __init__(self, slidewire: Slidewire, slide: Path) -> None:
        super().__init__(name="submitting", daemon=True)
        self._slidewire, self._slide = slidewire, slide
        self.strides: dict[str, int] = {}

    def run(self) -> None:
        """Submit until all are in."""
        with Installation(_settings(self._slidewire)) as installation:
            for number in range(_JOBS):
                wait_until(lambda: open_jobs(self._slidewire) < _AHEAD, "the workers to catch up", 600.0)
                stride = _STRIDES[number % len(_STRIDES)]
                folder = self._slidewire.folder / f"out-{number // len(_STRIDES)}"
                self.strides[submit(installation, _request(self._slide, stride, folder)).id] = stride


def _settings(slidewire: Slidewire) -> Settings:
    prefix = "SLIDEWIRE_"
    given = {
        name.removeprefix(prefix).lower(): value for name, value in slidewire.environment.items() if prefix in name
    }
    return Settings.model_validate(given)


def _quiet(slidewire: Slidewire, slide: Path) -> dict[int, str]:
    with Installation(_settings(slidewire)) as installation:
        jobs = {
            stride: submit(installation, _request(slide, stride, slidewire.folder / "out")).id for stride in _STRIDES
        }
    assert slidewire("worker", "--drain").rc == 0
    return {stride: slidewire.job(job)["outputs"][0]["sha256"] for stride, job in jobs.items()}


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def test_soak(slidewire: Slidewire, cmu_slide: SlideOnDisk, processes: list[WarmProcess], fault: Fault) -> None:
    """Every job succeeds with the bytes of a quiet run, and the worker that lived through it did not grow."""
    fault.is_number(31, "soak: 2,000 slides, a worker killed every few seconds", f"SIGKILL, seed {_SEED}")
    golden = _quiet(slidewire.beside("quiet", **_SMALL), cmu_slide.folder)
    slidewire.environment |= _SMALL
    slidewire.done("jobs")  # makes the ledger
    chance, moment, memory = random.Random(_SEED), threading.Event(), []
    jobs, reopened, since = _Submitting(slidewire, cmu_slide.folder), 0, time.monotonic()
    jobs.start()
    with Fleet(slidewire, processes) as fleet:
        while jobs.is_alive() or open_jobs(slidewire):
            moment.wait(chance.uniform(*_KILL_S))
            fleet.kill(1)
            fault.strikes()
            memory.append(_rss_mb(fleet.pids[0]))
        assert len(jobs.strides) == _JOBS
        [(reopened,)] = slidewire.rows("SELECT count(*) FROM job WHERE state = 'quarantined'")
        wait_until(settled(slidewire), "every job to end", 600.0)
        fault.is_over()
    minutes = (time.monotonic() - since) / 60
    _say(slidewire, minutes, fault.times, reopened, memory)
    assert_ended(slidewire)
    assert_sound(slidewire, {job: (golden[stride],) for job, stride in jobs.strides.items()})
    assert {state for (state,) in slidewire.rows("SELECT state FROM job")} == {"succeeded"}
    quarter = len(memory) // 4
    assert statistics.median(memory[-quarter:]) < _GROWTH * statistics.median(memory[quarter : 2 * quarter]), memory


def _say(slidewire: Slidewire, minutes: float, kills: int, reopened: int, memory: list[float]) -> None:
    [(expired,)] = slidewire.rows("SELECT count(*) FROM attempt WHERE event = 'expired'")
    quarter = len(memory) // 4
    print(
        f"\nsoak: {_JOBS} jobs in {minutes:.1f} min, {_JOBS / minutes:.0f} jobs/min; {kills} kills, "
        f"{expired} leases lost, {reopened} quarantined jobs reopened; survivor's memory "
        f"{memory[0]:.0f} MB first, {statistics.median(memory[quarter : 2 * quarter]):.0f} MB in the second quarter, "
        f"{statistics.median(memory[-quarter:]):.0f} MB in the last, {memory[-1]:.0f} MB at the end"
    )
