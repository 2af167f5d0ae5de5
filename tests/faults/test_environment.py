"""A setting of somebody else's that would lose work (fault 5): refused, and nothing is lost by the attempt."""

import pytest

from tests.faults.conftest import Fault
from tests.faults.invariants import assert_sound, digests
from tests.services.command import Slidewire
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk

_WHAT = ("--encoder", "pixel-grid", "--out", "out")


@pytest.mark.faults
def test_remap_sigterm_is_refused(
    slidewire: Slidewire, redis_server: RedisServer, cmu_slide: SlideOnDisk, fault: Fault
) -> None:
    """The one environment variable with which Celery would lose the running message ends a worker at its start."""
    fault.is_number(5, "REMAP_SIGTERM=SIGQUIT", "in the environment of a worker: it refuses to start")
    quiet = slidewire.beside("quiet")
    golden = digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT).json["job"]])
    redis_server.flush()
    slidewire.environment |= {"SLIDEWIRE_BROKER_URL": redis_server.url, "REMAP_SIGTERM": "SIGQUIT"}
    job = slidewire.done("submit", cmu_slide.folder, *_WHAT).json["job"]
    said = slidewire("worker")
    fault.strikes()
    assert said.rc == 1
    assert said.stderr.startswith("slidewire: SETTINGS_INVALID: REMAP_SIGTERM")
    assert said.stderr.count("\n") == 1
    del slidewire.environment["REMAP_SIGTERM"]
    worker = slidewire.start("worker")
    slidewire.wait_for(job)
    fault.is_over()
    assert worker.terminate() == 0, worker.log
    assert_sound(slidewire, {job: golden[0]})
