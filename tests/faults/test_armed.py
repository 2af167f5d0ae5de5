"""The harness itself: a process ends where a test says, and an encoder misbehaves as told."""

import signal

from tests.faults.conftest import Fault
from tests.faults.invariants import assert_sound, digests
from tests.services.command import Slidewire
from tests.services.slides import SlideOnDisk

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")


def test_a_worker_ends_at_a_kill_point(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault) -> None:
    """SIGKILL at the place; the next worker ends the job with the bytes of a quiet run."""
    fault.is_number(2, "kill -9 at a named place", "kill point")
    quiet = slidewire.beside("quiet")
    golden = digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT).json["job"]])
    slidewire.environment["SLIDEWIRE_LEASE_S"] = "1"
    job = slidewire.done("submit", cmu_slide.folder, *_WHAT).json["job"]
    worker = slidewire.start("worker", armed=["kill=publish.after_write"])
    assert worker.wait() == -signal.SIGKILL, worker.log
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire, {job: golden[0]})
