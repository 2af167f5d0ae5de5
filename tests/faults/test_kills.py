"""200 workers killed at random moments (fault 1), over both databases and with results that go back into a PACS."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle

import pytest

from tests.faults.conftest import Fault
from tests.faults.fleet import Fleet, kill_at_random, open_jobs, settled
from tests.faults.invariants import assert_sound, digests
from tests.services.command import Slidewire
from tests.services.pacs import SlideInPacs
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

_STRIDES = (104, 112, 120, 128, 136, 144, 152, 160)
_WAITING = 5  # jobs that there are at least, so that kills hit work
_SMALL = {
    "SLIDEWIRE_LEASE_S": "1", "SLIDEWIRE_CHECKPOINT_S": "0.1", "SLIDEWIRE_SHARD_PATCHES": "96",
    "SLIDEWIRE_BATCH_SIZE": "16", "SLIDEWIRE_DECODERS": "1",
}  # fmt: skip


@dataclass
class _Supply:
    """Jobs, as many as the kills last: the slide with one stride after the other, each time into another folder."""

    slidewire: Slidewire
    source: object
    more: tuple[str, ...] = ()
    strides: dict[str, int] = field(default_factory=dict)
    _next: Iterator[int] = field(default_factory=lambda: cycle(_STRIDES))

    def top_up(self) -> None:
        """Submit jobs until some wait."""
        while open_jobs(self.slidewire) < _WAITING:
            self.submit(next(self._next), f"out-{len(self.strides) // len(_STRIDES)}")

    def submit(self, stride: int, folder: str) -> str:
        """Submit one job."""
        what = ("--encoder", "pixel-grid", "--all-patches", "--out", folder, "--stride-px", stride, *self.more)
        job = str(self.slidewire.done("submit", self.source, *what).json["job"])
        self.strides[job] = stride
        return job


def _quiet(supply: _Supply) -> dict[int, tuple[str, ...]]:
    """Run one job of each stride without trouble; return the digests of their outputs."""
    jobs = {stride: supply.submit(stride, "out") for stride in _STRIDES}
    assert supply.slidewire("worker", "--drain").rc == 0
    return {stride: digests(supply.slidewire, [job])[0] for stride, job in jobs.items()}


def _hurt(supply: _Supply, processes: list[WarmProcess], seed: int, kills: int, fault: Fault) -> None:
    """Kill workers while jobs come in, then let the survivors finish."""
    supply.slidewire.done("jobs")  # makes the ledger
    supply.top_up()
    with Fleet(supply.slidewire, processes, ["slow=:0.05"]) as fleet:
        for _ in kill_at_random(fleet, random.Random(seed), kills, (0.1, 1.2)):
            fault.strikes()
            supply.top_up()
        wait_until(settled(supply.slidewire), f"every job to end after {kills} kills, seed {seed}", 300.0)
        fault.is_over()


def _golden(supply: _Supply, quiet: Mapping[int, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {job: quiet[stride] for job, stride in supply.strides.items()}


def _assert_hit(slidewire: Slidewire) -> None:
    """Kills must have hit work, or the test shows nothing."""
    [(crashes,)] = slidewire.rows("SELECT count(*) FROM attempt WHERE event = 'expired'")
    assert crashes > 10, "hardly a kill hit a shard"


def test_random_kills(on_either: Slidewire, cmu_slide: SlideOnDisk, processes: list[WarmProcess], fault: Fault) -> None:
    """Whatever is killed when: every job ends, no result is there twice, and the bytes are those of a quiet run."""
    fault.is_number(1, "kill -9 of a worker at a random moment", "SIGKILL, two workers")
    quiet = _quiet(_Supply(on_either.beside("quiet", SLIDEWIRE_LEDGER_URL="", **_SMALL), cmu_slide.folder))
    on_either.environment |= _SMALL
    supply = _Supply(on_either, cmu_slide.folder)
    _hurt(supply, processes, 1, 80, fault)
    _assert_hit(on_either)
    assert_sound(on_either, _golden(supply, quiet))


def test_random_kills_while_results_go_back_into_the_pacs(
    slidewire: Slidewire, pacs_slide: SlideInPacs, processes: list[WarmProcess], fault: Fault
) -> None:
    """The PACS holds each result once: two objects a stride, and a quiet run later adds none."""
    fault.is_number(1, "kill -9 of a worker at a random moment", "SIGKILL, two workers, results go back into Orthanc")
    slidewire.environment |= _SMALL
    supply = _Supply(slidewire, pacs_slide.url, ("--write-back",))
    _hurt(supply, processes, 3, 40, fault)
    _assert_hit(slidewire)
    stored = pacs_slide.instances()
    assert len(stored) == len(pacs_slide.slide.levels) + 2 * len(set(supply.strides.values()))
    quiet = _quiet(_Supply(slidewire.beside("quiet"), pacs_slide.url, ("--write-back",)))
    assert_sound(slidewire, _golden(supply, quiet))
    assert set(stored) <= set(pacs_slide.instances())
    assert len(pacs_slide.instances()) == len(pacs_slide.slide.levels) + 2 * len(_STRIDES)
