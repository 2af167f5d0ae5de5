"""A long shard gives way to more urgent ones."""

import pytest

from tests.faults.fleet import Fleet
from tests.faults.invariants import assert_sound, digests
from tests.services.command import Slidewire
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess

_WHAT = ("--encoder", "pixel-grid", "--all-patches")


@pytest.mark.faults
def test_an_urgent_job_cuts_in(slidewire: Slidewire, cmu_slide: SlideOnDisk, processes: list[WarmProcess]) -> None:
    """When its turn is over a shard goes back with a checkpoint, uses no attempt, and ends with the same bytes."""
    slidewire.environment |= {"SLIDEWIRE_BATCH_SIZE": "8", "SLIDEWIRE_TURN_S": "0.2"}
    quiet = slidewire.beside("quiet")
    golden = digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT, "--out", "out").json["job"]])[0]
    long = slidewire.done("submit", cmu_slide.folder, *_WHAT, "--out", "long").json["job"]
    with Fleet(slidewire, processes[:1], ["slow=:0.1"]):
        wait_until(lambda: bool(slidewire.rows("SELECT name FROM checkpoint")), "the end of the first turn", 60.0)
        urgent = slidewire.done("submit", cmu_slide.folder, *_WHAT, "--out", "urgent", "--lane", "interactive").json[
            "job"
        ]
        slidewire.wait_for(urgent)
        assert slidewire.job(long)["state"] == "running", "the long job was done first"
        slidewire.wait_for(long)
    history = slidewire.job(long)["history"]
    assert [one["event"] for one in history].count("released") >= 3
    assert slidewire.rows("SELECT max(attempts), max(crashes) FROM shard") == [(0, 0)]
    assert_sound(slidewire, {long: golden, urgent: golden})


def test_a_turn_of_no_time_still_moves_on(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """One batch a turn: as many turns as batches, and the bytes of a quiet run."""
    quiet = slidewire.beside("quiet", SLIDEWIRE_BATCH_SIZE="16")
    golden = digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT, "--out", "out").json["job"]])[0]
    slidewire.environment |= {"SLIDEWIRE_BATCH_SIZE": "16", "SLIDEWIRE_TURN_S": "0.000001"}
    job = slidewire.done("submit", cmu_slide.folder, *_WHAT, "--out", "out").json["job"]
    assert slidewire("worker", "--drain").rc == 0
    events = [one["event"] for one in slidewire.job(job)["history"] if one["kind"] == "embed"]
    assert events.count("released") == -(-slidewire.job(job)["patches"] // 16)
    assert_sound(slidewire, {job: golden})
