"""A real Orthanc's event log: read as it is, cut off, repeated, and begun anew."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from connectors.endpoints import Endpoint
from connectors.intake.orthanc import OrthancLog
from connectors.intake.protocol import Events, Place, Sighting
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs
from tests.services.ports import wait_until
from tests.services.scanner import laboratory, small_series, store

_TIMEOUT_S = 30.0


@pytest.fixture
def log(orthanc: Orthanc) -> Iterator[OrthancLog]:
    """Open the log of the session's Orthanc."""
    opened = open_log(orthanc)
    yield opened
    opened.close()


def open_log(orthanc: Orthanc) -> OrthancLog:
    """Open the log of an Orthanc."""
    return OrthancLog(Endpoint(orthanc.dicomweb, "pacs", orthanc_url=orthanc.url))


def pages(log: OrthancLog, after: Place) -> list[Events]:
    """Read to the end of the log."""
    found = [log.read(after)]
    while found[-1].more:
        found.append(log.read(found[-1].after))
    return found


def changed(events: list[Events]) -> dict[str, int]:
    """Return the series that instances came for, with their number of instances."""
    return {one.series_uid: one.instances for page in events for one in page.series if one.changed}


def delete(orthanc: Orthanc, uid: str, kind: str = "series") -> None:
    """Delete what has a UID."""
    [found] = requests.post(f"{orthanc.url}/tools/lookup", data=uid, timeout=_TIMEOUT_S).json()
    requests.delete(f"{orthanc.url}/{kind}/{found['ID']}", timeout=_TIMEOUT_S).raise_for_status()


def test_what_comes_is_seen_from_the_head_on(orthanc: Orthanc, log: OrthancLog) -> None:
    """A slide that arrives after the start, whole, and once; what had been there before is not."""
    store(orthanc, small_series())
    head = log.head()
    assert log.read(head) == Events(head)
    one, other = small_series(3), small_series()
    store(orthanc, one, other)
    events = pages(log, head)
    assert changed(events) == {one.series_uid: 3, other.series_uid: 1}
    assert {page.study_uid for page in events[0].series} == {one.study_uid, other.study_uid}
    later = events[-1].after
    assert changed(pages(log, later)) == {}
    assert changed(pages(log, head)) == changed(events)


def test_real_slide_is_seen(pacs_slide: SlideInPacs, log: OrthancLog) -> None:
    """The levels of a pyramid are one series of as many instances."""
    found = changed(pages(log, Place()))
    assert found[pacs_slide.slide.series_uid] == len(pacs_slide.slide.levels)


def test_overwritten_instance_leaves_a_gap_and_comes_again(cleared_orthanc: Orthanc) -> None:
    """As the archive does not overwrite, sending again is no event; deleted and sent again, it is one."""
    log, one = open_log(cleared_orthanc), small_series(2)
    store(cleared_orthanc, one)
    place = pages(log, Place())[-1].after
    store(cleared_orthanc, one)
    assert changed(pages(log, place)) == {}
    delete(cleared_orthanc, one.instance_uids[1], "instances")
    store(cleared_orthanc, one)
    assert changed(pages(log, place)) == {one.series_uid: 2}
    assert not any(page.reset for page in pages(log, place))


def test_deleted_series_is_not_seen(cleared_orthanc: Orthanc) -> None:
    """What came and went while nobody looked is no error; the entry at our place is gone with it."""
    log, one, other = open_log(cleared_orthanc), small_series(), small_series()
    store(cleared_orthanc, other)
    before = log.head()
    store(cleared_orthanc, one)
    at_one = log.head()
    delete(cleared_orthanc, one.series_uid)
    assert changed(pages(log, before)) == {}
    [gone] = pages(log, at_one)
    assert (gone.reset, gone.truncated) == (False, False)
    assert gone.after == Place(at_one.cursor)
    again = small_series()
    store(cleared_orthanc, again)
    assert changed(pages(log, gone.after)) == {again.series_uid: 1}


def test_log_that_was_emptied_was_cut_off(cleared_orthanc: Orthanc) -> None:
    """DELETE /changes: what it had is not known, which is said; what comes after is read."""
    log = open_log(cleared_orthanc)
    store(cleared_orthanc, small_series())
    place = log.head()
    store(cleared_orthanc, small_series())
    requests.delete(f"{cleared_orthanc.url}/changes", timeout=_TIMEOUT_S).raise_for_status()
    [cut] = pages(log, place)
    assert (cut.reset, cut.truncated, cut.series) == (False, True, ())
    one = small_series()
    store(cleared_orthanc, one)
    for stood in (place, cut.after, Place()):
        [later] = pages(log, stood)
        assert changed([later]) == {one.series_uid: 1}
        assert later.truncated
        assert not log.read(later.after).truncated


def test_log_of_several_real_pages(orthanc: Orthanc, log: OrthancLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page it is the same as at once."""
    head, some = log.head(), [small_series(2) for _ in range(5)]
    store(orthanc, *some)
    monkeypatch.setattr("connectors.intake.orthanc._PAGE", 3)
    events = pages(log, head)
    assert len(events) > 5
    assert changed(events) == {one.series_uid: 2 for one in some}


def test_look_costs_little(orthanc: Orthanc, log: OrthancLog) -> None:
    """An idle look is one request of some hundred bytes; a hundred instances of a slide are three."""
    head = log.head()
    before = log._session.traffic
    log.read(head)
    idle = log._session.traffic
    assert idle.requests - before.requests == 1
    assert idle.bytes_read - before.bytes_read < 1000
    store(orthanc, small_series(100))
    log.read(head)
    busy = log._session.traffic
    assert busy.requests - idle.requests == 3
    assert busy.bytes_read - idle.bytes_read < 100 * 400


@pytest.mark.faults
def test_sender_is_known_and_new_log_noticed(tmp_path: Path) -> None:
    """By DIMSE the calling AE title comes with the series; with its storage the archive loses its log."""
    with laboratory(tmp_path) as both:
        log, place = open_log(both.archive), Place()
        one = small_series(2)
        store(both.scanner, one)
        assert both.send()
        seen = Sighting(*one.key, "SCANNER", 2)
        wait_until(lambda: log.read(place).series == (seen,), "both instances")
        head = log.head()
        both.archive.stop()
        both.archive.start()
        assert not log.read(head).reset
        both.archive.stop()
        both.archive.wipe()
        both.archive.start()
        assert log.read(head) == Events(Place(), more=True, reset=True)
        store(both.archive, *(small_series() for _ in range(10)))
        assert log.read(head) == Events(Place(), more=True, reset=True)
        assert len(changed(pages(log, Place()))) == 10
