"""The promise as it is printed, with the settings as they come: a killed worker's job goes on within 90 s."""

import pytest

from tests.faults.conftest import Fault
from tests.faults.invariants import assert_sound, digests
from tests.services.command import Slidewire
from tests.services.ports import wait_until
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--stride-px", "48", "--out", "out")
_PROMISED_S = 90.0
_CLAIMS = "SELECT epoch FROM shard WHERE kind = 'embed' AND epoch > 1"
_KEPT = "SELECT sum(patches) FROM checkpoint"


@pytest.mark.parametrize("over", ["ledger", "redis"])
def test_a_killed_workers_job_goes_on_within_90_s(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, own_redis: RedisServer, fault: Fault, over: str
) -> None:
    """Another worker, running already, claims the shard again and computes only what is in no checkpoint."""
    fault.is_number(1, "kill -9 of a worker, settings as they come (lease 60 s)", f"SIGKILL, woken by {over}")
    quiet = slidewire.beside("quiet")
    golden = digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT).json["job"]])
    slidewire.environment |= {"SLIDEWIRE_CHECKPOINT_S": "0.2", "SLIDEWIRE_POLL_S": "1"}
    if over == "redis":
        slidewire.environment["SLIDEWIRE_BROKER_URL"] = own_redis.url
    victim = slidewire.start("worker", armed=["slow=:0.3"])
    job = slidewire.done("submit", cmu_slide.folder, *_WHAT).json["job"]
    wait_until(lambda: slidewire.rows(_KEPT) != [(None,)], "a checkpoint")
    successor = slidewire.start("worker")
    [(kept,)] = slidewire.rows(_KEPT)
    victim.kill()
    fault.strikes()
    wait_until(lambda: bool(slidewire.rows(_CLAIMS)), "somebody to go on", _PROMISED_S)
    fault.is_over()
    done = slidewire.wait_for(job)
    assert successor.terminate() == 0, successor.log
    assert 0 < kept < done["patches"]
    assert_sound(slidewire, {job: golden[0]})
