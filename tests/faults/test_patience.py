"""A job does not wait for a dead server for ever, and is whole if it is tried again when the server is back."""

import pytest

from tests.faults.conftest import Fault
from tests.faults.invariants import assert_sound, digests
from tests.faults.passing import nothing_waits, pauses_are_over, waited_for_server
from tests.services.command import Running, Slidewire
from tests.services.fault_proxy import fault_proxy
from tests.services.pacs import SlideInPacs
from tests.services.ports import wait_until

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")
_PATIENCE_H = 48


def _tried_again(slidewire: Slidewire, worker: Running) -> None:
    """Wait until the worker has asked the server once more, in vain."""
    query = "SELECT count(*) FROM attempt WHERE event = 'deferred'"
    [(before,)] = slidewire.rows(query)

    def again() -> bool:
        assert worker.process.poll() is None, worker.log
        nothing_waits(slidewire)
        return bool(slidewire.rows(query)[0][0] > before)

    wait_until(again, "another try", 60.0)


@pytest.mark.faults
def test_a_server_that_never_comes_back(slidewire: Slidewire, pacs_slide: SlideInPacs, fault: Fault) -> None:
    """Within the patience the job waits and uses no attempt, after it the job fails with what the server last did."""
    fault.is_number(14, "PACS: nobody listens for longer than the patience", "by a proxy; two days moved in the ledger")
    fault.outcome = "ENDPOINT_UNREACHABLE"
    quiet = slidewire.beside("quiet")
    golden = digests(quiet, [quiet.done("embed", pacs_slide.url, *_WHAT).json["job"]])[0]
    with fault_proxy(pacs_slide.orthanc.dicomweb) as proxy:
        slidewire.environment |= {
            "SLIDEWIRE_ENDPOINTS__PACS__URL": proxy.url, "SLIDEWIRE_PATIENCE_H": str(_PATIENCE_H),
        }  # fmt: skip
        job = str(slidewire.done("submit", pacs_slide.source, *_WHAT).json["job"])
        proxy.stop()
        fault.strikes()
        worker = slidewire.start("worker")
        _tried_again(slidewire, worker)
        assert waited_for_server(slidewire, _PATIENCE_H - 1) == 1
        _tried_again(slidewire, worker)
        assert slidewire.job(job)["state"] == "running"
        assert waited_for_server(slidewire, 2) == 1, "the wait counts from its beginning"
        _tried_again(slidewire, worker)
        failed = slidewire.wait_for(job, "failed")
        fault.is_over()
        assert failed["error"]["code"] == "ENDPOINT_UNREACHABLE"
        assert failed["error"]["message"].startswith(f"Given up after waiting {_PATIENCE_H + 1} h for the server: ")
        assert slidewire.rows("SELECT attempts, crashes, owner FROM shard") == [(0, 0, "")]
        assert not (slidewire.folder / "out").exists()
        assert_sound(slidewire)
        proxy.start()
        pauses_are_over(slidewire)
        slidewire.done("jobs", "retry", job)
        slidewire.wait_for(job)
        assert worker.terminate() == 0, worker.log
    assert_sound(slidewire, {job: golden})
