"""The whole intake under faults: a slide that arrives is embedded, once, whatever is killed, lost or repeated."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.faults.conftest import Fault
from tests.services.command import Slidewire
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.orthanc import Orthanc
from tests.services.pacs import renamed
from tests.services.ports import wait_until
from tests.services.scanner import laboratory
from tests.services.slides import SlideOnDisk
from tests.services.watched import Watched, watched

_SUBMITTED = "submitted"

# Every place that a slide comes by on its way in, and at which visit it does.
_PLACES = (
    ("watch.open.before_commit", 1),
    ("watch.open.after_commit", 1),
    ("watch.fetched", 1),
    ("watch.fetched", 2),
    ("watch.read.before_commit", 1),
    ("watch.read.after_commit", 1),
    ("watch.read.before_commit", 2),
    ("watch.read.after_commit", 2),
    ("watch.searched.before_commit", 1),
    ("watch.searched.after_commit", 1),
    ("arrival.submit.before_commit", 1),
    ("arrival.submit.after_commit", 1),
)


@pytest.fixture
def slides(cmu_slide: SlideOnDisk, tmp_path: Path) -> list[SlideOnDisk]:
    """Give three slides with UIDs of their own."""
    return [renamed(cmu_slide, tmp_path / f"slide-{number}") for number in range(3)]


def assert_embedded_once(site: Watched, slides: list[SlideOnDisk]) -> None:
    """Wait until each slide has been annotated; then see that each was once, and that there is one job for each."""
    for slide in slides:
        site.embedded(slide)
        assert site.becomes(slide, _SUBMITTED)["job_id"]
    assert_done(site, len(slides))


def assert_done(site: Watched, jobs: int) -> None:
    """Wait until no job is open; see that there were so many, and that all succeeded."""
    wait_until(lambda: not {"queued", "running"} & {state for _, state in site.jobs()}, "the jobs to end")
    assert [state for _, state in site.jobs()] == ["succeeded"] * jobs


@pytest.mark.faults
@pytest.mark.parametrize(("place", "visit"), _PLACES)
def test_a_watch_killed_at_a_place(
    slidewire: Slidewire, cleared_orthanc: Orthanc, slides: list[SlideOnDisk], place: str, visit: int, fault: Fault
) -> None:
    """A watch that dies anywhere on a slide's way in, and is started again, has it embedded once."""
    fault.is_number(40, "watch killed", f"SIGKILL at {place}")
    site = watched(slidewire, cleared_orthanc)
    dying = site.watch(f"kill={place}:{visit}")
    site.send(slides[0])
    assert dying.wait() == -9
    fault.strikes()
    site.send(slides[1])
    site.watch()
    site.worker()
    assert_embedded_once(site, slides[:2])
    fault.is_over()


class _Changed:
    """Gives the entries of an event log another content, for good: a number keeps what it was given first."""

    def __init__(self, orthanc: Orthanc, change: Callable[[list[Any]], list[Any]]) -> None:
        self._orthanc, self._change = orthanc, change
        self._given: dict[int, Any] = {}

    def __call__(self, asked: Asked) -> Answer | None:
        split = urlsplit(asked.path)
        if not split.path.endswith("/changes"):
            return None
        page = requests.get(f"{self._orthanc.url}/changes?{split.query}", timeout=30.0).json()
        news = [entry for entry in page["Changes"] if entry["Seq"] not in self._given]
        for entry, changed in zip(news, self._change(news), strict=True):
            self._given[entry["Seq"]] = changed and changed | {"Seq": entry["Seq"]}
        page["Changes"] = [found for entry in page["Changes"] if (found := self._given[entry["Seq"]])]
        return Answer(200, json.dumps(page).encode(), {"Content-Type": "application/json"})


def _lost(entries: list[Any]) -> list[Any]:
    """Lose what says that something came."""
    return [None if entry["ChangeType"].startswith("New") else entry for entry in entries]


def _half_lost(entries: list[Any]) -> list[Any]:
    """Lose every other one."""
    return [entry if number % 2 else None for number, entry in enumerate(entries)]


def _reordered(entries: list[Any]) -> list[Any]:
    """Let what came together have come in another order."""
    return random.Random(7).sample(entries, len(entries))


@pytest.mark.faults
@pytest.mark.parametrize("change", [_lost, _half_lost, _reordered], ids=["lost", "half-lost", "reordered"])
def test_events_that_are_changed_on_the_way(
    slidewire: Slidewire, cleared_orthanc: Orthanc, slides: list[SlideOnDisk],
    change: Callable[[list[Any]], list[Any]], fault: Fault,
) -> None:  # fmt: skip
    """Events that are lost or out of order lose no slide and double none."""
    fault.is_number(41, f"events {change.__name__.strip('_').replace('_', ' ')}", "a proxy before /changes")
    with hostile_server(_Changed(cleared_orthanc, change), cleared_orthanc.url) as server:
        site = watched(slidewire, cleared_orthanc, events=server.url, reconcile_s=3.0)
        site.watch()
        site.worker()
        for slide in slides:
            site.send(slide)
            fault.strikes()
        assert_embedded_once(site, slides)
        fault.is_over()


@pytest.mark.faults
def test_all_events_come_again(
    slidewire: Slidewire, cleared_orthanc: Orthanc, slides: list[SlideOnDisk], fault: Fault
) -> None:
    """A ledger that is a backup reads the log from where it stood then: what comes twice is embedded once."""
    fault.is_number(41, "events repeated", "the cursor set back to the beginning")
    site = watched(slidewire, cleared_orthanc)
    watch, _ = site.watch(), site.worker()
    for slide in slides:
        site.send(slide)
    assert_embedded_once(site, slides)
    watch.kill()
    with slidewire.ledger() as ledger:
        ledger.exec_driver_sql("UPDATE watch SET cursor = 0, mark = ''")
        ledger.commit()
    before = {slide.series_uid: site.arrival(slide)["version"] for slide in slides}
    fault.strikes()
    site.watch()
    for slide in slides:
        wait_until(lambda one=slide: site.arrival(one)["version"] > before[one.series_uid], "the events")  # type: ignore[misc]
    assert_embedded_once(site, slides)
    fault.is_over()


@pytest.mark.faults
@pytest.mark.parametrize("overwrite", ["overwrite", "keep"])
def test_a_slide_sent_again(
    slidewire: Slidewire, tmp_path: Path, slides: list[SlideOnDisk], overwrite: str, fault: Fault
) -> None:
    """A slide that the scanner sends twice is embedded once, whether the archive overwrites or keeps."""
    fault.is_number(43, "slide sent twice", f"C-STORE again, the archive set to {overwrite}")
    with laboratory(tmp_path / "laboratory", OverwriteInstances=overwrite == "overwrite") as lab:
        site = watched(slidewire, lab.archive)
        site.watch()
        site.worker()
        lab.scanner.load(slides[0].folder)
        assert lab.send()
        assert_embedded_once(site, slides[:1])
        before = site.arrival(slides[0])["version"]
        assert lab.send()
        fault.strikes()
        if overwrite == "overwrite":
            wait_until(lambda: site.arrival(slides[0])["version"] > before, "the events")
        lab.scanner.load(slides[1].folder)
        assert lab.send()
        assert_embedded_once(site, slides[:2])
        fault.is_over()


@pytest.mark.faults
def test_an_archive_killed_in_the_middle_of_a_transfer(
    slidewire: Slidewire, tmp_path: Path, slides: list[SlideOnDisk], fault: Fault
) -> None:
    """The scanner sends by DIMSE, the archive dies and comes back, the scanner sends the rest: each slide once."""
    fault.is_number(42, "archive killed", "SIGKILL in the middle of C-STORE, restart, sent again")
    with laboratory(tmp_path / "laboratory") as lab:
        site = watched(slidewire, lab.archive, quiet_s=3.0)
        site.watch()
        site.worker()
        for slide in slides:
            lab.scanner.load(slide.folder)
        lab.begin_to_send()
        wait_until(lambda: bool(requests.get(f"{lab.archive.url}/instances", timeout=10.0).json()), "an instance")
        lab.archive.kill()
        fault.strikes()
        lab.archive.start()
        assert lab.send()
        assert_embedded_once(site, slides)
        fault.is_over()


@pytest.mark.faults
def test_an_archive_killed_before_it_says_that_a_series_is_stable(
    slidewire: Slidewire, empty_orthanc: Orthanc, slides: list[SlideOnDisk], fault: Fault
) -> None:
    """StableSeries never comes then; the slide is embedded all the same."""
    fault.is_number(42, "archive killed", "SIGKILL after the last instance, before StableSeries")
    site = watched(slidewire, empty_orthanc, quiet_s=2.0)
    site.watch()
    site.send(slides[0])
    empty_orthanc.kill()
    fault.strikes()
    empty_orthanc.start()
    site.worker()
    assert_embedded_once(site, slides[:1])
    fault.is_over()


@pytest.mark.faults
def test_an_archive_that_was_emptied(
    slidewire: Slidewire, empty_orthanc: Orthanc, slides: list[SlideOnDisk], fault: Fault
) -> None:
    """Another archive under the same address: its log begins anew, its slides are found, none is embedded twice."""
    fault.is_number(44, "event log begins anew", "the archive's storage wiped, slides sent again and new ones")
    site = watched(slidewire, empty_orthanc)
    site.watch()
    site.worker()
    site.send(slides[0])
    site.send(slides[1])
    assert_embedded_once(site, slides[:2])
    empty_orthanc.kill()
    empty_orthanc.wipe()
    fault.strikes()
    empty_orthanc.start()
    site.send(slides[2])
    assert len(site.embedded(slides[2])) == 1
    assert_done(site, 3)
    fault.is_over()


@pytest.mark.faults
def test_an_event_log_that_was_cut(
    slidewire: Slidewire, empty_orthanc: Orthanc, slides: list[SlideOnDisk], fault: Fault
) -> None:
    """Somebody empties the log while nobody watches; what arrived meanwhile is found by the reconciliation."""
    fault.is_number(44, "event log cut off", "DELETE /changes while the watch is down")
    site = watched(slidewire, empty_orthanc)
    watch, _ = site.watch(), site.worker()
    site.send(slides[0])
    assert_embedded_once(site, slides[:1])
    watch.kill()
    site.send(slides[1])
    requests.delete(f"{empty_orthanc.url}/changes", timeout=10.0).raise_for_status()
    fault.strikes()
    site.watch()
    assert_embedded_once(site, slides[:2])
    fault.is_over()


@pytest.mark.faults
def test_two_watches(slidewire: Slidewire, cleared_orthanc: Orthanc, slides: list[SlideOnDisk], fault: Fault) -> None:
    """Two watches of one archive, one of them killed on the way: each slide is embedded once."""
    fault.is_number(45, "two watches of one archive", "and SIGKILL of one")
    site = watched(slidewire, cleared_orthanc)
    first, _, _ = site.watch(), site.watch(), site.worker()
    site.send(slides[0])
    site.send(slides[1])
    assert_embedded_once(site, slides[:2])
    first.kill()
    fault.strikes()
    site.send(slides[2])
    assert_embedded_once(site, slides)
    fault.is_over()


@pytest.mark.faults
def test_levels_that_come_late(
    slidewire: Slidewire, cleared_orthanc: Orthanc, slides: list[SlideOnDisk], fault: Fault
) -> None:
    """Levels that come after the quiet time make another slide: that one is embedded, once, and no set twice."""
    fault.is_number(46, "levels come late", "the coarsest level after the quiet time")
    site = watched(slidewire, cleared_orthanc)
    site.watch()
    site.worker()
    last = len(slides[0].levels) - 1
    there = site.send(slides[0], range(last))
    small = site.becomes(slides[0], _SUBMITTED)["job_id"]
    site.embedded(slides[0])
    site.send(slides[0], [last])
    fault.strikes()
    wait_until(lambda: site.arrival(slides[0])["job_id"] != small, "another job")
    wait_until(lambda: len(there.found("ANN")) == 2, "other annotations")
    site.send(slides[0])  # all of it once more
    site.send(slides[1])
    site.embedded(slides[1])
    assert_done(site, 3)
    assert len(there.found("ANN")) == 2
    fault.is_over()


@pytest.mark.faults
def test_the_finest_level_comes_late(
    slidewire: Slidewire, cleared_orthanc: Orthanc, slides: list[SlideOnDisk], fault: Fault
) -> None:
    """A slide without a level as fine as its rule asks for is waited for, though nothing lacks in the others."""
    fault.is_number(46, "levels come late", "the finest level after the quiet time")
    site = watched(slidewire, cleared_orthanc)
    site.watch()
    site.worker()
    site.send(slides[0], range(1, len(slides[0].levels)))
    assert site.becomes(slides[0], "incomplete")["code"] == "SPACING_TOO_FINE"
    site.send(slides[0], [0])
    fault.strikes()
    assert_embedded_once(site, slides[:1])
    fault.is_over()
