"""Workers that are asked to stop, or that stand still longer than their lease lasts (faults 3 and 4)."""

import time

import pytest

from tests.faults.conftest import Fault
from tests.faults.fleet import Fleet
from tests.faults.invariants import assert_sound, digests
from tests.faults.passing import leases_run_out
from tests.services.command import Slidewire
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")
_MANY_BATCHES = {"SLIDEWIRE_BATCH_SIZE": "8", "SLIDEWIRE_CHECKPOINT_S": "0.0001"}
_BATCH_S = 0.4
_SLOW = f"slow=:{_BATCH_S}"


@pytest.fixture
def golden(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> tuple[str, ...]:
    """Embed the slide without trouble; give the digests of its outputs. Batches are small from here on."""
    slidewire.environment |= _MANY_BATCHES
    quiet = slidewire.beside("quiet", SLIDEWIRE_LEDGER_URL="")
    return digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT).json["job"]])[0]


def _submit(slidewire: Slidewire, slide: SlideOnDisk) -> str:
    return str(slidewire.done("submit", slide.folder, *_WHAT).json["job"])


def _at_it(slidewire: Slidewire) -> None:
    wait_until(lambda: bool(slidewire.rows("SELECT name FROM checkpoint")), "a checkpoint", 60.0)


def _told(slidewire: Slidewire) -> list[object]:
    """Return all that the ledger says, and the bytes of all outputs and checkpoints."""
    said = [
        slidewire.rows(f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("job", "shard", "checkpoint", "attempt")
    ]
    places = (slidewire.folder / "out", slidewire.folder / "state" / "checkpoints")
    files = [(path, path.read_bytes()) for place in places for path in sorted(place.rglob("*")) if path.is_file()]
    return [said, files]


def test_sigterm_in_a_batch(
    slidewire: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    processes: list[WarmProcess],
    fault: Fault,
) -> None:
    """The worker ends after the batch in hand, with a checkpoint, and no attempt is used."""
    fault.is_number(3, "SIGTERM in the middle of a batch", "SIGTERM")
    job = _submit(slidewire, cmu_slide)
    with Fleet(slidewire, processes[:1], [_SLOW]) as fleet:
        _at_it(slidewire)
        fault.strikes()
        since = time.monotonic()
        assert fleet.stop() == [0]
    assert time.monotonic() - since < 5.0 + _BATCH_S
    assert slidewire.rows("SELECT state, attempts, crashes FROM shard") == [("pending", 0, 0)]
    [(kept,)] = slidewire.rows("SELECT sum(patches) FROM checkpoint")
    assert 0 < kept < slidewire.job(job)["patches"]
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert [one["event"] for one in slidewire.job(job)["history"]][:2] == ["claimed", "released"]
    assert_sound(slidewire, {job: golden})


@pytest.mark.faults
def test_a_worker_that_stood_still_writes_nothing(
    on_either: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    processes: list[WarmProcess],
    fault: Fault,
) -> None:
    """Another one has done the job meanwhile; when it goes on, nothing changes but its own log, and it lives on."""
    slidewire = on_either
    fault.is_number(4, "SIGSTOP for longer than the lease, then SIGCONT", "in the middle of a shard")
    job = _submit(slidewire, cmu_slide)
    with Fleet(slidewire, processes[:1], [_SLOW]) as fleet:
        _at_it(slidewire)
        fleet.pause()
        fault.strikes()
        leases_run_out(slidewire)
        assert slidewire("worker", "--drain").rc == 0
        fault.is_over()
        before = _told(slidewire)
        fleet.go_on()
        wait_until(lambda: "lease lost" in fleet.log(), "the stale worker to hear of it", 60.0)
    assert _told(slidewire) == before
    assert_sound(slidewire, {job: golden})


@pytest.mark.faults
@pytest.mark.parametrize("point", ["publish.before_write", "publish.after_write"])
def test_a_worker_that_stood_still_while_it_published_publishes_nothing(
    slidewire: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    processes: list[WarmProcess],
    fault: Fault,
    point: str,
) -> None:
    """What it may still write are the same bytes under the same name; the ledger takes its word no more."""
    fault.is_number(4, "SIGSTOP for longer than the lease, then SIGCONT", f"at {point}")
    job = _submit(slidewire, cmu_slide)
    with Fleet(slidewire, processes[:1], [f"stop={point}"]) as fleet:
        fleet.has_stopped()
        fault.strikes()
        leases_run_out(slidewire)
        assert slidewire("worker", "--drain").rc == 0
        fault.is_over()
        before = _told(slidewire)
        fleet.go_on()
        wait_until(lambda: "lease lost" in fleet.log(), "the stale worker to hear of it", 60.0)
    assert _told(slidewire) == before
    assert [one["event"] for one in slidewire.job(job)["history"]].count("completed") == 2
    assert_sound(slidewire, {job: golden})


@pytest.mark.faults
def test_a_worker_that_stands_still_in_a_transaction_holds_up_nobody(
    slidewire: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    processes: list[WarmProcess],
    postgresql_url: str,
    fault: Fault,
) -> None:
    """PostgreSQL ends its transaction (after a minute; here a second); when it goes on it connects anew."""
    fault.is_number(4, "SIGSTOP for longer than the lease, then SIGCONT", "inside a transaction, postgresql")
    options = "?options=-c%20idle_in_transaction_session_timeout%3D1s"
    slidewire.environment["SLIDEWIRE_LEDGER_URL"] = postgresql_url + options
    job = _submit(slidewire, cmu_slide)
    with Fleet(slidewire, processes[:1], ["stop=complete.before_commit"]) as fleet:
        fleet.has_stopped()
        fault.strikes()
        assert slidewire("worker", "--drain").rc == 0
        fault.is_over()
        fleet.go_on()
        wait_until(lambda: "LEDGER_UNAVAILABLE" in fleet.log(), "the worker to see that it was cut off", 20.0)
        assert_sound(slidewire, {job: golden})
        second = str(slidewire.done("submit", cmu_slide.folder, *_WHAT[:-1], "second").json["job"])
        assert slidewire.wait_for(second)["outputs"][0]["sha256"] == golden[0]
