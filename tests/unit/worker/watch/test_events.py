"""The poller of events, with a real ledger and a log that is a list."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog

from connectors.intake.protocol import Events, Place, Sighting
from models.domain.errors import (
    AccessDenied,
    EndpointPaused,
    EndpointUnreachable,
    LedgerUnavailable,
    ResponseInvalid,
    SlidewireError,
)
from tests.services.ports import wait_until
from worker.ledger import Arrivals, Ledger
from worker.ledger.arrival_records import ArrivalState, Patience, WatchRecord
from worker.watch import events as module
from worker.watch.events import EventPoller

_PATIENCE = Patience(60.0, 3600.0)


@dataclass
class ListedLog:
    """A log that gives an entry a page; what is in `answers` it gives, or raises, before.

    Attributes
    ----------
    reads : list of Place
        That were asked for.
    """

    entries: list[Sighting] = field(default_factory=list)
    answers: list[Events | Exception] = field(default_factory=list)
    reads: list[Place] = field(default_factory=list)
    closed: bool = False

    def head(self) -> Place:
        """Return the end."""
        return self._place(len(self.entries))

    def read(self, after: Place) -> Events:
        """Return a page of one."""
        self.reads.append(after)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        rest = self.entries[after.cursor :]
        if not rest:
            return Events(after)
        return Events(self._place(after.cursor + 1), (rest[0],), more=len(rest) > 1)

    def close(self) -> None:
        """Close."""
        self.closed = True

    def _place(self, number: int) -> Place:
        return Place(number, f"mark {number}")

    def arrive(self, *numbers: int) -> None:
        """Add entries."""
        self.entries += [Sighting(f"1.{number}", f"1.{number}.1", "SCANNER", 2) for number in numbers]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "checkpoints") as opened:
        yield opened


@dataclass
class Watched:
    """A poller with its log and ledger."""

    ledger: Ledger
    log: ListedLog = field(default_factory=ListedLog)
    wakes: int = 0

    def poller(self, log: ListedLog | None = None, arrivals: Arrivals | None = None) -> EventPoller:
        """Return a poller of the log, as another process has it."""
        return EventPoller(log or self.log, arrivals or self.ledger.arrivals, "pacs", _PATIENCE, self._wake, 0.1)

    @property
    def record(self) -> WatchRecord:
        """The watch."""
        found = self.ledger.arrivals.find("pacs")
        assert found is not None
        return found

    @property
    def arrived(self) -> dict[str, int]:
        """Events by series."""
        items = self.ledger.arrivals.items("pacs", ArrivalState.SETTLING)
        return {one.series_uid: one.version for one in items}

    def _wake(self) -> None:
        self.wakes += 1


@pytest.fixture
def watched(ledger: Ledger) -> Watched:
    """Give a watch that has not begun."""
    return Watched(ledger)


@contextmanager
def running(poller: EventPoller) -> Iterator[None]:
    """Run a poller for the length of a block."""
    poller.start()
    try:
        yield
    finally:
        poller.stop()
    assert not poller.is_alive()


def test_first_start_is_at_the_end_of_the_log(watched: Watched) -> None:
    """What was there before is not looked at; what comes from then on is."""
    watched.log.arrive(1, 2)
    poller = watched.poller()
    poller.look()
    assert (watched.record.place, watched.arrived) == (Place(2, "mark 2"), {})
    watched.log.arrive(3)
    poller.look()
    assert watched.arrived == {"1.3.1": 1}
    [one] = watched.ledger.arrivals.items("pacs", ArrivalState.SETTLING)
    assert (one.study_uid, one.calling_aet, one.instances) == ("1.3", "SCANNER", 2)
    assert one.due_at == pytest.approx(one.changed_at + _PATIENCE.quiet_s, abs=0.1)


def test_next_start_is_where_the_last_one_ended(watched: Watched) -> None:
    """What came while nobody watched is read, all pages of it, and each event counts once."""
    watched.poller().look()
    watched.log.arrive(1, 2, 3, 2)
    watched.poller().look()
    assert watched.arrived == {"1.1.1": 1, "1.2.1": 2, "1.3.1": 1}
    watched.poller().look()
    assert watched.record.place == Place(4, "mark 4")
    assert watched.arrived == {"1.1.1": 1, "1.2.1": 2, "1.3.1": 1}


def test_what_is_only_there_does_not_begin_the_wait_anew(watched: Watched) -> None:
    """That a series is stable is no news of one that is waited for."""
    poller = watched.poller()
    poller.look()
    watched.log.arrive(1)
    watched.log.entries.append(Sighting("1.1", "1.1.1", "SCANNER", 2, changed=False))
    poller.look()
    assert watched.arrived == {"1.1.1": 1}


def test_idle_looks_hardly_write(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the log was looked at is written down every few seconds, not with every look."""
    poller = watched.poller()
    poller.look()
    first = watched.record.read_at
    for _ in range(5):
        poller.look()
    assert watched.record.read_at == first
    monkeypatch.setattr(module, "_NOTED_S", 0.0)
    other = watched.poller()
    other.look()
    second = watched.record.read_at
    other.look()
    third = watched.record.read_at
    assert first is not None
    assert second is not None
    assert third is not None
    assert first < second < third


def test_two_watches_read_each_event_once(watched: Watched) -> None:
    """Who comes second hears of it, and reads on from where the first one is."""
    one, other = watched.poller(), watched.poller()
    one.look()
    other.look()
    watched.log.arrive(1, 2)
    one.look()
    for _ in range(3):
        other.look()
    assert watched.arrived == {"1.1.1": 1, "1.2.1": 1}
    watched.log.arrive(3)
    other.look()
    for _ in range(3):
        one.look()
    assert watched.arrived == {"1.1.1": 1, "1.2.1": 1, "1.3.1": 1}
    assert watched.record.place == Place(3, "mark 3")


def test_ledger_that_went_back_is_followed(watched: Watched) -> None:
    """A backup was brought back under a watch that runs: it reads on from where the ledger stands now."""
    watched.poller().look()
    poller = watched.poller()
    watched.log.arrive(1, 2)
    poller.look()
    assert watched.ledger.arrivals.read("pacs", Place(2, "mark 2"), Place(0, "mark 0"), [], _PATIENCE)
    watched.log.arrive(3)
    for _ in range(3):
        poller.look()
    assert watched.arrived == {"1.1.1": 2, "1.2.1": 2, "1.3.1": 1}
    assert watched.record.place == Place(3, "mark 3")


def test_log_that_began_anew_is_read_from_its_beginning(watched: Watched) -> None:
    """And the archive is searched for what the log does not tell."""
    watched.log.arrive(1, 2)
    poller = watched.poller()
    poller.look()
    watched.log.answers = [Events(Place(), more=True, reset=True)]
    poller.look()
    assert watched.arrived == {"1.1.1": 1, "1.2.1": 1}
    assert watched.record.place == Place(2, "mark 2")
    assert watched.wakes == 1


def test_log_that_begins_anew_again_and_again_is_none(watched: Watched) -> None:
    """Two servers behind one address: their logs are not read over and over."""
    poller = watched.poller()
    watched.log.arrive(1)
    poller.look()
    watched.log.answers = [Events(Place(), more=True, reset=True)]
    poller.look()
    watched.log.answers = [Events(Place(), more=True, reset=True)]
    with pytest.raises(ResponseInvalid, match="several servers"):
        poller.look()
    assert watched.arrived == {"1.1.1": 1}
    assert watched.record.place == Place(1, "mark 1")


def test_log_that_was_cut_off_lets_the_archive_be_searched(watched: Watched) -> None:
    """The place moves on, so that it is said once."""
    poller = watched.poller()
    watched.log.arrive(1)
    poller.look()
    watched.log.answers = [Events(Place(1), truncated=True)]
    poller.look()
    poller.look()
    assert watched.wakes == 1
    assert watched.record.place == Place(1)


def test_log_without_end_is_paused(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that always has another page gives way after some."""
    monkeypatch.setattr(module, "_PAGES", 5)
    poller = watched.poller()
    poller.look()
    watched.log.arrive(*range(100))
    for read in (5, 10):
        poller.look()
        assert watched.record.place.cursor == read


@pytest.mark.parametrize(
    "error",
    [EndpointUnreachable("away"), EndpointPaused("paused", 0.2), AccessDenied("no"), ResponseInvalid("odd"),
     ZeroDivisionError("canary")],
)  # fmt: skip
def test_what_fails_is_tried_again(watched: Watched, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server, whatever is wrong with it, and a bug of ours; it is logged once, and nothing is lost."""
    monkeypatch.setattr(module, "_LONGEST_S", 0.05)
    watched.poller().look()
    watched.log.arrive(1)
    watched.log.answers = [error] * 3
    with structlog.testing.capture_logs() as said, running(watched.poller()):
        wait_until(lambda: watched.arrived == {"1.1.1": 1}, "the event")
    [complaint] = [one["error"] for one in said]
    assert "canary" not in complaint
    assert complaint == error.message if isinstance(error, SlidewireError) else "ZeroDivisionError" in complaint
    assert watched.log.closed


def test_ledger_that_fails_is_asked_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written down is read again."""
    monkeypatch.setattr(module, "_LONGEST_S", 0.05)
    watched.poller().look()
    watched.log.arrive(1)
    truth: Callable[..., bool] = Arrivals.read
    failures = [LedgerUnavailable("away")] * 2

    def fail_twice(*arguments: object) -> bool:
        if failures:
            raise failures.pop()
        return truth(*arguments)

    monkeypatch.setattr(Arrivals, "read", fail_twice)
    with running(watched.poller()):
        wait_until(lambda: watched.arrived == {"1.1.1": 1}, "the event")


def test_pauses_grow_and_are_bounded() -> None:
    """A server that is away is asked after a second or two at first, and at least every 30 s."""
    for failures, least, most in ((1, 1.0, 2.0), (2, 2.0, 4.0), (5, 15.0, 30.0), (10_000, 15.0, 30.0)):
        found = [module.pause_s(failures, EndpointUnreachable("away"), module._LONGEST_S) for _ in range(50)]
        assert least <= min(found) < max(found) <= most
    assert module.pause_s(1, EndpointPaused("paused", 20.0), module._LONGEST_S) == 20.0
    assert module.pause_s(1, EndpointPaused("paused", 7200.0), module._LONGEST_S) == 30.0


def test_told_to_stop_it_ends_at_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it waits for a server that failed."""
    asked = threading.Event()
    monkeypatch.setattr(module, "pause_s", lambda *_: asked.set() or 600.0)
    watched.log.answers = [EndpointUnreachable("away")]
    poller = watched.poller()
    poller.start()
    assert asked.wait(10.0)
    poller.stop()
    assert not poller.is_alive()
    assert watched.log.closed


def test_stopped_before_it_began(watched: Watched) -> None:
    """A watch that fails to start closes what it has opened."""
    watched.poller().stop()
    assert watched.log.closed


def test_events_are_followed_while_it_runs(watched: Watched) -> None:
    """What comes is there soon after; a series whose UIDs are none is said to have come, not which."""
    with structlog.testing.capture_logs() as said, running(watched.poller()):
        wait_until(lambda: len(watched.log.reads) > 1, "the first looks")
        watched.log.answers = [Events(Place(0, "mark 0"), unusable=2)]
        watched.log.arrive(1)
        wait_until(lambda: watched.arrived == {"1.1.1": 1}, "the event")
    assert [one["series"] for one in said if "series" in one] == [2]
    assert watched.wakes == 0
