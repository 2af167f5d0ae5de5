"""A GPU that fails: the shard goes back, the process ends with 75, and the next one goes on."""

import json
from typing import Any

import pytest

from tests.services.command import Slidewire
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk
from worker.heartbeat import EXIT_HUNG

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")
# For whoever counts an attempt of a shard, as if the database were gone at that moment.
_UNAVAILABLE = "CREATE TRIGGER gone BEFORE UPDATE OF attempts ON shard BEGIN INSERT INTO gone VALUES (1); END"
_AT_ONCE = "UPDATE shard SET not_before = 0 WHERE state = 'pending'"


def _submit(slidewire: Slidewire, slide: SlideOnDisk) -> str:
    # One batch a shard: what was done before the device was lost is done.
    slidewire.environment["SLIDEWIRE_SHARD_PATCHES"] = "64"
    return str(slidewire.done("submit", slide.folder, *_WHAT).json["job"])


def _ends(slidewire: Slidewire, job: str) -> list[dict[str, Any]]:
    """Return how leases of a job ended with an error."""
    return [one for one in slidewire.job(job)["history"] if one["code"]]


def _wait_no_longer(slidewire: Slidewire) -> None:
    """Let the wait before the next attempt be over."""
    with slidewire.ledger() as connection:
        connection.exec_driver_sql(_AT_ONCE)
        connection.commit()


def _given_back(slidewire: Slidewire, job: str) -> None:
    """Check that one shard went back with one attempt used, and that nothing else befell the job."""
    [lost] = _ends(slidewire, job)
    assert (lost["event"], lost["code"]) == ("failed", "DEVICE_LOST"), lost
    rows = slidewire.rows("SELECT state, attempts, crashes FROM shard WHERE attempts > 0 OR crashes > 0")
    assert [tuple(row) for row in rows] == [("pending", 1, 0)]
    assert slidewire.job(job)["state"] == "running"


def _says_why(log: str) -> None:
    assert "slidewire: DEVICE_LOST: The GPU failed" in log
    assert "Traceback" not in log


def test_a_polling_worker_ends_and_the_next_goes_on(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """The shard is given back with an attempt used, status 75; a second worker finishes the job."""
    job = _submit(slidewire, cmu_slide)
    said = slidewire("worker", "--drain", armed=["encoder=lost:3"])
    assert said.rc == EXIT_HUNG, said
    _says_why(said.stderr)
    _given_back(slidewire, job)
    assert slidewire.rows("SELECT count(*) FROM shard WHERE state = 'done'")[0][0] == 1
    _wait_no_longer(slidewire)
    assert slidewire("worker", "--drain").rc == 0
    done = slidewire.job(job)
    assert (done["state"], done["patches_done"]) == ("succeeded", done["patches"])


@pytest.mark.faults
def test_a_worker_that_answers_the_doorbell_ends_too(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, redis_server: RedisServer
) -> None:
    """Its message may be lost with it: the next worker finds the shard in the ledger."""
    redis_server.flush()
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = redis_server.url
    job = _submit(slidewire, cmu_slide)
    worker = slidewire.start("worker", armed=["encoder=lost:3"])
    assert worker.wait() == EXIT_HUNG, worker.log
    _says_why(worker.log)
    _given_back(slidewire, job)
    _wait_no_longer(slidewire)
    slidewire.start("worker")
    done = slidewire.wait_for(job)
    assert done["patches_done"] == done["patches"]


@pytest.mark.faults
def test_a_ledger_that_does_not_answer_holds_nobody_back(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """A worker with a lost device ends though it cannot give the shard back; the lease runs out by itself."""
    slidewire.environment["SLIDEWIRE_LEASE_S"] = "30"
    job = _submit(slidewire, cmu_slide)
    with slidewire.ledger() as connection:
        connection.exec_driver_sql(_UNAVAILABLE)
        connection.commit()
    said = slidewire("worker", "--drain", armed=["encoder=lost"])
    assert said.rc == EXIT_HUNG, said
    _says_why(said.stderr)
    assert "the lease runs out by itself" in said.stderr
    assert _ends(slidewire, job) == []


@pytest.mark.parametrize("show", [("--json",), ()])
def test_embed_reports_it(slidewire: Slidewire, cmu_slide: SlideOnDisk, show: tuple[str, ...]) -> None:
    """`slidewire embed` has nobody to leave the shard to: an error, status 1; asked again, it goes on."""
    said = slidewire("embed", cmu_slide.folder, *_WHAT, *show, armed=["encoder=lost"])
    assert said.rc == 1, said
    _says_why(said.stderr)
    if show:
        assert json.loads(said.stdout)["error"]["code"] == "DEVICE_LOST"
    assert slidewire("embed", cmu_slide.folder, *_WHAT).rc == 0
