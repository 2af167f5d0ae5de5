"""Backfills in the ledger: a cursor that moves with what was found, and what became of each series."""

import pytest

from models.domain.codes import ErrorCode
from tests.unit.worker.ledger.sample import claim, finish, submit, together
from worker.ledger import Lane, Ledger
from worker.ledger.backfills import BackfillRecord, Cursor, Item, ItemState, Tally

_START = Cursor("2020-01-01", "2020-01-01")
_NEXT = Cursor("2020-01-01", "2020-01-01", 100, "digest")
_SERIES = [("1.1", "1.1.1", ""), ("1.2", "1.2.1", ""), ("1.3", "1.3.1", "")]


@pytest.fixture
def record(ledger: Ledger) -> BackfillRecord:
    """Open a backfill that has found three series."""
    opened = ledger.backfills.open("key", {"archive": "pacs"}, _START)
    assert ledger.backfills.found(opened.id, _START, _NEXT, _SERIES)
    return opened


def waiting(ledger: Ledger, record: BackfillRecord) -> list[Item]:
    """Return what waits."""
    return list(ledger.backfills.waiting(record.id, 100))


def test_found_twice_is_one_series(ledger: Ledger, record: BackfillRecord) -> None:
    """A page that is read again brings nothing new, and takes nothing back."""
    first = waiting(ledger, record)[0]
    ledger.backfills.record(first, ItemState.SKIPPED, "NOT_A_SLIDE")
    assert ledger.backfills.found(record.id, _NEXT, _START, [*_SERIES, ("1.4", "1.4.1", "")])
    assert [item.series_uid for item in waiting(ledger, record)] == ["1.2.1", "1.3.1", "1.4.1"]
    assert ledger.backfills.tally(record.id).found == 4


def test_cursor_moves_only_from_where_it_stands(ledger: Ledger, record: BackfillRecord) -> None:
    """Who comes too late writes nothing: neither the cursor nor a series."""
    assert not ledger.backfills.found(record.id, _START, Cursor(listed=True), [("9.9", "9.9.9", "")])
    assert ledger.backfills.cursor(record.id) == _NEXT
    assert ledger.backfills.tally(record.id).found == 3


def test_of_two_that_move_the_cursor_one_does(ledger: Ledger, record: BackfillRecord) -> None:
    """Two processes at the same page: one records it, the other hears that it did not."""
    after = [Cursor("2020-01-02", "2020-01-02", number, "digest") for number in (1, 2)]
    moved = together(*(lambda to=to: ledger.backfills.found(record.id, _NEXT, to, _SERIES) for to in after))  # type: ignore[misc]
    assert sorted(moved) == [False, True]
    assert ledger.backfills.cursor(record.id) == after[moved.index(True)]


def test_thousands_of_series_at_once(ledger: Ledger, record: BackfillRecord) -> None:
    """A server that gives everything in one answer is one page."""
    many = [(f"2.{number}", f"2.{number}.1", "") for number in range(5000)]
    assert ledger.backfills.found(record.id, _NEXT, _START, many)
    assert sum(1 for _ in ledger.backfills.items(record.id, ItemState.WAITING)) == 5003


def test_opened_again_it_is_the_same(ledger: Ledger, record: BackfillRecord) -> None:
    """The cursor stays, whatever start is named; another key is another backfill."""
    again = ledger.backfills.open("key", {"archive": "pacs"}, _START)
    assert (again.id, again.cursor) == (record.id, _NEXT)
    assert ledger.backfills.open("other", {}, _START).id != record.id
    assert ledger.backfills.find("none") is None
    assert [one.wanted for one in ledger.backfills.all()] == [{"archive": "pacs"}, {}]


def test_opened_by_two_at_once_it_is_one(ledger: Ledger) -> None:
    """Two first starts of the same command share a backfill."""
    one, other = together(*[lambda: ledger.backfills.open("key", {}, _START)] * 2)
    assert one.id == other.id


def test_what_failed_waits_again_at_the_next_start(ledger: Ledger, record: BackfillRecord) -> None:
    """Failures are tried again; what was skipped, known or cancelled is not."""
    one, two, three = waiting(ledger, record)
    ledger.backfills.record(one, ItemState.FAILED, "ENDPOINT_FAILED")
    ledger.backfills.record(two, ItemState.FAILED, ErrorCode.CANCELLED)
    ledger.backfills.record(three, ItemState.SKIPPED, "NOT_A_SLIDE")
    ledger.backfills.open("key", {}, _START)
    assert [item.serial for item in waiting(ledger, record)] == [one.serial]
    assert ledger.backfills.tally(record.id).failed == {"CANCELLED": 1}


def test_recorded_once(ledger: Ledger, record: BackfillRecord) -> None:
    """The first outcome of a series counts."""
    item = waiting(ledger, record)[0]
    ledger.backfills.record(item, ItemState.SKIPPED, "NOT_A_SLIDE")
    ledger.backfills.record(item, ItemState.FAILED, "ENDPOINT_FAILED")
    assert ledger.backfills.tally(record.id).skipped == {"NOT_A_SLIDE": 1}
    assert ledger.backfills.tally(record.id).failed == {}


def test_ends_of_jobs_are_taken_over(ledger: Ledger, record: BackfillRecord) -> None:
    """Succeeded, failed, cancelled, still running: each is counted as what it is, with its patches."""
    jobs = [submit(ledger, f"job-{number}", 1, Lane.BACKFILL) for number in range(3)]
    for item, job in zip(waiting(ledger, record), jobs, strict=True):
        ledger.backfills.record(item, ItemState.SUBMITTED, job_id=job.id)
    assert ledger.backfills.running(record.id) == 3
    assert ledger.backfills.settle(record.id) == 0
    finish(ledger, claim(ledger, jobs[0].id))
    tally = ledger.backfills.tally(record.id)
    assert (tally.running, tally.submitted, tally.patches, tally.ended) == (3, 3, 10, 0)
    finish(ledger, claim(ledger, jobs[0].id))  # its publication
    ledger.jobs.cancel(jobs[1].id)
    assert ledger.backfills.settle(record.id) == 2
    assert ledger.backfills.settle(record.id) == 0
    assert ledger.backfills.running(record.id) == 1
    expected = Tally(found=3, submitted=3, running=1, done=1, failed={"CANCELLED": 1}, patches=10)
    assert ledger.backfills.tally(record.id) == expected
    assert expected.ended == 2


def test_counts_by_code(ledger: Ledger, record: BackfillRecord) -> None:
    """What was skipped and what failed is counted by the code of its error, from the page on."""
    assert ledger.backfills.found(record.id, _NEXT, _START, [("1.9", "", "RESPONSE_INVALID")])
    one, two, three = waiting(ledger, record)
    ledger.backfills.record(one, ItemState.SKIPPED, "NOT_A_SLIDE")
    ledger.backfills.record(two, ItemState.KNOWN, job_id="a" * 32)
    ledger.backfills.record(three, ItemState.FAILED, "ENDPOINT_BUSY")
    expected = Tally(found=4, known=1, skipped={"NOT_A_SLIDE": 1, "RESPONSE_INVALID": 1}, failed={"ENDPOINT_BUSY": 1})
    assert ledger.backfills.tally(record.id) == expected
    [known] = ledger.backfills.items(record.id, ItemState.KNOWN)
    assert (known.serial, known.job_id) == (two.serial, "a" * 32)


def test_known_series_are_counted(ledger: Ledger, record: BackfillRecord) -> None:
    """Both UIDs must be those of a series that was found."""
    asked = [("1.1", "1.1.1"), ("1.2", "1.1.1"), ("7", "7.1")] + [(f"8.{number}", "8") for number in range(300)]
    assert ledger.backfills.known(record.id, [*asked, ("1.3", "1.3.1")]) == 2
    assert ledger.backfills.known(record.id, []) == 0


def test_rewound_it_keeps_what_it_found(ledger: Ledger, record: BackfillRecord) -> None:
    """Only the cursor goes back."""
    ledger.backfills.rewind(record.id, _START)
    assert ledger.backfills.cursor(record.id) == _START
    assert ledger.backfills.tally(record.id).found == 3
