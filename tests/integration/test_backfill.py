"""A backfill as people run it: a real PACS, real workers, stopped, killed, and started again."""

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.services.command import Slidewire
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.orthanc import Orthanc, start_orthanc
from tests.services.pacs import SlideInPacs, load, renamed
from tests.services.ports import wait_until
from tests.services.qido import MadeUp
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk

_KILLS = [
    ("found", "before"),
    ("record", "before"),
    *(
        pytest.param(*kill, marks=pytest.mark.faults)
        for kill in (
            *(("open", "before"), ("open", "after"), ("found", "after"), ("record", "after")),
            *(("settle", "before"), ("settle", "after")),
        )
    ),
]


@dataclass
class Archive:
    """A PACS with four slides, on three days, and an XC series that is none."""

    orthanc: Orthanc
    slides: list[SlideInPacs]

    @property
    def uids(self) -> set[str]:
        """UIDs that must be seen nowhere."""
        return {uid for slide in self.slides for uid in (slide.slide.study_uid, slide.slide.series_uid)}


@pytest.fixture(scope="module")
def archive(cmu_slide: SlideOnDisk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Run a PACS with four slides."""
    folder = tmp_path_factory.mktemp("archive")
    orthanc = start_orthanc(folder / "orthanc")
    days = ("20200101", "20200102", "20200102", "20200115")
    slides = [load(orthanc, renamed(cmu_slide, folder / f"{n}", StudyDate=day)) for n, day in enumerate(days)]
    orthanc.load(_no_slide(cmu_slide, folder / "label"))
    yield Archive(orthanc, slides)
    orthanc.stop()


def _no_slide(slide: SlideOnDisk, folder: Path) -> Path:
    """Write a series of modality SM that holds a label and nothing else."""
    label = renamed(slide, folder, StudyDate="20200103", ImageType=["ORIGINAL", "PRIMARY", "LABEL", "NONE"])  # type: ignore[arg-type]
    for level in label.levels[1:]:
        level.unlink()
    return folder


@pytest.fixture
def command(slidewire: Slidewire, archive: Archive) -> Slidewire:
    """Give the command with the archive as `pacs`."""
    slidewire.environment["SLIDEWIRE_ENDPOINTS__PACS__URL"] = archive.orthanc.dicomweb
    return slidewire


def what(*more: str) -> tuple[str, ...]:
    """Return the arguments of a backfill of January 2020."""
    days = ("--from", "2020-01-01", "--to", "2020-01-31")
    return ("backfill", "pacs", *days, "-e", "pixel-grid", "--all-patches", "--out", "out", *more)


def status(command: Slidewire) -> dict[str, Any]:
    """Return how the only backfill stands."""
    [found] = command.done("backfill", "--status").json
    return dict(found)


def jobs(command: Slidewire) -> list[tuple[str, str]]:
    """Return the states and lanes of all jobs."""
    return [tuple(row) for row in command.rows("SELECT state, lane FROM job")]


def assert_done(report: dict[str, Any]) -> None:
    """All four slides are embedded, and the label is skipped."""
    assert report["state"] == "finished"
    assert (report["found"], report["done"], report["running"], report["waiting"]) == (5, 4, 0, 0)
    assert (report["skipped"], report["failed"]) == ({"NOT_A_SLIDE": 1}, {})


def test_unknown_encoder_and_endpoint(command: Slidewire) -> None:
    """What is misspelt is said before anything is written."""
    command.failed("REQUEST_INVALID", "backfill", "elsewhere", "-e", "pixel-grid", "--out", "out")
    command.failed("ENCODER_UNKNOWN", "backfill", "pacs", "-e", "pixel", "--out", "out")
    command.failed("REQUEST_INVALID", "backfill", "pacs", "--out", "out")
    command.failed("REQUEST_INVALID", "backfill", "--list", "gone")
    assert command.done("backfill", "--status").json == []


def test_workers_drain_while_it_runs(command: Slidewire, archive: Archive) -> None:
    """Two jobs at a time, until all slides are embedded; what is left tells no UID."""
    worker = command.start("worker")
    said = command(*what("--at-once", "2", "--json"))
    assert said.rc == 0, said
    assert_done(said.json)
    assert jobs(command) == [("succeeded", "backfill")] * 4
    assert said.json["patches"] == 4 * command.rows("SELECT patches FROM job LIMIT 1")[0][0]
    assert worker.terminate() == 0
    seen = said.stdout + said.stderr + worker.log + command("backfill", "--status").stdout
    seen += command("backfill", "--list", "skipped").stdout
    assert not [uid for uid in archive.uids if uid in seen]


def test_done_slides_are_not_done_again(command: Slidewire) -> None:
    """What was embedded before by `submit` is known; a second start has nothing to do; a dry run counts."""
    assert command.done(*what("--dry-run")).json == {"found": 5, "found_before": 0}
    assert command.done("backfill", "--status").json == []
    assert command(*what("--detach")).rc == 0
    assert command("worker", "--drain").rc == 0
    assert_done(command.done(*what()).json)
    other = command.done(*(word if word != "2020-01-31" else "2020-02-01" for word in what())).json
    assert (other["already_done"], other["submitted"], other["state"]) == (4, 0, "finished")
    assert command.done(*what("--dry-run")).json == {"found": 5, "found_before": 5}
    assert len(jobs(command)) == 4


def test_lists_tell_uids_only_if_asked(command: Slidewire, archive: Archive) -> None:
    """Skipped ones with their code, submitted ones with their job; UIDs for who insists."""
    command.done(*what("--detach", "--limit", "5"))
    [skipped] = command.done("backfill", "--list", "skipped").json
    assert (skipped["code"], skipped["job_id"], "series_uid" in skipped) == ("NOT_A_SLIDE", "", False)
    listed = command.done("backfill", "--list", "submitted", "--show-uids").json
    assert {row["series_uid"] for row in listed} == {slide.slide.series_uid for slide in archive.slides}
    assert {row["job_id"] for row in listed} == {row[0] for row in command.rows("SELECT id FROM job")}
    assert "NOT_A_SLIDE" in command("backfill", "--list", "skipped").stdout


def test_stopped_it_says_how_to_go_on(command: Slidewire) -> None:
    """SIGTERM ends it at once with 130 and a sentence; the same command goes on."""
    running = command.start(*what("--at-once", "1"))
    wait_until(lambda: _submitted(command) == 1, "a slide in the queue")
    assert running.terminate(20.0) == 130
    assert "slidewire: INTERRUPTED: Stopped; the same command goes on from here.\n" in running.log
    assert status(command)["state"] == "unfinished"
    assert command("worker", "--drain").rc == 0
    command.done(*what("--detach"))
    assert command("worker", "--drain").rc == 0
    assert_done(status(command))


def _submitted(command: Slidewire) -> int:
    state = Path(command.environment["SLIDEWIRE_STATE_FOLDER"]) / "ledger.sqlite"
    if not state.exists() or not command.rows("SELECT name FROM sqlite_master WHERE name = 'backfill_item'"):
        return 0
    return int(command.rows("SELECT count(*) FROM backfill_item WHERE state = 'submitted'")[0][0])


@pytest.mark.parametrize(("point", "side"), _KILLS)
def test_killed_anywhere_it_loses_and_doubles_nothing(command: Slidewire, point: str, side: str) -> None:
    """Kill -9 at each write of the ledger: the same command ends as if nothing had been."""
    if point == "settle":
        command.done(*what("--detach"))
        assert command("worker", "--drain").rc == 0
    said = command(*what("--detach"), armed=[f"kill=backfill.{point}.{side}_commit"])
    assert said.rc == -signal.SIGKILL, said
    command.done(*what("--detach"))
    assert command("worker", "--drain").rc == 0
    report = command.done(*what()).json
    assert_done(report)
    assert report["submitted"] == 4
    assert jobs(command) == [("succeeded", "backfill")] * 4


@pytest.mark.faults
def test_broker_is_rung(command: Slidewire, redis_server: RedisServer) -> None:
    """With a broker, workers hear of the slides at once."""
    redis_server.flush()
    command.environment |= {"SLIDEWIRE_BROKER_URL": redis_server.url, "SLIDEWIRE_POLL_S": "5"}
    worker = command.start("worker")
    assert_done(command.done(*what()).json)
    assert worker.terminate() == 0


def test_lines_in_a_pipe(slidewire: Slidewire) -> None:
    """Without a terminal, a line says how it stands; failures by code are in the report, and in the exit status."""
    holdings = MadeUp(3)

    def answer(asked: Asked) -> Answer:
        return Answer(400) if "/metadata" in asked.path else holdings(asked)

    with hostile_server(answer) as server:
        slidewire.environment["SLIDEWIRE_ENDPOINTS__PACS__URL"] = server.url
        said = slidewire(*what())
        as_json = slidewire(*what("--json"))
    assert said.rc == 1, said
    assert "slidewire: 0 of 0 slides, 0 patches/s\n" in said.stderr
    assert re.search(r"^  failed +3  RESPONSE_INVALID 3$", said.stdout, re.MULTILINE)
    assert (as_json.rc, as_json.json["failed"], as_json.stderr) == (1, {"RESPONSE_INVALID": 3}, "")
    assert json.dumps(as_json.json) == as_json.stdout.strip()
