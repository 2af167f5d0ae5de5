"""kill -9 at every named place of a job's life (fault 2, and 6: a client killed before it has its reply).

Each place has a story that comes by there. Told once more after the kill, every job must end as if nothing had been.
"""

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.conftest import Fault
from tests.faults.invariants import assert_sound, digests
from tests.faults.passing import leases_run_out, waits_are_over
from tests.services.command import ROOT, Slidewire
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")
_MANY_CHECKPOINTS = {  # three shards, one checkpoint a batch: eight in all
    "SLIDEWIRE_SHARD_PATCHES": "48", "SLIDEWIRE_BATCH_SIZE": "16", "SLIDEWIRE_CHECKPOINT_S": "0.0001",
}  # fmt: skip
_SHARDS, _CHECKPOINTS = 3, 8


@dataclass(frozen=True)
class Scene:
    """A command, a slide, and where a process is to die."""

    slidewire: Slidewire
    slide: Path
    kill: str

    def submit(self) -> str:
        """Submit the slide in peace; return the job's id."""
        return str(self.slidewire.done("submit", self.slide, *_WHAT).json["job"])

    def dies(self, *arguments: object, armed: tuple[str, ...] = ()) -> None:
        """Run a command that must be killed at the place."""
        said = self.slidewire(*arguments, armed=(self.kill, *armed))
        assert said.rc == -signal.SIGKILL, said

    def worker_dies(self, *armed: str) -> None:
        """Run a worker that must be killed at the place."""
        self.dies("worker", "--drain", armed=armed)


def _working(scene: Scene) -> str:
    job = scene.submit()
    scene.worker_dies()
    return job


def _entering(scene: Scene) -> str:
    job = scene.submit()
    with scene.slidewire.ledger() as connection:
        connection.exec_driver_sql("UPDATE shard SET queue = ''")  # as an older process inserts them
        connection.commit()
    scene.dies("worker", "--drain", "--encoder", "pixel-grid")
    return job


def _submitting(scene: Scene) -> str:
    scene.dies("submit", scene.slide, *_WHAT)
    job = scene.submit()
    assert scene.slidewire.rows("SELECT id FROM job") == [(job,)], "asked again, it is the same job"
    return job


def _reaping(scene: Scene) -> str:
    job = scene.submit()
    assert scene.slidewire("worker", armed=["kill=claim.after_commit"]).rc == -signal.SIGKILL
    assert leases_run_out(scene.slidewire) == 1
    scene.worker_dies()
    return job


def _failing(scene: Scene) -> str:
    job = scene.submit()
    scene.worker_dies("encoder=bug")
    return job


def _taking_turns(scene: Scene) -> str:
    job = scene.submit()
    scene.slidewire.environment["SLIDEWIRE_TURN_S"] = "0.000001"
    scene.worker_dies()
    return job


def _losing_a_checkpoint(scene: Scene) -> str:
    job = scene.submit()
    edge = f"kill=complete.after_commit:{_SHARDS}"
    assert scene.slidewire("worker", armed=[edge]).rc == -signal.SIGKILL
    [(name,)] = scene.slidewire.rows("SELECT min(name) FROM checkpoint")
    [path] = scene.slidewire.folder.rglob(name)
    path.write_bytes(path.read_bytes()[:-1])
    scene.worker_dies()
    return job


def _cancelling(scene: Scene) -> str:
    job = scene.submit()
    scene.dies("jobs", "cancel", job)
    assert scene.slidewire.done("jobs", "cancel", job).json["state"] == "cancelled"
    scene.slidewire.done("jobs", "retry", job)
    return job


def _reopening(scene: Scene) -> str:
    job = scene.submit()
    assert scene.slidewire.done("jobs", "cancel", job).json["state"] == "cancelled"
    scene.dies("jobs", "retry", job)
    assert scene.slidewire.done("jobs", "retry", job).json["state"] == "queued"
    return job


@dataclass(frozen=True)
class Place:
    """Where a process dies: in which story, and at which visits; at "" if a place is no transaction."""

    story: Callable[[Scene], str]
    visits: tuple[int, ...]
    edges: tuple[str, ...] = ("before_commit", "after_commit")


_WRITES = ("before_file", "after_file", "before_commit", "after_commit")
_PUBLISHES = ("before_write", "after_write", "before_commit", "after_commit")
PLACES = {
    "migrate": Place(_submitting, (1,)),  # the ledger is made; or brought up to date, which is the same transaction
    "enter": Place(_entering, (1,)),
    "submit": Place(_submitting, (1,)),
    "claim": Place(_working, (1, 2, _SHARDS + 1)),
    "heartbeat": Place(_working, (1,)),
    "checkpoint": Place(_working, (1, 2, _CHECKPOINTS), _WRITES),
    "complete": Place(_working, (1, _SHARDS)),
    "publish": Place(_working, (1,), _PUBLISHES),
    "discard": Place(_working, (1,)),
    "reap": Place(_reaping, (1,)),
    "fail": Place(_failing, (1, 2)),
    "release": Place(_taking_turns, (1, 4)),
    "drop": Place(_losing_a_checkpoint, (1,)),
    "rewind": Place(_losing_a_checkpoint, (1,)),
    "cancel": Place(_cancelling, (1,)),
    "reopen": Place(_reopening, (1,)),
}
# Places off the path of a job; the tests of those parts come by there.
ELSEWHERE = {"ring", "rung", "note", "draw", "resume", "backfill", "purge", "watch"}


def _cases(*, first: bool) -> list[object]:
    # Before a commit there is nothing yet that could be half done; those run by `make test-faults` only.
    return [
        pytest.param(
            place.story,
            f"{name}.{edge}:{visit}",
            id=f"{name}.{edge}:{visit}",
            marks=pytest.mark.faults if edge == "before_commit" else (),
        )
        for name, place in PLACES.items()
        for edge in place.edges
        for visit in place.visits
        if (visit == 1) is first
    ]


@pytest.fixture(scope="module")
def golden(cmu_slide: SlideOnDisk, warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Embed the slide once without trouble; give the digests of its outputs."""
    quiet = Slidewire(tmp_path_factory.mktemp("quiet"), warm, dict(_MANY_CHECKPOINTS))
    return digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT).json["job"]])[0]


def _tell(scene: Scene, story: Callable[[Scene], str], golden: tuple[str, ...], fault: Fault) -> None:
    fault.is_number(2, "kill -9 at a named place", "kill point")
    scene.slidewire.environment.update(_MANY_CHECKPOINTS)
    job = story(scene)
    fault.strikes()
    leases_run_out(scene.slidewire)
    waits_are_over(scene.slidewire)
    assert scene.slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(scene.slidewire, {job: golden})


@pytest.mark.parametrize(("story", "place"), _cases(first=True))
def test_a_process_killed_at_a_place(
    slidewire: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    fault: Fault,
    story: Callable[[Scene], str],
    place: str,
) -> None:
    """Killed when it comes by for the first time: the job ends as in a quiet run, and nothing is left behind."""
    _tell(Scene(slidewire, cmu_slide.folder, f"kill={place}"), story, golden, fault)


@pytest.mark.faults
@pytest.mark.parametrize(("story", "place"), _cases(first=False))
def test_a_process_killed_at_a_later_visit(
    slidewire: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    fault: Fault,
    story: Callable[[Scene], str],
    place: str,
) -> None:
    """Killed when part of the work is done: the job ends as in a quiet run, and nothing is left behind."""
    _tell(Scene(slidewire, cmu_slide.folder, f"kill={place}"), story, golden, fault)


@pytest.mark.faults
@pytest.mark.parametrize(("story", "place"), _cases(first=True))
def test_a_process_killed_at_a_place_on_postgresql(
    on_postgresql: Slidewire,
    cmu_slide: SlideOnDisk,
    golden: tuple[str, ...],
    fault: Fault,
    story: Callable[[Scene], str],
    place: str,
) -> None:
    """The same with a server for the ledger, which has to notice by itself that its client is gone."""
    _tell(Scene(on_postgresql, cmu_slide.folder, f"kill={place}"), story, golden, fault)


def test_no_place_is_forgotten() -> None:
    """Every transaction and every kill point of the source is in a story here, or known to be covered elsewhere."""
    source = "".join(
        path.read_text() for part in ("worker", "connectors", "models") for path in (ROOT / part).rglob("*.py")
    )
    transactions = set(re.findall(r'\.write\("([a-z_]+)"', source))
    assert not re.findall(r"\b_?db\.write\((?!\")", source), "a transaction without a name cannot be killed by it"
    places = {f"{name}.{edge}" for name in transactions for edge in ("before_commit", "after_commit")}
    places |= set(re.findall(r'\breach\("([a-z_.]+)"\)', source))
    covered = {f"{name}.{edge}" for name, place in PLACES.items() for edge in place.edges}
    assert covered <= places, "a story about a place that is gone"
    assert {place.partition(".")[0] for place in places - covered} <= ELSEWHERE, "nobody is ever killed there"


@pytest.mark.parametrize("edge", ["before_commit", "after_commit"])
def test_a_client_killed_before_its_reply_asks_again(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Fault, edge: str
) -> None:
    """What was committed is found again by the same request; what was not is as if it had never been."""
    fault.is_number(6, "submitting client killed before it has its reply", "kill point in `slidewire submit`")
    slidewire("jobs")  # makes the ledger
    assert slidewire("submit", cmu_slide.folder, *_WHAT, armed=[f"kill=submit.{edge}"]).rc == -signal.SIGKILL
    fault.strikes()
    committed = slidewire.rows("SELECT id FROM job")
    assert len(committed) == (edge == "after_commit")
    job = slidewire.done("submit", cmu_slide.folder, *_WHAT).json["job"]
    fault.is_over()
    assert slidewire.rows("SELECT id FROM job") == [(job,)]
    assert committed in ([], [(job,)])
    assert slidewire.rows("SELECT count(*) FROM shard") == [(1,)]
