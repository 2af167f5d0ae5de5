"""Heavier faults, by ``make test-faults``: workers killed at random while jobs from a PACS go back into it."""

import random
import threading
from collections.abc import Iterator

import pytest

from tests.services.command import Running, Slidewire
from tests.services.pacs import SlideInPacs

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

_STRIDES = (24, 25, 26, 27, 28, 29)
_KILLS = 40
_FINAL = {"succeeded", "failed", "quarantined", "cancelled"}


def _submit(slidewire: Slidewire, source: str, folder: str) -> list[str]:
    what = ("--encoder", "pixel-grid", "--all-patches", "--out", folder, "--write-back")
    return [slidewire.done("submit", source, *what, "--stride-px", stride).json["job"] for stride in _STRIDES]


def _digests(slidewire: Slidewire, jobs: list[str]) -> list[list[str]]:
    return [[output["sha256"] for output in slidewire.job(job)["outputs"]] for job in jobs]


def _states(slidewire: Slidewire) -> set[str]:
    return {state for (state,) in slidewire.rows("SELECT state FROM job")}


def _killing(slidewire: Slidewire, chance: random.Random) -> Iterator[Running]:
    """Keep two workers going and kill one of them every now and then, until every job has ended."""
    workers = [slidewire.start("worker") for _ in range(2)]
    pause = threading.Event()
    for _ in range(_KILLS):
        pause.wait(chance.uniform(0.5, 4.0))
        if _states(slidewire) <= _FINAL:
            break
        victim = chance.randrange(2)
        workers[victim].kill()
        yield workers[victim]
        workers[victim] = slidewire.start("worker")
    for worker in workers:
        worker.kill()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_kills(slidewire: Slidewire, pacs_slide: SlideInPacs, seed: int) -> None:
    """Whatever is killed when: every job ends, no result is there twice, and the bytes are those of a quiet run."""
    quiet = slidewire.beside("quiet")
    golden_jobs = _submit(quiet, pacs_slide.url, "out")
    assert quiet.program("worker", "--drain", timeout_s=300).rc == 0
    golden = _digests(quiet, golden_jobs)
    stored = pacs_slide.instances()

    hurt = slidewire.beside(
        f"hurt-{seed}", SLIDEWIRE_LEASE_S="2", SLIDEWIRE_CHECKPOINT_S="0.2", SLIDEWIRE_SHARD_PATCHES="1024"
    )
    jobs = _submit(hurt, pacs_slide.url, "out")
    killed = sum(1 for _ in _killing(hurt, random.Random(seed)))
    assert killed > 0, f"seed {seed}: everything was over before the first kill"
    # A shard whose worker was killed three times is quarantined, by design; a person looks and tries again.
    for job in jobs:
        if hurt.job(job)["state"] == "quarantined":
            assert hurt.rows(f"SELECT max(crashes) FROM shard WHERE job_id = '{job}'") == [(3,)]
            hurt.done("jobs", "retry", job)
    assert hurt.program("worker", "--drain", timeout_s=300).rc == 0

    assert {hurt.job(job)["state"] for job in jobs} == {"succeeded"}, f"seed {seed}, {killed} kills"
    assert _digests(hurt, jobs) == golden
    assert pacs_slide.instances() == stored, "a result is in the PACS twice"
    assert hurt.rows("PRAGMA integrity_check") == [("ok",)]
    assert not list(hurt.folder.rglob("*.part")), "a temporary file was left behind"
    done = hurt.rows("SELECT shard_id, count(*) FROM attempt WHERE event = 'completed' GROUP BY shard_id")
    assert {count for _, count in done} == {1}, "a shard was completed twice"
