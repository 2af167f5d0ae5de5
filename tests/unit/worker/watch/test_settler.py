"""The settler: what is due is looked at, once at a time; what comes of it is in the ledger, whatever goes wrong."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.intake.protocol import Place, Sighting
from models.domain.errors import LedgerUnavailable
from tests.services.ports import wait_until
from tests.unit.worker.ledger.sample import new_job
from worker.ledger import Ledger
from worker.ledger.arrival_records import Arrival, ArrivalState, Decision, Patience
from worker.watch.look import Outcome
from worker.watch.settler import Settler

_NOW = Patience(0.0, 3600.0)
_SUBMITTED = Decision(ArrivalState.SUBMITTED, rule="all", set_sha256="a" * 64)
_PASSED_OVER = Outcome(Decision(ArrivalState.PASSED_OVER, "NO_RULE"))


class _Bell:
    """Counts how often it is rung, in place of a broker."""

    def __init__(self) -> None:
        self.rung = 0

    def ring(self) -> None:
        """Ring."""
        self.rung += 1


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a ledger with a watch of `pacs`."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path / "checkpoints") as opened:
        opened.arrivals.open("pacs", Place())
        yield opened


def arrive(ledger: Ledger, *series: str, patience: Patience = _NOW) -> None:
    """Let something happen to series."""
    watch = ledger.arrivals.find("pacs")
    assert watch is not None
    after = Place(watch.place.cursor + 1)
    assert ledger.arrivals.read("pacs", watch.place, after, [Sighting("1.2", uid) for uid in series], patience)


def found(ledger: Ledger, state: ArrivalState) -> list[Arrival]:
    """Return the series in a state."""
    return list(ledger.arrivals.items("pacs", state))


@contextmanager
def settling(ledger: Ledger, look: Callable[[Arrival], Outcome], threads: int = 2) -> Iterator[_Bell]:
    """Run a settler for the length of a block."""
    bell = _Bell()
    settler = Settler(ledger, "pacs", look, bell, threads)  # type: ignore[arg-type]
    settler.start()
    try:
        yield bell
    finally:
        settler.stop()
        assert not settler.is_alive()


def test_a_job_is_queued_and_rung_for(ledger: Ledger) -> None:
    """A series that the look makes a job of is submitted, and workers are told at once."""
    arrive(ledger, "1.2.3")
    with settling(ledger, lambda _: Outcome(_SUBMITTED, new_job("one"))) as bell:
        wait_until(lambda: bell.rung == 1, "the bell")
    [arrival] = found(ledger, ArrivalState.SUBMITTED)
    [job] = ledger.jobs.list(10)
    assert (arrival.job_id, arrival.rule, arrival.set_sha256) == (job.id, "all", "a" * 64)


def test_another_archive_is_left_alone(ledger: Ledger) -> None:
    """Arrivals of other endpoints are for their own watch."""
    ledger.arrivals.open("other", Place())
    ledger.arrivals.found("other", [Sighting("1.2", "1.2.9")], _NOW)
    arrive(ledger, "1.2.3")
    with settling(ledger, lambda _: _PASSED_OVER):
        wait_until(lambda: len(found(ledger, ArrivalState.PASSED_OVER)) == 1, "the decision")
    assert ledger.arrivals.tally("other")[ArrivalState.SETTLING] == 1


def test_nothing_is_looked_at_before_it_has_been_quiet(ledger: Ledger) -> None:
    """A series waits for its time though another one is looked at."""
    arrive(ledger, "1.2.3", patience=Patience(3600.0, 7200.0))
    arrive(ledger, "1.2.4")
    with settling(ledger, lambda _: _PASSED_OVER):
        wait_until(lambda: len(found(ledger, ArrivalState.PASSED_OVER)) == 1, "the decision")
    assert [one.series_uid for one in found(ledger, ArrivalState.SETTLING)] == ["1.2.3"]


def test_a_series_is_with_one_thread_at_a_time(ledger: Ledger) -> None:
    """However often a series is due while it is looked at, it is looked at once; others are beside it."""
    arrive(ledger, *(f"1.2.{number}" for number in range(20)))
    go_on = threading.Event()
    looks: list[str] = []

    def look(arrival: Arrival) -> Outcome:
        looks.append(arrival.series_uid)
        if arrival.series_uid in {"1.2.0", "1.2.1"}:
            go_on.wait(20.0)
        return _PASSED_OVER

    with settling(ledger, look, threads=3):
        wait_until(lambda: len(found(ledger, ArrivalState.PASSED_OVER)) == 18, "those beside the two that take long")
        go_on.set()
        wait_until(lambda: len(found(ledger, ArrivalState.PASSED_OVER)) == 20, "the two")
    assert sorted(looks) == sorted({f"1.2.{number}" for number in range(20)})


def test_what_changes_while_it_is_looked_at_is_looked_at_again(ledger: Ledger) -> None:
    """A job of a slide that has grown meanwhile is not queued; the one of the grown slide is."""
    arrive(ledger, "1.2.3")
    looks: list[int] = []

    def look(arrival: Arrival) -> Outcome:
        looks.append(arrival.version)
        if len(looks) == 1:
            arrive(ledger, "1.2.3")
        return Outcome(_SUBMITTED, new_job(f"job-{arrival.version}"))

    with settling(ledger, look) as bell:
        wait_until(lambda: bell.rung == 1, "the bell")
    assert looks == [1, 2]
    assert [job.key for job in ledger.jobs.list(10)] == ["job-2"]


def test_a_bug_holds_up_one_series_only(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a look fails in a way that nobody thought of, its series waits, and is late in the end; others go on."""

    def look(arrival: Arrival) -> Outcome:
        if arrival.series_uid != "1.2.3":
            return _PASSED_OVER
        raise ZeroDivisionError("PATIENT^NAME")

    arrive(ledger, "1.2.3", "1.2.4")
    arrive(ledger, "1.2.5", patience=Patience(0.0, 0.0))
    with settling(ledger, look):
        wait_until(lambda: len(found(ledger, ArrivalState.INCOMPLETE)) == 1, "the one that waits")
        wait_until(lambda: len(found(ledger, ArrivalState.PASSED_OVER)) == 2, "the others")
    [waits] = found(ledger, ArrivalState.INCOMPLETE)
    assert (waits.code, waits.due_at > waits.now) == ("INTERNAL", True)
    with ledger._db.write("test") as connection:
        connection.exec_driver_sql("UPDATE arrival SET due_at = 0, deadline_at = 0")
    with settling(ledger, look):
        wait_until(lambda: len(found(ledger, ArrivalState.OVERDUE)) == 1, "the late one")
    assert "PATIENT" not in "".join(capsys.readouterr())


def test_a_ledger_that_is_away_for_a_while(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the look nor the hand-out ends when the ledger does not answer: the series is settled afterwards."""
    monkeypatch.setattr("worker.watch.settler._AWAY_S", 0.02)
    arrive(ledger, "1.2.3")
    failures = iter([LedgerUnavailable("It does not answer."), None])

    def look(_: Arrival) -> Outcome:
        if (error := next(failures, None)) is not None:
            raise error
        return _PASSED_OVER

    _run(ledger, "ALTER TABLE arrival RENAME TO gone")
    with settling(ledger, look):
        wait_until(lambda: ledger._db.failed_within(60.0), "the settler to find no ledger")
        _run(ledger, "ALTER TABLE gone RENAME TO arrival")
        wait_until(lambda: len(found(ledger, ArrivalState.PASSED_OVER)) == 1, "the decision")


def test_the_end_does_not_wait_for_a_look_that_hangs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that answers nothing holds the end up for seconds only; the series stays due."""
    monkeypatch.setattr("worker.watch.settler._STOP_S", 0.1)
    arrive(ledger, "1.2.3")
    begun, go_on = threading.Event(), threading.Event()

    def look(_: Arrival) -> Outcome:
        begun.set()
        go_on.wait(20.0)
        return replace(_PASSED_OVER)

    with settling(ledger, look):
        assert begun.wait(20.0)
    assert len(ledger.arrivals.due("pacs", 10)) == 1
    go_on.set()
    wait_until(lambda: all(thread.name != "look" for thread in threading.enumerate()), "the look to end")


def _run(ledger: Ledger, statement: str) -> None:
    with ledger._db.write("test") as connection:
        connection.exec_driver_sql(statement)
