"""What comes into a real Orthanc is an arrival, whatever happens to the archive, its log, the ledger or the watch."""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from connectors.endpoints import Endpoint
from connectors.intake.orthanc import OrthancLog
from connectors.intake.protocol import Place
from tests.services.command import ROOT
from tests.services.orthanc import Orthanc
from tests.services.ports import wait_until
from tests.services.scanner import SmallSeries, holdings, laboratory, small_series, store
from worker.ledger import Ledger
from worker.ledger.arrival_records import Arrival, ArrivalState, Patience
from worker.watch.events import EventPoller

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

_TIMEOUT_S = 60.0
_PATIENCE = Patience(60.0, 3600.0)
_TRANSFER = 40  # series sent while the archive is killed


class Intake:
    """A ledger, and pollers that write into it; what they ask for is counted."""

    def __init__(self, url: str, folder: Path, orthanc: Orthanc) -> None:
        self.ledger, self.orthanc = Ledger(url, folder), orthanc
        self.wakes = 0

    @contextmanager
    def watching(self, pollers: int = 1) -> Iterator[None]:
        """Watch for the length of a block."""
        running = [self.poller() for _ in range(pollers)]
        for poller in running:
            poller.start()
        wait_until(lambda: self.ledger.arrivals.find("pacs") is not None, "the watch to begin")
        try:
            yield
        finally:
            for poller in running:
                poller.stop()

    def poller(self) -> EventPoller:
        """Return a poller of its own connections and memory."""
        log = OrthancLog(Endpoint(self.orthanc.dicomweb, "pacs", orthanc_url=self.orthanc.url))
        return EventPoller(log, self.ledger.arrivals, "pacs", _PATIENCE, self._wake, 0.1)

    @property
    def arrived(self) -> dict[tuple[str, str], Arrival]:
        """All arrivals by study and series UID."""
        found = [one for state in ArrivalState for one in self.ledger.arrivals.items("pacs", state)]
        arrivals = {(one.study_uid, one.series_uid): one for one in found}
        assert len(arrivals) == len(found)
        return arrivals

    def wait_for_all(self) -> None:
        """Wait until each series of the archive is an arrival of as many instances."""

        def there() -> bool:
            arrived = self.arrived
            return all(
                key in arrived and arrived[key].instances == held for key, held in holdings(self.orthanc).items()
            )

        wait_until(there, "every series in the archive to have arrived", 60.0)

    def _wake(self) -> None:
        self.wakes += 1


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name an empty database."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@contextmanager
def opened(url: str, folder: Path, orthanc: Orthanc) -> Iterator[Intake]:
    """Open an intake whose watch begins at the head of the log as it is now."""
    intake = Intake(url, folder / "checkpoints", orthanc)
    with intake.ledger, intake.watching():
        pass
    with intake.ledger:
        yield intake


@pytest.fixture
def intake(tmp_path: Path, empty_orthanc: Orthanc) -> Iterator[Intake]:
    """Give an intake of an archive of its own, which is empty."""
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, empty_orthanc) as given:
        yield given


def some(number: int, instances: int = 1) -> list[SmallSeries]:
    """Make series up."""
    return [small_series(instances) for _ in range(number)]


def keys(series: list[SmallSeries]) -> set[tuple[str, str]]:
    """Return the study and series UIDs."""
    return {one.key for one in series}


def restarted(orthanc: Orthanc) -> None:
    """Kill an Orthanc and start it again."""
    orthanc.kill()
    orthanc.start()


def test_archive_killed_while_slides_are_sent(tmp_path: Path, ledger_url: str) -> None:
    """SIGKILL in the middle of transfers, three times; the scanner sends again what did not go through."""
    chance = random.Random(7)
    with laboratory(tmp_path) as both, opened(ledger_url, tmp_path, both.archive) as intake, intake.watching():
        slides = some(_TRANSFER, 3)
        store(both.scanner, *slides, padding=200_000)
        cut = 0
        for _ in range(3):
            had = len(holdings(both.archive))
            both.begin_to_send()
            wait_until(lambda had=had: len(holdings(both.archive)) > had or had == _TRANSFER, "the transfer")  # type: ignore[misc]
            time.sleep(chance.uniform(0.0, 0.3))  # the fault itself: any moment of the transfer
            both.archive.kill()
            both.archive.start()
            cut += sum(holdings(both.archive).values()) < 3 * _TRANSFER
        assert cut, "no transfer was cut off"
        wait_until(both.send, "all to have gone through")
        assert holdings(both.archive) == {one.key: 3 for one in slides}
        intake.wait_for_all()
        assert set(intake.arrived) == keys(slides)
        assert intake.wakes == 0


def test_archive_killed_before_a_series_is_stable(tmp_path: Path) -> None:
    """The event that the series is stable never comes; that its instances came is enough."""
    with (
        laboratory(tmp_path, StableAge=3) as both,
        opened(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, both.archive) as intake,
    ):
        slides = some(3, 2)
        store(both.scanner, *slides)
        assert both.send()
        restarted(both.archive)
        with intake.watching():
            intake.wait_for_all()
        assert set(intake.arrived) == keys(slides)
        assert {one.calling_aet for one in intake.arrived.values()} == {"SCANNER"}
        changes = requests.get(f"{both.archive.url}/changes?limit=1000", timeout=_TIMEOUT_S).json()["Changes"]
        assert "StableSeries" not in {one["ChangeType"] for one in changes}


@pytest.mark.parametrize("overwrites", [False, True])
def test_slide_that_is_sent_twice(tmp_path: Path, *, overwrites: bool) -> None:
    """It is looked at again if the archive has taken the second one, and is one arrival either way."""
    with (
        laboratory(tmp_path, OverwriteInstances=overwrites) as both,
        opened(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path, both.archive) as intake,
        intake.watching(),
    ):
        [slide] = some(1, 2)
        store(both.scanner, slide)
        assert both.send()
        intake.wait_for_all()
        first = intake.arrived[slide.key]
        assert both.send()
        marker = small_series()
        store(both.archive, marker)
        wait_until(lambda: marker.key in intake.arrived, "what came after it")
        second = intake.arrived[slide.key]
        assert (second.serial, second.instances) == (first.serial, 2)
        assert (second.version > first.version) == overwrites
        assert set(intake.arrived) == {slide.key, marker.key}


def test_log_emptied_while_nobody_watches(intake: Intake) -> None:
    """What the log had is gone: the archive is searched, and what comes after is read."""
    store(intake.orthanc, *some(3))
    requests.delete(f"{intake.orthanc.url}/changes", timeout=_TIMEOUT_S).raise_for_status()
    later = some(2)
    with intake.watching():
        store(intake.orthanc, *later)
        wait_until(lambda: keys(later) <= set(intake.arrived), "what came after")
        assert intake.wakes == 1


def test_storage_lost_while_it_is_watched(intake: Intake) -> None:
    """Another log under the same address, shorter at first: all that it has arrives."""
    with intake.watching():
        before, after = some(5), some(4)
        store(intake.orthanc, *before)
        intake.wait_for_all()
        intake.orthanc.kill()
        intake.orthanc.wipe()
        intake.orthanc.start()
        store(intake.orthanc, *after)
        intake.wait_for_all()
        assert set(intake.arrived) == keys(before) | keys(after)
        assert intake.wakes == 1


def test_storage_lost_while_nobody_watches(intake: Intake) -> None:
    """Another log, longer than the one before: its entry under the same number tells."""
    with intake.watching():
        store(intake.orthanc, *some(2))
        intake.wait_for_all()
    intake.orthanc.kill()
    intake.orthanc.wipe()
    intake.orthanc.start()
    after = some(12)
    store(intake.orthanc, *after)
    with intake.watching():
        intake.wait_for_all()
        assert keys(after) <= set(intake.arrived)
        assert intake.wakes == 1


def test_ledger_brought_back_from_a_backup(tmp_path: Path, empty_orthanc: Orthanc) -> None:
    """The place is an older one: what came since is read again, and each series is one arrival."""
    url, backup = f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "backup.db"
    with opened(url, tmp_path, empty_orthanc) as intake, intake.watching():
        store(empty_orthanc, *some(3))
        intake.wait_for_all()
    shutil.copy(tmp_path / "ledger.db", backup)
    with opened(url, tmp_path, empty_orthanc) as intake, intake.watching():
        store(empty_orthanc, *some(3))
        intake.wait_for_all()
    shutil.copy(backup, tmp_path / "ledger.db")
    with opened(url, tmp_path, empty_orthanc) as intake, intake.watching():
        intake.wait_for_all()
        assert len(intake.arrived) == 6
        assert intake.wakes == 0


def test_five_hundred_slides_as_fast_as_they_come(tmp_path: Path, postgresql_url: str) -> None:
    """With two watches at once: none is lost, and none arrives twice."""
    with (
        laboratory(tmp_path, SyncStorageArea=False) as both,  # a disk that keeps up with the scanner
        opened(postgresql_url, tmp_path, both.archive) as intake,
    ):
        slides = some(500)
        store(both.scanner, *slides)
        with intake.watching(pollers=2):
            assert both.send()
            intake.wait_for_all()
        assert set(intake.arrived) == keys(slides)
        # Each event counts once: that of the instance, and that of the series if it came with another page.
        assert {one.version for one in intake.arrived.values()} <= {1, 2}


_KILLED = """
import os, signal, sys
from pathlib import Path
from connectors.endpoints import Endpoint
from connectors.intake.orthanc import OrthancLog
from worker import killpoint
from worker.ledger import Ledger
from worker.ledger.arrival_records import Patience
from worker.watch.events import EventPoller
point, url, folder, orthanc = sys.argv[1:]
if os.fork() == 0:
    killpoint.arm(point)
    log = OrthancLog(Endpoint(orthanc + "/dicom-web", "pacs", orthanc_url=orthanc))
    EventPoller(log, Ledger(url, Path(folder)).arrivals, "pacs", Patience(60.0, 3600.0), print, 0.1).look()
    os._exit(0)
_, status = os.wait()
assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
"""


@pytest.mark.parametrize("point", ["watch.fetched", "watch.read.before_commit", "watch.read.after_commit"])
def test_watch_killed_between_reading_and_writing(
    tmp_path: Path, empty_orthanc: Orthanc, ledger_url: str, point: str
) -> None:
    """What was read and not written is read again; what was written counts once."""
    with opened(ledger_url, tmp_path, empty_orthanc) as intake:
        slides = some(3, 2)
        store(empty_orthanc, *slides)
        command = [sys.executable, "-c", _KILLED, point, ledger_url, str(tmp_path), empty_orthanc.url]
        subprocess.run(command, check=True, cwd=ROOT, timeout=60.0)
        written = point.endswith("after_commit")
        assert len(intake.arrived) == (3 if written else 0)
        assert (place := intake.ledger.arrivals.find("pacs")) is not None
        assert (place.place == Place()) != written
        with intake.watching():
            intake.wait_for_all()
        assert set(intake.arrived) == keys(slides)
        assert {one.version for one in intake.arrived.values()} == {1}


def test_watch_killed_on_its_way_again_and_again(tmp_path: Path, empty_orthanc: Orthanc) -> None:
    """Slides come while watches are killed at any place; the last one finds everything."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    with opened(url, tmp_path, empty_orthanc) as intake:
        slides = list[SmallSeries]()
        for point in ("watch.fetched", "watch.read.before_commit", "watch.read.after_commit") * 2:
            slides += (more := some(2))
            store(empty_orthanc, *more)
            command = [sys.executable, "-c", _KILLED, point, url, str(tmp_path), empty_orthanc.url]
            subprocess.run(command, check=True, cwd=ROOT, timeout=60.0)
        with intake.watching():
            intake.wait_for_all()
        assert set(intake.arrived) == keys(slides)
