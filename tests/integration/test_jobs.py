"""``slidewire jobs``: what a person who looks after the queue sees and does."""

from pathlib import Path

import pytest

from tests.services.command import Slidewire
from tests.services.slides import SlideOnDisk

_WHAT = ("--encoder", "pixel-grid", "--stride-px", "500")


@pytest.fixture
def failed(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> tuple[list[str], Path]:
    """Let two jobs fail since a file is where their folder should be; give them and the file."""
    blocked = slidewire.folder / "blocked"
    blocked.touch()
    jobs = [
        slidewire.done("submit", cmu_slide.folder, *_WHAT, "--out", blocked / name).json["job"] for name in ("a", "b")
    ]
    assert slidewire("worker", "--drain").rc == 0
    return jobs, blocked


def test_a_failed_job_tells_its_history(slidewire: Slidewire, failed: tuple[list[str], Path]) -> None:
    """Show says which shard failed, when, why, and who had it; the rest of a job that went well is not repeated."""
    [job, _], _ = failed
    shown = slidewire.job(job)
    assert shown["state"] == "failed"
    events = [(one["kind"], one["shard"], one["event"], one["code"]) for one in shown["history"]]
    assert events == [
        ("embed", 0, "claimed", ""),
        ("embed", 0, "completed", ""),
        ("publish", 1, "claimed", ""),
        ("publish", 1, "failed", "OUTPUT_UNWRITABLE"),
    ]
    assert all(one["owner"] for one in shown["history"])
    said = slidewire("jobs", "show", job).stdout
    [line] = [line for line in said.splitlines() if " shard " in line]
    assert "publish shard 1: failed OUTPUT_UNWRITABLE: " in line
    assert shown["error"]["message"] in line


def test_all_jobs_that_ended_alike_are_tried_again_at_once(
    slidewire: Slidewire, failed: tuple[list[str], Path]
) -> None:
    """Once the cause is gone one command queues them all; what is in checkpoints is not computed again."""
    jobs, blocked = failed
    blocked.unlink()
    assert slidewire.done("jobs", "retry", "--state", "failed", "--code", "ENDPOINT_BUSY").json == []
    again = slidewire.done("jobs", "retry", "--state", "failed", "--code", "OUTPUT_UNWRITABLE").json
    assert [(one["job"], one["state"]) for one in again] == [(job, "queued") for job in jobs]
    assert slidewire("worker", "--drain").rc == 0
    assert {slidewire.job(job)["state"] for job in jobs} == {"succeeded"}
    claims = "SELECT count(*) FROM attempt JOIN shard ON shard.id = shard_id WHERE kind = 'embed' AND event = 'claimed'"
    assert slidewire.rows(claims) == [(2,)]


def test_what_cannot_be_tried_again_is_refused(slidewire: Slidewire, failed: tuple[list[str], Path]) -> None:
    """Either one job or a state, and only a state that has ended without a result; nothing changes."""
    [job, _], _ = failed
    slidewire.failed("REQUEST_INVALID", "jobs", "retry")
    slidewire.failed("REQUEST_INVALID", "jobs", "retry", job, "--state", "failed")
    slidewire.failed("REQUEST_INVALID", "jobs", "retry", "--state", "succeeded")
    slidewire.failed("JOB_NOT_FOUND", "jobs", "retry", "ffff")
    assert slidewire("jobs", "--state", "unheard-of").rc == 2
    assert {one["state"] for one in slidewire.done("jobs", "--state", "failed").json} == {"failed"}
    assert slidewire.done("jobs", "--state", "queued").json == []
