"""A worker whose clock is an hour wrong (fault 25): the ledger goes by the database's clock, so nobody notices.

SQLite has no server and so no clock of its own: all its workers are on one host and share the host's. A clock that is
wrong in one of them alone can cost work there, never a result.
"""

import json
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.conftest import Fault
from tests.faults.fleet import Fleet, settled
from tests.faults.invariants import assert_sound, digests
from tests.services.command import Running, Slidewire
from tests.services.orthanc import Orthanc
from tests.services.pacs import renamed
from tests.services.ports import wait_until
from tests.services.process import unavailable
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess
from tests.services.watched import watched

pytestmark = pytest.mark.faults

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out")
_LEASE_S = 4.0


@dataclass(frozen=True)
class _Elsewhen:
    """Another time, and the library that gives it to a process."""

    hours: int
    library: Path


@pytest.fixture(params=[1, -1])
def elsewhen(request: pytest.FixtureRequest) -> _Elsewhen:
    """Give an hour ahead, and an hour behind."""
    places = (*Path("/usr/lib").glob("*/faketime"), Path("/usr/local/lib/faketime"))
    libraries = [folder / "libfaketimeMT.so.1" for folder in places]
    found = next((library for library in libraries if library.exists()), None)
    if found is None:
        unavailable("libfaketime is not installed: apt-get install libfaketime.")
    return _Elsewhen(request.param, found)


@pytest.fixture
def golden(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> tuple[str, ...]:
    """Embed the slide without trouble; give the digests of its outputs. Batches are small from here on."""
    slidewire.environment["SLIDEWIRE_BATCH_SIZE"] = "4"
    quiet = slidewire.beside("quiet", SLIDEWIRE_LEDGER_URL="")
    return digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT, "out").json["job"]])[0]


def _start(slidewire: Slidewire, elsewhen: _Elsewhen, *armed: str, command: tuple[str, ...] = ("worker",)) -> Running:
    """Start a command in another time, with everybody's monotonic clock; it must not sleep: libfaketime fails there."""
    other = {
        "LD_PRELOAD": str(elsewhen.library), "FAKETIME": f"{elsewhen.hours:+d}h", "NO_FAKE_STAT": "1",
        "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    here = dict(slidewire.environment)
    slidewire.environment |= other
    try:
        return slidewire.start(*command, armed=armed)
    finally:
        slidewire.environment = here


def _assert_wrong(worker: Running, hours: int) -> None:
    """See in a worker's own log that its clock is wrong."""
    last = json.loads(worker.log.splitlines()[-1])["timestamp"]
    away = datetime.fromisoformat(last) - datetime.now(UTC)
    assert abs(away - timedelta(hours=hours)) < timedelta(minutes=10), away


def _submit(slidewire: Slidewire, slide: SlideOnDisk, folder: str) -> str:
    return str(slidewire.done("submit", slide.folder, *_WHAT, folder).json["job"])


def test_a_lease_is_not_taken_early(
    on_postgresql: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    processes: list[WarmProcess],
    elsewhen: _Elsewhen,
    fault: Fault,
) -> None:
    """A worker in another hour looks for leases that ran out, works, and leaves the other one's lease alone."""
    fault.is_number(25, "clock of one worker wrong by an hour", f"libfaketime {elsewhen.hours:+d} h, postgresql")
    slidewire = on_postgresql
    slidewire.environment["SLIDEWIRE_LEASE_S"] = "120"
    first = _submit(slidewire, cmu_slide, "first")
    with Fleet(slidewire, processes[:1], ["slow=:0.1"]) as fleet:
        wait_until(lambda: slidewire.rows("SELECT state FROM shard") == [("leased",)], "the claim", 60.0)
        fleet.pause()
        other = _start(slidewire, elsewhen)
        fault.strikes()
        second = _submit(slidewire, cmu_slide, "second")
        slidewire.wait_for(second, timeout_s=100.0)
        assert slidewire.rows(f"SELECT state, epoch FROM shard WHERE job_id = '{first}'") == [("leased", 1)]
        fleet.go_on()
        slidewire.wait_for(first)
        fault.is_over()
        _assert_wrong(other, elsewhen.hours)
        assert other.terminate() == 0, other.log
    events = slidewire.rows("SELECT DISTINCT event FROM attempt ORDER BY event")
    assert events == [("claimed",), ("completed",)]
    assert_sound(slidewire, {first: golden, second: golden})


def test_a_lease_is_not_kept_for_ever(
    on_postgresql: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    processes: list[WarmProcess],
    elsewhen: _Elsewhen,
    fault: Fault,
) -> None:
    """A worker in another hour is killed: its lease runs out after a lease's time, neither at once nor in an hour."""
    fault.is_number(
        25, "clock of one worker wrong by an hour", f"libfaketime {elsewhen.hours:+d} h, postgresql, then kill -9"
    )
    slidewire = on_postgresql
    slidewire.environment["SLIDEWIRE_LEASE_S"] = str(_LEASE_S)
    job = _submit(slidewire, cmu_slide, "out")
    other = _start(slidewire, elsewhen, "kill=claim.after_commit")
    assert other.wait() == -signal.SIGKILL, other.log
    fault.strikes()
    with Fleet(slidewire, processes[:1]):
        slidewire.wait_for(job)
        fault.is_over()
    [(claimed, expired)] = slidewire.rows(
        "SELECT min(CASE event WHEN 'claimed' THEN at END), min(CASE event WHEN 'expired' THEN at END) FROM attempt"
    )
    assert _LEASE_S <= expired - claimed < _LEASE_S + 15.0
    assert_sound(slidewire, {job: golden})


def test_a_watch_in_another_hour(
    on_postgresql: Slidewire,
    cleared_orthanc: Orthanc,
    cmu_slide: SlideOnDisk,
    tmp_path: Path,
    elsewhen: _Elsewhen,
    fault: Fault,
) -> None:
    """A watch whose clock is wrong waits for as long as another: no slide is early, or late, or comes twice."""
    fault.is_number(47, "clock of the watch wrong by an hour", f"libfaketime {elsewhen.hours:+d} h, postgresql")
    site = watched(on_postgresql, cleared_orthanc, quiet_s=_LEASE_S)
    slide = renamed(cmu_slide, tmp_path / "slide")
    other = _start(on_postgresql, elsewhen, command=("watch", "pacs"))
    wait_until(lambda: "archive searched" in other.log, "the watch", 60.0)
    fault.strikes()
    site.send(slide)
    job = site.becomes(slide, "submitted")["job_id"]
    columns = "changed_at, (SELECT created_at FROM job), deadline_at"
    [(changed, submitted, deadline)] = on_postgresql.rows(f"SELECT {columns} FROM arrival")
    assert _LEASE_S <= submitted - changed < _LEASE_S + 15.0
    assert deadline - changed == pytest.approx(24 * 3600, abs=60.0)
    site.worker()
    on_postgresql.wait_for(job)
    assert len(site.embedded(slide)) == 1
    fault.is_over()
    _assert_wrong(other, elsewhen.hours)
    assert other.terminate() == 0, other.log


def test_two_clocks_on_sqlite_cost_no_result(
    slidewire: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    processes: list[WarmProcess],
    elsewhen: _Elsewhen,
    fault: Fault,
) -> None:
    """Which no host has: work may be lost to the worker that is ahead, but every job ends with its bytes, once."""
    fault.is_number(25, "clock of one worker wrong by an hour", f"libfaketime {elsewhen.hours:+d} h, sqlite")
    jobs = [_submit(slidewire, cmu_slide, f"out-{number}") for number in range(3)]
    with Fleet(slidewire, processes[:1], ["slow=:0.02"]):
        other = _start(slidewire, elsewhen)
        fault.strikes()
        wait_until(settled(slidewire), "every job to end", 120.0)
        fault.is_over()
        other.terminate()
    assert_sound(slidewire, dict.fromkeys(jobs, golden))
