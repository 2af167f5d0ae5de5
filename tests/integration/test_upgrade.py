"""A fleet that is upgraded, and one whose workers serve some encoders only: real processes, SQLite and PostgreSQL."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tests.services.command import Slidewire
from tests.services.ports import wait_until
from tests.services.revisions import bring_to, migrate_as_newer
from tests.services.slides import SlideOnDisk
from worker.ledger import migration

_SMALL = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")
_DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.faults)]


@pytest.fixture
def ledger_url(slidewire: Slidewire, request: pytest.FixtureRequest) -> str:
    """Give the command a ledger of its own; return the URL."""
    if request.param == "postgresql":
        url = str(request.getfixturevalue("postgresql_url"))
    else:
        url = f"sqlite:///{slidewire.folder / 'ledger.sqlite'}"
    slidewire.environment["SLIDEWIRE_LEDGER_URL"] = url
    return url


@pytest.mark.parametrize("ledger_url", _DATABASES, indirect=True)
def test_an_older_ledger_is_refused_until_it_is_migrated(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, ledger_url: str
) -> None:
    """Commands and workers name the command that helps, which says what it did; then work goes on."""
    newest, *older = migration.known()
    bring_to(ledger_url, older[0])
    for command in (("jobs",), ("submit", cmu_slide.folder, *_SMALL)):
        message = slidewire.failed("LEDGER_OUTDATED", *command).json["error"]["message"]
        assert "slidewire ledger migrate" in message
        assert ledger_url not in message
    worker = slidewire("worker", "--drain")
    assert (worker.rc, worker.stderr.count("\n")) == (1, 1)
    assert worker.stderr.startswith("slidewire: LEDGER_OUTDATED: ")
    kind = ledger_url.partition(":")[0]
    status = {"database": kind, "revision": older[0], "newest": newest, "current": False, "jobs": {}}
    assert slidewire.done("ledger", "status").json == status
    assert "slidewire ledger migrate" in slidewire("ledger", "status").stdout
    said = {"database": kind, "from": older[0], "to": newest, "migrated": True}
    assert slidewire.done("ledger", "migrate").json == said
    assert slidewire.done("ledger", "migrate").json == said | {"from": newest, "migrated": False}
    assert "up to date" in slidewire("ledger", "migrate").stdout
    slidewire.done("submit", cmu_slide.folder, *_SMALL)
    status |= {"revision": newest, "current": True, "jobs": {"queued": 1}}
    assert slidewire.done("ledger", "status").json == status


@pytest.mark.parametrize("ledger_url", _DATABASES, indirect=True)
def test_a_worker_goes_on_while_the_ledger_is_migrated_by_a_newer_version(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, ledger_url: str
) -> None:
    """It ends its job with what it has begun, and another; started again it is refused, and says why."""
    slidewire.environment |= {"SLIDEWIRE_CHECKPOINT_S": "0.001", "SLIDEWIRE_BATCH_SIZE": "16", "SLIDEWIRE_LEASE_S": "2"}
    first, second = (
        slidewire.done("submit", cmu_slide.folder, *_SMALL[:-1], out).json["job"] for out in ("one", "two")
    )
    command = ["worker", "--leave-after", "0.5"]
    log = slidewire.folder / "worker"
    slidewire.warm.begin(command, slidewire.variables(), slidewire.folder, log, ["slow=:0.05"])
    wait_until(lambda: bool(slidewire.rows("SELECT 1 FROM checkpoint")), "a checkpoint")
    migrate_as_newer(ledger_url, slidewire.folder / "newer")
    states = slidewire.rows("SELECT state FROM job ORDER BY serial")
    assert slidewire.warm.end() == 0, Path(f"{log}.err").read_text()
    assert [state for (state,) in states] == ["running", "queued"], "too fast to be migrated under"
    ended = "SELECT id, state, (SELECT sum(attempts + crashes) FROM shard WHERE job_id = job.id) FROM job"
    assert sorted(map(tuple, slidewire.rows(ended))) == sorted([(first, "succeeded", 0), (second, "succeeded", 0)])
    again = slidewire("worker", "--drain")
    assert again.rc == 1
    assert again.stderr.startswith("slidewire: LEDGER_INVALID: ")
    assert "newer Slidewire" in again.stderr
    assert slidewire.done("ledger", "status").json["current"] is False
    slidewire.failed("LEDGER_INVALID", "ledger", "migrate")


def _change_request(slidewire: Slidewire, change: dict[str, Any]) -> None:
    """Change the only job's request, as if another version had submitted it."""
    with slidewire.ledger() as connection:
        stored = json.loads(connection.execute(text("SELECT request FROM job")).scalar_one())
        stored["request"] |= change.get("request", {})
        stored["provenance"] |= change.get("provenance", {})
        connection.execute(text("UPDATE job SET request = :request"), {"request": json.dumps(stored)})
        connection.execute(text("UPDATE shard SET not_before = 0"))
        connection.commit()


@pytest.mark.parametrize(
    "newer",
    [
        {"request": {"format": 2}},
        pytest.param({"request": {"hue": "blue"}}, marks=pytest.mark.faults),
        pytest.param({"provenance": {"hue": "blue"}}, marks=pytest.mark.faults),
    ],
)
def test_a_job_of_a_newer_slidewire_is_left_to_newer_workers(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, newer: dict[str, Any]
) -> None:
    """An older worker gives it back and goes on living; asked for here, it is refused; one that knows it does it."""
    job = slidewire.done("submit", cmu_slide.folder, *_SMALL).json["job"]
    [(stored,)] = slidewire.rows("SELECT request FROM job")
    _change_request(slidewire, newer)
    worker = slidewire("worker", "--leave-after", "0")
    assert worker.rc == 0, worker
    assert "hue" not in worker.stderr
    [shard] = slidewire.rows("SELECT state, attempts, crashes, not_before > 0 FROM shard")
    assert tuple(shard) == ("pending", 0, 0, 1)
    history = slidewire.job(job)["history"]
    assert [(one["event"], one["code"]) for one in history] == [("claimed", ""), ("deferred", "VERSION_UNKNOWN")]
    assert slidewire.job(job)["state"] in {"queued", "running"}
    slidewire.failed("VERSION_UNKNOWN", "embed", cmu_slide.folder, *_SMALL)
    assert [one["event"] for one in slidewire.job(job)["history"]] == ["claimed", "deferred"]
    with slidewire.ledger() as connection:
        connection.execute(text("UPDATE job SET request = :request"), {"request": stored})
        connection.execute(text("UPDATE shard SET not_before = 0"))
        connection.commit()
    assert slidewire("worker", "--drain").rc == 0
    assert slidewire.job(job)["state"] == "succeeded"


def test_a_worker_of_some_encoders(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """It leaves other encoders' jobs alone, also when it drains, with a broker that it does not need."""
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = ""
    job = slidewire.done("submit", cmu_slide.folder, *_SMALL).json["job"]
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = "redis://127.0.0.1:1/0"
    for leaving in (("--drain",), ("--leave-after", "0")):
        other = slidewire("worker", "--encoder", "path-foundation", *leaving)
        assert other.rc == 0, other
        assert other.stderr.count("the broker is not listened to") == 1
        assert slidewire.job(job)["state"] == "queued"
    own = slidewire("worker", "--encoder", "path-foundation", "--encoder", "pixel-grid", "--leave-after", "0")
    assert own.rc == 0, own
    assert slidewire.job(job)["state"] == "succeeded"


def test_an_encoder_that_is_not_there_is_refused_before_anything_starts(slidewire: Slidewire) -> None:
    """With the names there are; no ledger is made."""
    for name in ("pixel-gird", "tim:vit_tiny_patch16_224"):
        said = slidewire("worker", "--encoder", "pixel-grid", "--encoder", name)
        assert (said.rc, said.stdout) == (1, "")
        assert said.stderr.startswith(f"slidewire: ENCODER_UNKNOWN: There is no encoder '{name}'")
    assert not list(slidewire.folder.rglob("ledger.sqlite"))


def test_a_worker_leaves_when_it_is_idle_but_never_with_a_shard(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Batches that take much longer than it may be idle do not make it leave; afterwards it leaves with 0."""
    slidewire.environment |= {"SLIDEWIRE_BATCH_SIZE": "64", "SLIDEWIRE_POLL_S": "0.02"}
    job = slidewire.done("submit", cmu_slide.folder, *_SMALL).json["job"]
    said = slidewire("worker", "--leave-after", "0.05", armed=["slow=:0.15"])
    assert said.rc == 0, said
    assert slidewire.job(job)["state"] == "succeeded"
    assert "this worker leaves" in said.stderr
