"""The timeline: spans from the ledger's history, retries and all, and how long what took."""

import pytest

from models.domain.job import JobState, Lane
from worker.ledger import Incident, JobRecord
from worker.report.timeline import Span, Timeline


def job(updated_at: float = 100.0) -> JobRecord:
    """Return a job that was submitted at second 100."""
    state = (JobState.RUNNING, Lane.STANDARD)
    return JobRecord("0" * 32, "k", "r", "e", *state, {}, 10, 5, 100.0, updated_at, "", "", ())


def incident(shard: int, epoch: int, event: str, at: float, owner: str = "a") -> Incident:
    """Return a line of the history."""
    return Incident(shard, "publish" if shard == 9 else "embed", epoch, owner, event, "", "", at)


def test_nobody_came() -> None:
    """A job that waits has no spans and no wait that is over."""
    line = Timeline.of(job(), ())
    assert (line.spans, line.waited_s, line.took_s, line.workers, line.retries) == ((), None, 0.0, 0, 0)
    assert line.busy_s("embed") == 0


def test_spans_and_sums() -> None:
    """Two workers side by side are busy for the time that either is; publishing counts by itself."""
    history = [
        incident(0, 1, "claimed", 103.0),
        incident(1, 1, "claimed", 104.0, "b"),
        incident(0, 1, "completed", 108.0),
        incident(1, 1, "completed", 110.0, "b"),
        incident(9, 1, "claimed", 115.0, "b"),
        incident(9, 1, "completed", 117.0, "b"),
    ]
    line = Timeline.of(job(117.0), history)
    assert line.spans == (
        Span(1, 0, "embed", 3.0, 8.0, "completed"),
        Span(2, 1, "embed", 4.0, 10.0, "completed"),
        Span(2, 9, "publish", 15.0, 17.0, "completed"),
    )
    assert (line.waited_s, line.took_s, line.workers, line.retries) == (3.0, 17.0, 2, 0)
    assert (line.busy_s("embed"), line.busy_s("publish")) == (7.0, 2.0)
    assert line.incidents == ()


def test_a_gap_is_not_busy() -> None:
    """Between two spans nobody works."""
    times = [(0, 1, "claimed", 100.0), (0, 1, "completed", 101.0), (1, 1, "claimed", 105.0), (1, 1, "completed", 106.0)]
    assert Timeline.of(job(), [incident(*one) for one in times]).busy_s("embed") == pytest.approx(2.0)


def test_what_went_otherwise() -> None:
    """A failure ends a span and is an incident; the next try is a retry; what runs lasts to the last known moment."""
    history = [
        incident(0, 1, "claimed", 101.0),
        incident(0, 1, "failed", 105.0),
        incident(0, 2, "claimed", 111.0, "b"),
    ]
    line = Timeline.of(job(120.0), history)
    assert [(span.event, span.end_s) for span in line.spans] == [("failed", 5.0), ("running", 20.0)]
    assert line.retries == 1
    assert line.incidents == (history[1],)
