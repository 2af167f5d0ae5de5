"""A server in trouble, real workers: it is left alone, nobody else waits, no attempt is lost, and then it goes on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import text

from tests.services.command import Slidewire
from tests.services.hostile import Answer, Asked, HostileServer, hostile_server
from tests.services.pacs import SlideInPacs
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk

_ASK = ("--encoder", "pixel-grid", "--all-patches", "--out")


@dataclass
class _Mood:
    """What the server says instead of the answer, if anything; and when it was asked."""

    answer: Answer | None = None
    patience: int = 0  # so many requests are answered well in any case
    asked_at: list[float] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Answer | None:
        del asked
        self.asked_at.append(time.monotonic())
        return self.answer if len(self.asked_at) > self.patience else None


@contextmanager
def _moody(slidewire: Slidewire, slide: SlideInPacs) -> Iterator[tuple[_Mood, HostileServer]]:
    """Put a server with moods in front of the Orthanc, as endpoint `pacs`."""
    mood = _Mood()
    with hostile_server(mood, slide.orthanc.dicomweb) as server:
        slidewire.environment |= {"SLIDEWIRE_ENDPOINTS__PACS__URL": server.url, "SLIDEWIRE_SHARD_PATCHES": "40"}
        yield mood, server


def _submit(slidewire: Slidewire, source: object, out: str, *more: str) -> str:
    return str(slidewire.done("submit", source, *_ASK, out, *more).json["job"])


def _state(slidewire: Slidewire) -> str:
    [found] = slidewire.done("endpoints").json
    assert found["key"] == "pacs"
    return str(found["state"])


def _time_passes(slidewire: Slidewire) -> None:
    """Let all waits be over: for the endpoint, and of shards."""
    with slidewire.ledger() as connection:
        connection.execute(text("UPDATE endpoint SET open_until = 1, probe_until = 0 WHERE state != 'closed'"))
        connection.execute(text("UPDATE shard SET not_before = 0"))
        connection.commit()


def _attempts(slidewire: Slidewire, job: str) -> list[tuple[int, int]]:
    return [tuple(row) for row in slidewire.rows(f"SELECT attempts, crashes FROM shard WHERE job_id = '{job}'")]


@pytest.mark.faults
def test_an_outage_costs_no_attempt_and_holds_up_nobody_else(
    slidewire: Slidewire, pacs_slide: SlideInPacs, cmu_slide: SlideOnDisk
) -> None:
    """503 for everything: the server is left alone, a job from disk is done meanwhile, and then the slide is."""
    with _moody(slidewire, pacs_slide) as (mood, _):
        job = _submit(slidewire, pacs_slide.source, "pacs")
        assert _state(slidewire) == "closed"
        mood.answer = Answer(503, b"", {"Retry-After": "0"})
        worker = slidewire.start("worker")
        wait_until(lambda: _state(slidewire) == "open", "the breaker to open")
        other = _submit(slidewire, cmu_slide.folder, "disk")
        asked = len(mood.asked_at)
        slidewire.wait_for(other)
        assert len(mood.asked_at) <= asked + 1, "one request may have been under way"
        assert slidewire.job(job)["state"] == "running"
        mood.answer = None
        _time_passes(slidewire)
        slidewire.wait_for(job)
        assert worker.terminate() == 0, worker.log
    assert set(_attempts(slidewire, job)) == {(0, 0)}
    assert {event["event"] for event in slidewire.job(job)["history"]} == {"claimed", "deferred", "completed"}
    assert _state(slidewire) == "closed"
    assert "Traceback" not in worker.log


def test_wrong_credentials_are_tried_once_and_a_person_ends_the_pause(
    slidewire: Slidewire, pacs_slide: SlideInPacs, cmu_slide: SlideOnDisk
) -> None:
    """401: one request, then none, whatever else the worker does; repaired and resumed, the job goes on."""
    with _moody(slidewire, pacs_slide) as (mood, _):
        job = _submit(slidewire, pacs_slide.source, "pacs")
        mood.answer = Answer(401)
        before = len(mood.asked_at)
        worker = slidewire.start("worker")
        wait_until(lambda: _state(slidewire) == "denied", "the endpoint to be denied")
        other = _submit(slidewire, cmu_slide.folder, "disk")
        slidewire.wait_for(other)
        assert len(mood.asked_at) == before + 1
        table = slidewire("endpoints").stdout
        assert all(word in table for word in ("pacs", "denied", "ACCESS_DENIED"))
        mood.answer = None
        assert slidewire("endpoints", "resume", "pacs").stdout == "pacs: closed\n"
        with slidewire.ledger() as connection:
            connection.execute(text("UPDATE shard SET not_before = 0"))
            connection.commit()
        slidewire.wait_for(job)
        assert worker.terminate() == 0, worker.log
    assert set(_attempts(slidewire, job)) == {(0, 0)}


def test_who_waits_at_a_terminal_is_told_of_a_pause(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """429 with ten minutes: told once, then nobody asks, and `embed` and `submit` say until when and what to do."""
    ask = (pacs_slide.source, *_ASK, "out")
    with _moody(slidewire, pacs_slide) as (mood, _):
        mood.answer = Answer(429, b"", {"Retry-After": "600"})
        slidewire.failed("ENDPOINT_BUSY", "embed", *ask)
        for command in ("embed", "submit"):
            said = slidewire.failed("ENDPOINT_PAUSED", command, *ask)
            assert "'pacs' is left alone for " in said.stderr
            assert "ENDPOINT_BUSY" in said.stderr
            assert "slidewire endpoints resume pacs" in said.stderr
        assert len(mood.asked_at) == 1
        mood.answer = None
        slidewire.done("endpoints", "resume", "pacs")
        assert slidewire.done("embed", *ask).json["state"] == "succeeded"


def test_a_job_that_meets_a_pause_goes_on_from_where_it_was(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """`embed` here and now ends with what the server said; after the pause the same job goes on and succeeds."""
    ask = (pacs_slide.source, *_ASK, "out")
    with _moody(slidewire, pacs_slide) as (mood, _):
        _submit(slidewire.beside("learning"), pacs_slide.source, "out")
        mood.patience = 2 * len(mood.asked_at) + 2
        mood.answer = Answer(503, b"", {"Retry-After": "600"})
        failed = slidewire("embed", *ask, "--json")
        assert failed.json["error"]["code"] in {"ENDPOINT_BUSY", "ENDPOINT_PAUSED"}, failed
        assert failed.json["job"], "the pause came while it was worked on"
        slidewire.failed("ENDPOINT_PAUSED", "embed", *ask)
        mood.answer = None
        slidewire.done("endpoints", "resume", "pacs")
        done = slidewire.done("embed", *ask).json
        assert (done["job"], done["state"]) == (failed.json["job"], "succeeded")


@pytest.mark.faults
def test_two_workers_share_one_rate(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Two processes on two jobs: in no window more requests than the rate and a second's burst, and not far fewer."""
    rate = 15.0
    with _moody(slidewire, pacs_slide) as (mood, _):
        slidewire.environment |= {
            "SLIDEWIRE_ENDPOINTS__PACS__REQUESTS_PER_S": str(rate),
            "SLIDEWIRE_ENDPOINTS__PACS__FRAMES_PER_REQUEST": "4",
        }
        jobs = [_submit(slidewire, pacs_slide.source, "out", "--stride-px", stride) for stride in ("224", "200")]
        workers = [slidewire.start("worker", "--drain") for _ in range(2)]
        assert [worker.wait() for worker in workers] == [0, 0], [worker.log for worker in workers]
    assert {slidewire.job(job)["state"] for job in jobs} == {"succeeded"}
    owners = {event["owner"] for job in jobs for event in slidewire.job(job)["history"]}
    assert len(owners) == 2, "both took part"
    at = mood.asked_at
    assert len(at) > 3 * rate
    for window_s in (0.5, 1.0, 2.0):
        most = max(sum(start <= moment < start + window_s for moment in at) for start in at)
        assert most <= rate * window_s + rate + 2, window_s


@pytest.mark.parametrize("name", ["typo", "https://raw.test"])
def test_only_what_is_known_can_be_resumed(slidewire: Slidewire, name: str) -> None:
    """Another name is an error that says where the names are; a fresh ledger has none."""
    assert slidewire.done("endpoints").json == []
    assert slidewire("endpoints").stdout == "No job was read from a server yet.\n"
    slidewire.failed("REQUEST_INVALID", "endpoints", "resume", name)
