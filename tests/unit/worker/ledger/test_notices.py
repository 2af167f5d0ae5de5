"""Notices: each end of a job is told once, by one process at a time, until it was told."""

import pytest

from connectors.intake.protocol import Place, Sighting
from models.domain.errors import SourceError, WorkerLost
from tests.unit.worker.ledger.sample import claim, finish, make_due, submit
from worker.ledger import JobState, Ledger
from worker.ledger.arrival_records import ArrivalState, Decision, Patience
from worker.ledger.notices import Notice


def end(ledger: Ledger, key: str = "job") -> str:
    """Queue a small job and let it succeed; return its id."""
    job = submit(ledger, key, shards=1)
    for _ in range(2):
        finish(ledger, claim(ledger, job.id))
    assert ledger.jobs.get(job.id).state is JobState.SUCCEEDED
    return job.id


def taken(ledger: Ledger, lease_s: float = 60.0) -> Notice:
    """Take the next notice, which must be there."""
    notice = ledger.notices.take(lease_s)
    assert notice is not None
    return notice


def test_a_job_that_has_not_ended_is_not_told(ledger: Ledger) -> None:
    """Neither a queued nor a running job is news."""
    job = submit(ledger)
    claim(ledger, job.id)
    assert ledger.notices.take(60.0) is None


def test_a_job_that_ended_is_told_once(ledger: Ledger) -> None:
    """What was told is not told again; what is being told is not given to anybody else."""
    job_id = end(ledger)
    notice = taken(ledger)
    assert (notice.row["id"], notice.row["state"], notice.tries) == (job_id, "succeeded", 1)
    assert ledger.notices.take(60.0) is None
    assert ledger.notices.due() == 1
    ledger.notices.sent(notice)
    assert ledger.notices.due() == 0


@pytest.mark.parametrize("how", ["failed", "cancelled", "quarantined"])
def test_every_end_is_told(ledger: Ledger, how: str) -> None:
    """A job that failed, was cancelled, or quarantined is told as well, with its code."""
    job = submit(ledger, shards=1)
    if how == "cancelled":
        ledger.jobs.cancel(job.id)
    elif how == "failed":
        ledger.shards.fail(claim(ledger), SourceError("The slide is none."))
    else:
        for _ in range(3):
            lease = claim(ledger)
            ledger.shards.fail(lease, WorkerLost("It hung."))
            make_due(ledger, lease.shard_id)
    notice = taken(ledger)
    assert notice.row["state"] == how == ledger.jobs.get(job.id).state
    assert notice.row["error_code"] == {"cancelled": "", "failed": "SOURCE_INVALID"}.get(how, "WORKER_LOST")


def test_who_dies_while_telling_leaves_it_to_others(ledger: Ledger) -> None:
    """When the lease has run out, the same notice is given out again, under the same name."""
    end(ledger)
    first = taken(ledger, lease_s=0.0)
    second = taken(ledger)
    assert first.id == second.id
    assert second.tries == 2
    ledger.notices.sent(first)  # it comes back late: the second one decides
    assert ledger.notices.due() == 1
    ledger.notices.sent(second)
    assert ledger.notices.due() == 0


def test_what_is_told_later_waits(ledger: Ledger) -> None:
    """A notice that was not taken is due again after the wait, not before; then others come first."""
    end(ledger, "one")
    notice = taken(ledger)
    ledger.notices.later(notice, 3600.0)
    assert ledger.notices.take(60.0) is None
    ledger.notices.later(notice, -1.0)
    assert taken(ledger).tries == 2


def test_what_is_given_up_is_not_told(ledger: Ledger) -> None:
    """A notice that was given up is not due."""
    end(ledger)
    ledger.notices.give_up(taken(ledger))
    assert ledger.notices.due() == 0
    assert ledger.notices.take(60.0) is None


def test_a_job_that_ends_again_is_told_again(ledger: Ledger) -> None:
    """Opened again, a job is not news; its next end is, under another name."""
    job = submit(ledger, shards=1)
    ledger.jobs.cancel(job.id)
    first = taken(ledger)
    ledger.jobs.reopen(job.id)
    ledger.notices.later(first, 0.0)  # who took it comes back late
    assert ledger.notices.due() == 0
    ledger.jobs.cancel(job.id)
    second = taken(ledger)
    assert second.id != first.id
    assert second.tries == 1
    ledger.notices.sent(first)
    assert ledger.notices.due() == 1


def test_a_slide_that_is_late_is_told(ledger: Ledger) -> None:
    """An arrival is told when it is overdue, and at no other decision."""
    arrivals = ledger.arrivals
    arrivals.open("pacs", Place())
    arrivals.read("pacs", Place(), Place(1, "a"), [Sighting("1.2", "1.2.3")], Patience(0.0, 10.0))
    [seen] = arrivals.due("pacs", 10)
    assert arrivals.decide(seen, Decision(ArrivalState.INCOMPLETE, "SLIDE_INCOMPLETE"))
    assert ledger.notices.take(60.0) is None
    [seen] = arrivals.due("pacs", 10)
    assert arrivals.decide(seen, Decision(ArrivalState.OVERDUE, "SLIDE_INCOMPLETE", rule="all"))
    notice = taken(ledger)
    assert (notice.kind, notice.row["endpoint"], notice.row["code"]) == ("arrival", "pacs", "SLIDE_INCOMPLETE")
    ledger.notices.sent(notice)
    assert ledger.notices.due() == 0
