"""Arrivals in the ledger: a place in the log that moves with what was read, and series that are waited for."""

from dataclasses import asdict, replace
from functools import partial

import pytest
from sqlalchemy import insert, update

from connectors.intake.protocol import Place, Sighting
from tests.unit.worker.ledger.sample import ROOT, claim, finish, new_job, processes, submit, together
from worker.ledger import JobState, Ledger
from worker.ledger.arrival_records import Arrival, ArrivalState, Decision, Patience, WatchRecord
from worker.ledger.backfills import Cursor
from worker.ledger.schema import arrival

_on_one = pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)  # where databases do not differ

_START, _NEXT = Place(10, "ten"), Place(20, "twenty")
_ONE = Sighting("1.1", "1.1.1", "SCANNER", 3)
_TWO = Sighting("1.2", "1.2.1")
_AT_ONCE = Patience(0.0, 3600.0)
_LATER = Patience(60.0, 3600.0)
_WAIT = Decision(ArrivalState.INCOMPLETE, "SLIDE_INCOMPLETE", "rule", instances=3, again_s=0.0)
_GO = Decision(ArrivalState.SUBMITTED, "", "rule", "digest", 3)


@pytest.fixture
def watched(ledger: Ledger) -> WatchRecord:
    """Watch the endpoint `pacs` from entry 10 of its log on."""
    return ledger.arrivals.open("pacs", _START)


def read(ledger: Ledger, *sightings: Sighting, patience: Patience = _AT_ONCE) -> None:
    """Read one more entry of the log, about these series."""
    record = ledger.arrivals.find("pacs")
    assert record is not None
    after = Place(record.place.cursor + 1, "next")
    assert ledger.arrivals.read("pacs", record.place, after, sightings, patience)


def only(ledger: Ledger) -> Arrival:
    """Return the only series that there is, whatever its state."""
    [found] = [one for state in ArrivalState for one in ledger.arrivals.items("pacs", state)]
    return found


def version(ledger: Ledger, one: Sighting) -> int:
    """Return how many events of a series there were, as far as they counted."""
    settling = ledger.arrivals.items("pacs", ArrivalState.SETTLING)
    return next(found.version for found in settling if found.series_uid == one.series_uid)


def due(ledger: Ledger) -> list[str]:
    """Return the UIDs of the series that are to be looked at now."""
    return [one.series_uid for one in ledger.arrivals.due("pacs", 100)]


def age(ledger: Ledger, seconds: float) -> None:
    """Let time pass for all series."""
    columns = ("first_at", "changed_at", "due_at", "deadline_at")
    with ledger._db.write() as connection:
        connection.execute(update(arrival).values({name: arrival.c[name] - seconds for name in columns}))


@_on_one
def test_log_is_read_from_where_it_was_begun(ledger: Ledger, watched: WatchRecord) -> None:
    """A new watch stands where it is told to; opened again, where it has come to since."""
    assert (watched.place, watched.search.listed, watched.read_at, watched.reconciled_at) == (_START, True, None, None)
    assert ledger.arrivals.read("pacs", _START, _NEXT, [], _LATER)
    again = ledger.arrivals.open("pacs", Place(0))
    assert again.place == _NEXT
    assert again.read_at is not None
    assert again.created_at <= again.read_at <= again.now
    assert ledger.arrivals.find("other") is None
    assert [one.endpoint for one in ledger.arrivals.watches()] == ["pacs"]


def test_opened_by_two_at_once_it_is_one(ledger: Ledger) -> None:
    """Two first starts agree on one place."""
    found = together(*[partial(ledger.arrivals.open, "pacs", Place(number)) for number in (5, 6)])
    assert found[0].place == found[1].place
    assert len(ledger.arrivals.watches()) == 1


@_on_one
@pytest.mark.parametrize("stood", [Place(10, "other"), Place(11, "ten"), Place(0)])
def test_place_moves_only_from_where_it_stands(ledger: Ledger, watched: WatchRecord, stood: Place) -> None:
    """Who comes too late, or from another log, writes nothing: neither the place nor a series."""
    assert not ledger.arrivals.read("pacs", stood, _NEXT, [_ONE], _AT_ONCE)
    found = ledger.arrivals.find("pacs")
    assert found is not None
    assert found.place == watched.place
    assert sum(ledger.arrivals.tally("pacs").values()) == 0


def test_of_two_that_read_the_same_page_one_writes(ledger: Ledger, watched: WatchRecord) -> None:
    """Two watches of one archive: each event counts once."""
    afters = [Place(20, "one"), Place(30, "other")]
    moved = together(
        *[partial(ledger.arrivals.read, "pacs", watched.place, after, [_ONE], _AT_ONCE) for after in afters]
    )
    assert sorted(moved) == [False, True]
    found = ledger.arrivals.find("pacs")
    assert found is not None
    assert found.place == afters[moved.index(True)]
    assert only(ledger).version == 1


@_on_one
def test_place_may_go_back(ledger: Ledger, watched: WatchRecord) -> None:
    """A log that began anew is read from its beginning."""
    assert ledger.arrivals.read("pacs", watched.place, Place(), [], _LATER)
    found = ledger.arrivals.find("pacs")
    assert found is not None
    assert found.place == Place()


@pytest.mark.usefixtures("watched")
def test_series_is_looked_at_once_it_is_quiet(ledger: Ledger) -> None:
    """Each event begins the quiet time anew; the deadline stays that of the first."""
    read(ledger, _ONE, patience=_LATER)
    first = only(ledger)
    assert (first.state, first.version, first.calling_aet, first.instances) == (ArrivalState.SETTLING, 1, "SCANNER", 3)
    assert first.due_at == pytest.approx(first.changed_at + 60.0, abs=0.1)
    assert first.deadline_at == pytest.approx(first.first_at + 3600.0, abs=0.1)
    age(ledger, 59.0)
    assert due(ledger) == []
    read(ledger, _ONE, patience=_LATER)
    age(ledger, 59.0)
    assert due(ledger) == []
    age(ledger, 2.0)
    assert due(ledger) == ["1.1.1"]
    second = only(ledger)
    assert (second.version, second.serial) == (2, first.serial)
    assert second.deadline_at == pytest.approx(first.deadline_at - 120.0, abs=0.01)
    assert not second.late
    age(ledger, 3600.0)
    assert only(ledger).late


@_on_one
@pytest.mark.usefixtures("watched")
def test_longest_due_comes_first(ledger: Ledger) -> None:
    """Nobody is passed by; a limit is kept to; another archive's series are not among them."""
    for one in (_ONE, _TWO, _ONE):
        read(ledger, one)
        age(ledger, 1.0)
    assert due(ledger) == ["1.2.1", "1.1.1"]
    assert [one.series_uid for one in ledger.arrivals.due("pacs", 1)] == ["1.2.1"]
    assert ledger.arrivals.due("other", 100) == ()


@_on_one
@pytest.mark.usefixtures("watched")
def test_what_was_decided_before_an_event_does_not_count(ledger: Ledger) -> None:
    """A level that comes while a series is looked at: it is looked at again."""
    read(ledger, _ONE)
    seen = only(ledger)
    read(ledger, _ONE)
    assert not ledger.arrivals.decide(seen, _WAIT)
    assert ledger.arrivals.submit(seen, _GO, new_job()) is None
    assert ledger.jobs.list(10) == ()
    assert only(ledger).state is ArrivalState.SETTLING
    assert ledger.arrivals.decide(only(ledger), _WAIT)


@_on_one
@pytest.mark.usefixtures("watched")
def test_incomplete_series_is_looked_at_again(ledger: Ledger) -> None:
    """It waits as long as it was told to, and its looks are counted until something happens to it."""
    read(ledger, _ONE)
    assert ledger.arrivals.decide(only(ledger), _WAIT)
    assert ledger.arrivals.decide(only(ledger), replace(_WAIT, again_s=60.0))
    seen = only(ledger)
    assert (seen.state, seen.code, seen.rule, seen.tries) == (ArrivalState.INCOMPLETE, "SLIDE_INCOMPLETE", "rule", 2)
    assert due(ledger) == []
    age(ledger, 61.0)
    assert due(ledger) == ["1.1.1"]
    read(ledger, _ONE)
    again = only(ledger)
    assert (again.state, again.code, again.tries, again.version) == (ArrivalState.SETTLING, "", 0, 2)


@pytest.mark.usefixtures("watched")
def test_series_that_was_settled_is_opened_by_an_event(ledger: Ledger) -> None:
    """Whatever had become of it, it is waited for anew, with a new deadline; nobody is told any more what it was."""
    for state in (ArrivalState.PASSED_OVER, ArrivalState.OVERDUE, ArrivalState.FAILED):
        read(ledger, _ONE)
        age(ledger, 7200.0)
        assert ledger.arrivals.decide(only(ledger), Decision(state, "NOT_A_SLIDE", "rule", "digest"))
        assert due(ledger) == []
        assert (ledger.notices.take(0.0) is not None) == (state is not ArrivalState.PASSED_OVER)
        read(ledger, _ONE)
        again = only(ledger)
        assert (again.state, again.code, again.set_sha256) == (ArrivalState.SETTLING, "", "digest")
        assert again.first_at == pytest.approx(again.changed_at, abs=0.1)
        assert not again.late
        assert ledger.notices.take(0.0) is None


@pytest.mark.usefixtures("watched")
def test_what_was_given_up_is_tried_again(ledger: Ledger) -> None:
    """On request: at once, with a new deadline, and by its state; a decision about how it stood does not count."""
    read(ledger, _ONE, _TWO)
    age(ledger, 7200.0)
    for one, state in ((_ONE, ArrivalState.FAILED), (_TWO, ArrivalState.PASSED_OVER)):
        seen = ledger.arrivals.of_series("pacs", one.study_uid, one.series_uid)
        assert seen is not None
        assert ledger.arrivals.decide(seen, Decision(state, "WEIGHTS_INVALID"))
    failed = ledger.arrivals.of_series("pacs", _ONE.study_uid, _ONE.series_uid)
    assert failed is not None
    assert ledger.arrivals.retry("pacs", _LATER) == 1
    assert ledger.arrivals.retry("other", _LATER) == 0
    assert due(ledger) == [_ONE.series_uid]
    again = ledger.arrivals.of_series("pacs", _ONE.study_uid, _ONE.series_uid)
    assert again is not None
    assert (again.state, again.code, again.tries, again.late) == (ArrivalState.SETTLING, "", 0, False)
    assert not ledger.arrivals.decide(failed, _GO)


@_on_one
@pytest.mark.usefixtures("watched")
def test_one_series_is_found(ledger: Ledger) -> None:
    """By all of its names together."""
    read(ledger, _ONE, _TWO)
    found = ledger.arrivals.of_series("pacs", _TWO.study_uid, _TWO.series_uid)
    assert found is not None
    assert found.series_uid == _TWO.series_uid
    assert ledger.arrivals.of_series("pacs", _ONE.study_uid, _TWO.series_uid) is None
    assert ledger.arrivals.of_series("other", _TWO.study_uid, _TWO.series_uid) is None


@_on_one
@pytest.mark.usefixtures("watched")
def test_submission_is_one_write(ledger: Ledger) -> None:
    """The job is queued, and the series names it."""
    read(ledger, _ONE)
    submission = ledger.arrivals.submit(only(ledger), _GO, new_job())
    assert submission is not None
    settled = only(ledger)
    assert (settled.state, settled.job_id, settled.set_sha256) == (ArrivalState.SUBMITTED, submission.job.id, "digest")
    assert due(ledger) == []
    assert [job.id for job in ledger.jobs.list(10)] == [submission.job.id]


@pytest.mark.usefixtures("watched")
def test_late_level_takes_the_place_of_what_was_queued(ledger: Ledger) -> None:
    """The series is embedded as it is now: the open job of its earlier instances is cancelled, the new one is named."""
    read(ledger, _ONE)
    first = ledger.arrivals.submit(only(ledger), _GO, new_job("first"))
    read(ledger, _ONE)
    reopened = only(ledger)
    assert first is not None
    assert (reopened.state, reopened.job_id, reopened.set_sha256) == (ArrivalState.SETTLING, first.job.id, "digest")
    second = ledger.arrivals.submit(reopened, replace(_GO, set_sha256="more"), new_job("second"))
    assert second is not None
    assert only(ledger).job_id == second.job.id
    states = {job.id: job.state for job in ledger.jobs.list(10)}
    assert states == {first.job.id: JobState.CANCELLED, second.job.id: JobState.QUEUED}


@_on_one
@pytest.mark.usefixtures("watched")
def test_job_that_has_ended_stays_as_it_ended(ledger: Ledger) -> None:
    """What was embedded before the late level came stays embedded."""
    read(ledger, _ONE)
    first = ledger.arrivals.submit(only(ledger), _GO, new_job("first", shards=1))
    assert first is not None
    finish(ledger, claim(ledger))
    finish(ledger, claim(ledger))
    read(ledger, _ONE)
    assert ledger.arrivals.submit(only(ledger), _GO, new_job("second")) is not None
    assert ledger.jobs.get(first.job.id).state is JobState.SUCCEEDED


@_on_one
@pytest.mark.usefixtures("watched")
def test_same_job_again_is_not_cancelled(ledger: Ledger) -> None:
    """An event that changed nothing: whoever submits the same once more still has it."""
    job = submit(ledger, "same")
    for _ in range(2):
        read(ledger, _ONE)
        submission = ledger.arrivals.submit(only(ledger), _GO, new_job("same"))
        assert submission is not None
        assert (submission.job.id, submission.created) == (job.id, False)
    assert ledger.jobs.get(job.id).state is JobState.QUEUED


@pytest.mark.usefixtures("watched")
def test_of_two_that_settle_the_same_series_one_does(ledger: Ledger) -> None:
    """Two watches that looked at the same time: one job."""
    read(ledger, _ONE)
    seen = only(ledger)
    done = together(*[partial(ledger.arrivals.submit, seen, _GO, new_job(key)) for key in ("one", "other")])
    assert [one is None for one in done].count(True) == 1
    [job] = ledger.jobs.list(10)
    assert only(ledger).job_id == job.id


@_on_one
@pytest.mark.usefixtures("watched")
def test_who_sent_it_is_kept(ledger: Ledger) -> None:
    """A later event, or search, that does not say who sent it, or how many there are, takes nothing back."""
    read(ledger, _ONE)
    read(ledger, Sighting("1.1", "1.1.1"))
    assert (only(ledger).calling_aet, only(ledger).instances) == ("SCANNER", 3)
    read(ledger, Sighting("1.1", "1.1.1", "OTHER", 4))
    assert (only(ledger).calling_aet, only(ledger).instances) == ("OTHER", 4)


@pytest.mark.usefixtures("watched")
def test_what_is_only_there_is_news_by_its_number(ledger: Ledger) -> None:
    """An event that says no more than that a series is there, or a search: only another number begins the wait anew."""
    page, cases = Cursor(listed=True), [(3, 3, False), (3, 4, True), (3, 2, True), (3, 0, False), (0, 3, False)]
    for number, (known, found, news) in enumerate(cases):
        one, place = Sighting("3.1", f"3.1.{number}", "", known), partial(replace, Cursor("2020-01-01"))
        there = replace(one, instances=found, changed=False)
        read(ledger, one)
        read(ledger, there)
        assert version(ledger, one) == 1 + news
        read(ledger, one)
        before, page = page, place(seen=number + 1)
        assert ledger.arrivals.searched("pacs", before, page, [replace(there, changed=True)], _LATER)
        assert version(ledger, one) == 2 + 2 * news


@_on_one
@pytest.mark.usefixtures("watched")
def test_what_nobody_knew_is_news(ledger: Ledger) -> None:
    """A series whose events were lost is found by any sign of it; the search moves with it, or neither."""
    read(ledger, replace(_ONE, changed=False))
    assert due(ledger) == ["1.1.1"]
    opened, search, listed = Cursor(listed=True), Cursor("2020-01-01", "2020-01-02", 100, "page"), Cursor(listed=True)
    assert ledger.arrivals.searched("pacs", opened, search, [_TWO], _AT_ONCE)
    assert not ledger.arrivals.searched("pacs", opened, search, [Sighting("1.3", "1.3.1")], _AT_ONCE)
    assert due(ledger) == ["1.1.1", "1.2.1"]
    assert (record := ledger.arrivals.find("pacs")) is not None
    assert (record.search, record.reconciled_at) == (search, None)
    assert ledger.arrivals.searched("pacs", search, listed, [], _AT_ONCE)
    assert (record := ledger.arrivals.find("pacs")) is not None
    assert record.reconciled_at is not None


@pytest.mark.usefixtures("watched")
def test_series_of_a_page_twice_is_one_event(ledger: Ledger) -> None:
    """A page that names a series again and again; thousands of series are one write."""
    read(ledger, _ONE, _ONE, _ONE)
    assert only(ledger).version == 1
    read(ledger, *(Sighting("2.1", f"2.1.{number}") for number in range(3000)))
    assert ledger.arrivals.tally("pacs")[ArrivalState.SETTLING] == 3001
    listed = [one.series_uid for one in ledger.arrivals.items("pacs", ArrivalState.SETTLING)]
    assert len(set(listed)) == len(listed) == 3001


@_on_one
@pytest.mark.usefixtures("watched")
def test_archives_do_not_meet(ledger: Ledger) -> None:
    """The same series in two archives is two arrivals."""
    read(ledger, _ONE)
    other = ledger.arrivals.open("other", Place())
    assert ledger.arrivals.read("other", other.place, Place(1, "x"), [_ONE], _AT_ONCE)
    assert only(ledger).version == 1
    assert sum(ledger.arrivals.tally("other").values()) == 1


_KILLED = """
import os, signal, sys
from pathlib import Path
from worker import killpoint
from worker.ledger import Ledger
from worker.ledger.arrival_records import Decision, Patience, Place, Sighting, ArrivalState
from tests.unit.worker.ledger.sample import new_job
point, url, folder = sys.argv[1:]
if os.fork() == 0:
    killpoint.arm(point)
    with Ledger(url, Path(folder)) as ledger:
        if point.startswith("watch.read"):
            news = [Sighting("1.2", "1.2.1")]
            ledger.arrivals.read("pacs", Place(11, "next"), Place(12, "killed"), news, Patience(0, 9))
        [seen] = [one for one in ledger.arrivals.due("pacs", 9) if one.series_uid == "1.1.1"]
        ledger.arrivals.submit(seen, Decision(ArrivalState.SUBMITTED, set_sha256="digest"), new_job())
_, status = os.wait()
assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, status
"""


@pytest.mark.faults
@pytest.mark.usefixtures("watched")
@pytest.mark.parametrize("written", [False, True])
def test_killed_at_a_write_all_of_it_is_there_or_nothing(ledger: Ledger, ledger_url: str, *, written: bool) -> None:
    """SIGKILL around the commit: the place and the series, the job and the series' state, go together."""
    point = "after_commit" if written else "before_commit"
    read(ledger, _ONE)
    folder = str(ROOT / "unused")
    for what in ("watch.read", "arrival.submit"):
        processes(1, _KILLED, f"{what}.{point}", ledger_url, folder)
    record = ledger.arrivals.find("pacs")
    assert record is not None
    assert record.place == (Place(12, "killed") if written else Place(11, "next"))
    assert due(ledger) == (["1.2.1"] if written else ["1.1.1"])
    assert len(ledger.jobs.list(10)) == int(written)
    assert ledger.arrivals.tally("pacs")[ArrivalState.SUBMITTED] == int(written)


@_on_one
def test_records_and_columns_agree(ledger: Ledger, watched: WatchRecord) -> None:
    """What an older Slidewire wrote into the table is read back as it is."""
    read(ledger, _ONE)
    fields = asdict(only(ledger))
    del fields["serial"], fields["now"]
    with ledger._db.write() as connection:
        connection.execute(insert(arrival).values(fields | {"series_uid": "9.9", "updated_at": watched.now}))
    assert [one.series_uid for one in ledger.arrivals.items("pacs", ArrivalState.SETTLING)] == ["1.1.1", "9.9"]
