"""A run of a backfill over a made-up archive: the search and the ledger are real, slides become empty jobs."""

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.domain.errors import (
    AccessDenied,
    EndpointFailed,
    EndpointPaused,
    Interrupted,
    LedgerUnavailable,
    NotASlide,
    ResponseInvalid,
    SlideTooSmall,
    WeightsInvalid,
)
from models.domain.request import EmbedRequest
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.ports import wait_until
from tests.services.qido import MadeUp
from tests.unit.worker.backfill.orders import TODAY, order
from tests.unit.worker.ledger.sample import claim, finish, new_job
from worker.backfill import Run, RunLimits, count
from worker.ledger import JobRecord, Lane
from worker.ledger.backfills import Tally
from worker.pipeline import Cancellation
from worker.settings import Settings
from worker.wiring import Installation

_ORDER = order(last=TODAY)
_ENOUGH = RunLimits(detach=True)


@dataclass
class Submitter:
    """Makes a job of one patch of each slide; some slides have an error first, or always.

    Parameters
    ----------
    errors : dict
        By the number of the study: what is raised, one a try.
    """

    errors: dict[int, list[Exception]] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    lanes: set[Lane] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, installation: Installation, request: EmbedRequest, lane: Lane) -> JobRecord:
        """Submit one slide."""
        with self._lock:
            self.sources.append(request.source)
            self.lanes.add(lane)
            errors = self.errors.get(int(request.source.split("/")[1].rpartition(".")[2]), [])
            if errors:
                raise errors.pop(0)
        return installation.ledger.jobs.submit(new_job(request.source, 1, lane)).job


@dataclass
class Bench:
    """An installation that knows the made-up archive as `pacs`."""

    installation: Installation
    submitter: Submitter = field(default_factory=Submitter)
    stop: Cancellation = field(default_factory=Cancellation)
    watch: Callable[[Tally], None] = lambda _: None

    def run(self, limits: RunLimits = _ENOUGH) -> Tally:
        """Run; return how the backfill stands then."""
        Run(self.installation, _ORDER, limits, self.stop, self.submitter).work(lambda _: self.watch(self.tally()))
        return self.tally()

    def tally(self) -> Tally:
        """Return how the backfill stands."""
        record = self.installation.ledger.backfills.find(_ORDER.key)
        assert record is not None
        return self.installation.ledger.backfills.tally(record.id)

    def finish_all(self) -> None:
        """Do the work of every job, as workers would."""
        shards = self.installation.ledger.shards
        while (lease := shards.claim("worker")) is not None:
            finish(self.installation.ledger, lease)


@contextmanager
def bench(answer: Callable[[Asked], Answer | None], folder: Path, quiet_hours: str = "") -> Iterator[Bench]:
    """Set up an archive and an installation."""
    with hostile_server(answer) as server:
        settings = Settings(
            state_folder=folder, ledger_url="", broker_url="", checkpoints=None, poll_s=0.01,
            endpoints={"pacs": {"url": server.url, "quiet_hours": quiet_hours}},
        )  # fmt: skip
        with Installation(settings) as installation:
            yield Bench(installation)


def test_every_slide_is_submitted_once(tmp_path: Path) -> None:
    """All of the archive, in the lane that comes last."""
    holdings = MadeUp(60, a_day=25)
    with bench(holdings, tmp_path) as one:
        tally = one.run()
        assert sorted(one.submitter.sources) == sorted(f"pacs/{study}/{series}" for study, series in holdings.series)
        assert one.submitter.lanes == {Lane.BACKFILL}
    assert (tally.found, tally.submitted, tally.running, tally.waiting) == (60, 60, 60, 0)


def test_what_is_submitted_is_not_submitted_again(tmp_path: Path) -> None:
    """The next start of a backfill that has done everything does nothing, even if it searches again."""
    with bench(MadeUp(20), tmp_path) as one:
        one.run()
        assert one.run(RunLimits(detach=True, afresh=True)).found == 20
        assert len(one.submitter.sources) == 20


def test_never_more_jobs_than_allowed(tmp_path: Path) -> None:
    """The next slides follow as jobs end, and never more are open than --at-once says."""
    most = 0

    def watch(tally: Tally) -> None:
        nonlocal most
        states = [job.state for job in one.installation.ledger.jobs.list(1000)]
        most = max(most, sum(state in {"queued", "running"} for state in states))
        if tally.running >= 3:
            finish(one.installation.ledger, claim(one.installation.ledger))
            finish(one.installation.ledger, claim(one.installation.ledger))
        elif not tally.waiting:
            one.finish_all()

    with bench(MadeUp(17), tmp_path) as one:
        one.watch = watch
        tally = one.run(RunLimits(at_once=3))
    assert (tally.done, tally.running, tally.patches) == (17, 0, 170)
    assert most == 3


def test_slides_that_are_none_are_skipped(tmp_path: Path) -> None:
    """What is wrong with a slide is counted by its code, and not tried again."""
    with bench(MadeUp(12), tmp_path) as one:
        one.submitter.errors = {3: [NotASlide("no")], 5: [SlideTooSmall("no")], 7: [NotASlide("no")]}
        tally = one.run()
        assert (dict(tally.skipped), tally.submitted) == ({"NOT_A_SLIDE": 2, "SLIDE_TOO_SMALL": 1}, 9)
        one.run()
        assert len(one.submitter.sources) == 12


def test_wrong_order_ends_the_run(tmp_path: Path) -> None:
    """What would be wrong with every slide is said once, and nothing is skipped for it."""
    with bench(MadeUp(50), tmp_path) as one:
        one.submitter.errors = {number: [WeightsInvalid("no")] for number in range(50)}
        with pytest.raises(WeightsInvalid):
            one.run()
        assert (one.tally().skipped, one.tally().failed, one.tally().ended) == ({}, {}, 0)


def test_passing_failure_is_tried_again(tmp_path: Path) -> None:
    """Four failures of the server are no failure of the slide."""
    with bench(MadeUp(3), tmp_path) as one:
        one.submitter.errors = {1: [EndpointFailed("no") for _ in range(4)]}
        tally = one.run()
        assert (tally.submitted, dict(tally.failed)) == (3, {})
        assert len(one.submitter.sources) == 7


def test_lasting_failure_is_reported_and_tried_at_the_next_start(tmp_path: Path) -> None:
    """Five tries are one failure; the next start tries again."""
    with bench(MadeUp(3), tmp_path) as one:
        one.submitter.errors = {1: [EndpointFailed("no") for _ in range(5)]}
        assert dict(one.run().failed) == {"ENDPOINT_FAILED": 1}
        assert (one.run().submitted, dict(one.tally().failed)) == (3, {})


def test_one_slide_that_the_server_refuses_fails_by_itself(tmp_path: Path) -> None:
    """Access to one study denied, an answer that is none, a bug: counted by code, the others go on."""
    with bench(MadeUp(6), tmp_path) as one:
        errors = {1: AccessDenied("no"), 2: ResponseInvalid("no"), 3: ZeroDivisionError("PATIENT^NAME")}
        one.submitter.errors = {number: [error] for number, error in errors.items()}
        tally = one.run()
    assert dict(tally.failed) == {"ACCESS_DENIED": 1, "RESPONSE_INVALID": 1, "INTERNAL": 1}
    assert tally.submitted == 3


def test_server_that_refuses_every_slide_ends_the_run(tmp_path: Path) -> None:
    """Twenty in a row are not the slides' fault: what is left waits for the next start."""
    with bench(MadeUp(90), tmp_path) as one:
        one.submitter.errors = {number: [AccessDenied("no")] for number in range(90)}
        with pytest.raises(AccessDenied):
            one.run()
        assert one.tally().failed == {"ACCESS_DENIED": 20}
        assert one.tally().waiting == one.tally().found - 20
        one.submitter.errors = {}
        assert (one.run().submitted, one.tally().failed) == (90, {})


@pytest.mark.parametrize("error", [EndpointPaused, LedgerUnavailable])
def test_pauses_of_the_fleet_are_not_counted(tmp_path: Path, error: type[EndpointPaused]) -> None:
    """A server that is left alone, or a ledger that is away, are waited for, however often."""
    with bench(MadeUp(2), tmp_path) as one:
        one.submitter.errors = {1: [error("later") for _ in range(9)]}
        tally = one.run()
        assert (tally.submitted, dict(tally.failed)) == (2, {})


def test_quiet_hours_are_left_to_others(tmp_path: Path) -> None:
    """While a server has its quiet hours, a backfill asks it nothing."""
    now = dt.datetime.now(dt.UTC)
    hours = "-".join(f"{now + dt.timedelta(hours=hours):%H:%M}" for hours in (-2, 2))
    asked, rounds = list[Asked](), iter(range(1, 5))
    with bench(lambda one: asked.append(one) or Answer(204), tmp_path, hours) as one:
        one.watch = lambda _: next(rounds, None) or one.stop.cancel()  # type: ignore[assignment,return-value]
        with pytest.raises(Interrupted):
            one.run()
    assert asked == []


def test_archive_that_goes_away_is_searched_again(tmp_path: Path) -> None:
    """A search that fails for a while goes on where it was; nothing is missed or found twice."""
    holdings, asked_for = MadeUp(60, a_day=40), 0

    def answer(asked: Asked) -> Answer:
        nonlocal asked_for
        asked_for += 1
        return Answer(500) if 3 < asked_for <= 7 else holdings(asked)

    with bench(answer, tmp_path) as one:
        assert one.run().submitted == 60
        assert len(one.submitter.sources) == 60


def test_archive_that_cannot_be_searched_ends_the_run(tmp_path: Path) -> None:
    """What was found before is kept; the next start goes on at that page."""
    holdings, broken, asked_for = MadeUp(60, a_day=10), True, 0

    def answer(asked: Asked) -> Answer:
        nonlocal asked_for
        asked_for += 1
        return Answer(400) if broken and asked_for > 5 and "/studies?" in asked.path else holdings(asked)

    with bench(answer, tmp_path) as one:
        with pytest.raises(ResponseInvalid):
            one.run()
        assert 0 < one.tally().found < 60
        broken = False
        assert one.run().submitted == 60
        assert len(one.submitter.sources) == 60


def test_stopped_anywhere_it_goes_on(tmp_path: Path) -> None:
    """Stopped again and again, everything is submitted once."""
    with bench(MadeUp(60, a_day=7), tmp_path) as one:
        while True:
            rounds, one.stop = iter(range(1, 4)), Cancellation()
            one.watch = lambda _, rounds=rounds, stop=one.stop: next(rounds, None) or stop.cancel()  # type: ignore[misc]
            try:
                one.run()
            except Interrupted:
                continue
            break
        assert one.tally().submitted == 60
        jobs = one.installation.ledger.jobs.list(1000)
        assert len({job.key for job in jobs}) == len(jobs) == 60


def test_stop_does_not_wait_for_the_server(tmp_path: Path) -> None:
    """A search that gets no answer holds nobody up."""
    answered, holdings = threading.Event(), MadeUp(3)

    def answer(asked: Asked) -> Answer:
        answered.wait(30)
        return holdings(asked)

    with bench(answer, tmp_path) as one:
        one.watch = lambda _: one.stop.cancel()
        with pytest.raises(Interrupted):
            one.run()
        assert not answered.is_set()
        answered.set()
        wait_until(lambda: all(thread.name != "search" for thread in threading.enumerate()), "the search to end")


def test_job_of_a_killed_start_counts_as_its_own(tmp_path: Path) -> None:
    """Submitted and not recorded: the next start finds the job, and does not take it for another one's."""
    with bench(MadeUp(2), tmp_path) as one:
        one.run(RunLimits(detach=True, slides=1))
        [first, second] = sorted(MadeUp(2).series)
        mine = next(f"pacs/{study}/{series}" for study, series in (first, second) if study == "1.2.3.1")
        one.submitter(one.installation, _ORDER.slide(*mine.split("/")[1:]), Lane.BACKFILL)
        one.finish_all()
        tally = one.run(RunLimits())
    assert (tally.done, tally.known) == (2, 0)


def test_slides_done_before_are_known(tmp_path: Path) -> None:
    """A job that had succeeded before the backfill began is counted by itself, and is no job of the backfill."""
    with bench(MadeUp(3), tmp_path) as one:
        one.submitter(one.installation, _ORDER.slide("1.2.3.1", "1.2.3.1.0"), Lane.STANDARD)
        one.finish_all()
        tally = one.run()
    assert (tally.known, tally.submitted, tally.running) == (1, 2, 2)


def test_limit_takes_so_many_and_leaves_the_rest(tmp_path: Path) -> None:
    """A first try; without the limit the same backfill goes on."""
    with bench(MadeUp(150, a_day=150), tmp_path) as one:
        one.submitter.errors = {0: [NotASlide("no")]}
        tally = one.run(RunLimits(detach=True, slides=5))
        assert (tally.submitted, sum(tally.skipped.values()), tally.found) == (4, 1, 100)
        assert one.run().submitted == 149


def test_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    """Before, after, and in the middle of a backfill."""
    with bench(MadeUp(120, a_day=30), tmp_path) as one:
        assert count(one.installation, _ORDER) == (120, 0)
        assert one.installation.ledger.backfills.all() == ()
        one.run(RunLimits(detach=True, slides=5))
        before = one.tally()
        assert count(one.installation, _ORDER) == (120, before.found)
        assert one.tally() == before
