"""Reconciliation: everything that an archive holds arrives once, whatever the server does and whenever it is ended."""

import datetime as dt
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from connectors.dicom.result.derived import MAKER, PRODUCT
from connectors.endpoints import Endpoint
from connectors.intake.protocol import Place
from models.domain.errors import AccessDenied, Interrupted, ResponseInvalid
from models.domain.rule import Criteria, Rule
from tests.services.hostile import Answer, Asked, HostileServer, hostile_server
from tests.services.ports import wait_until
from tests.services.qido import MadeUp, searches
from worker.intake_settings import WatchSettings
from worker.ledger import Ledger
from worker.ledger.arrival_records import Arrival, ArrivalState
from worker.pipeline import Cancellation
from worker.watch.reconcile import Reconciler, Searches, modalities_of, search_once

_TODAY = dt.datetime.now(dt.UTC).date()
_FIRST = _TODAY - dt.timedelta(days=3)
_SLIDES = (Rule("all", Criteria(modality=("SM",))),)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a ledger in which an archive is watched; to set one up takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "ledger.db"
    with Ledger(f"sqlite:///{path}", path.parent) as opened:
        opened.arrivals.open("pacs", Place())
    return path


@pytest.fixture
def ledger(empty: Path, tmp_path: Path) -> Iterator[Ledger]:
    """Open a copy of it."""
    copy = Path(shutil.copy(empty, tmp_path))
    with Ledger(f"sqlite:///{copy}", tmp_path / "checkpoints") as opened:
        yield opened


def reconciler(server: HostileServer, ledger: Ledger, days: int = 3, every_s: float = 900.0) -> Reconciler:
    """Return the reconciliation of a server's archive."""
    settings = WatchSettings(reconcile_days=days, reconcile_s=every_s)
    return Reconciler(Endpoint(server.url, "pacs"), ledger.arrivals, _SLIDES, settings)


def searches_of(server: HostileServer) -> Searches:
    """Return searches of a server by hand."""
    return Searches(Endpoint(server.url, "pacs"), _SLIDES, WatchSettings())


def arrived(ledger: Ledger) -> list[Arrival]:
    """Return every arrival, whatever became of it."""
    return [one for state in ArrivalState for one in ledger.arrivals.items("pacs", state)]


def pairs(ledger: Ledger) -> list[tuple[str, str]]:
    """Return the UIDs of every arrival that nothing has happened to but its coming."""
    return sorted((one.study_uid, one.series_uid) for one in arrived(ledger) if one.version == 1)


def recent(studies: int, a_day: int = 60, **more: object) -> MadeUp:
    """Return an archive of the last days."""
    return MadeUp(studies, a_day, _FIRST, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "holdings",
    [
        recent(0),
        recent(230, most=40),
        recent(150, ignores={"limit", "offset"}),
        recent(60, leaves_out={"00080020"}),
        recent(60, relational=400),
    ],
    ids=str,
)
def test_everything_arrives_once_whatever_the_server_does(holdings: MadeUp, ledger: Ledger) -> None:
    """And a second search, in which nothing is new, writes no arrival."""
    with hostile_server(holdings) as server:
        one = reconciler(server, ledger)
        assert one.search()
        assert pairs(ledger) == sorted(holdings.series)
        first, before = len(server.asked), arrived(ledger)
        assert one.search()
        assert len(server.asked) == 2 * first
    assert [replace(one, now=0) for one in arrived(ledger)] == [replace(one, now=0) for one in before]
    record = ledger.arrivals.find("pacs")
    assert record is not None
    assert record.search.listed
    assert record.reconciled_at is not None


def test_what_is_no_slide_of_these_days_does_not_arrive(ledger: Ledger) -> None:
    """Other modalities, results that Slidewire wrote, other days."""
    for holdings in (
        recent(5, modalities=("CT", "ANN")),
        recent(5, added={"00080070": MAKER, "00081090": PRODUCT}),
        MadeUp(30, 10, _FIRST - dt.timedelta(days=30)),
    ):
        with hostile_server(holdings) as server:
            assert reconciler(server, ledger).search()
    assert arrived(ledger) == []


def test_whole_archive_if_the_settings_say_so(ledger: Ledger) -> None:
    """With no number of days, every study is searched for, by no date."""
    holdings = MadeUp(130, 10, _FIRST - dt.timedelta(days=3000))
    with hostile_server(holdings) as server:
        assert reconciler(server, ledger, days=0).search()
        assert not any("StudyDate" in search for search in searches(server.asked))
    assert pairs(ledger) == sorted(holdings.series)


def test_watch_that_nobody_has_opened_waits(tmp_path: Path) -> None:
    """Before the place in the event log is known, nothing is searched: what came between would be missed."""
    with Ledger(f"sqlite:///{tmp_path / 'new.db'}", tmp_path) as fresh, hostile_server(recent(3)) as server:
        assert not reconciler(server, fresh).search()
        assert server.asked == []


@pytest.mark.parametrize("status", [403, 400])
def test_search_that_breaks_off_goes_on_at_its_page(status: int, ledger: Ledger) -> None:
    """What was found stays, and is not asked for again by the next process."""
    holdings, broken = recent(230, a_day=60), True

    def answer(asked: Asked) -> Answer:
        last = f"{_FIRST + dt.timedelta(days=3):%Y%m%d}"
        return Answer(status) if broken and f"-{last}" in asked.path else holdings(asked)

    with hostile_server(answer) as server:
        with pytest.raises(AccessDenied if status == 403 else ResponseInvalid):
            reconciler(server, ledger).search()
        assert len(arrived(ledger)) == 3 * 60
        broken, server.asked = False, []
        assert reconciler(server, ledger).search()
        assert f"{_FIRST:%Y%m%d}-{_FIRST:%Y%m%d}" not in {search["StudyDate"] for search in searches(server.asked)}
    assert pairs(ledger) == sorted(holdings.series)


def test_woken_it_begins_anew(ledger: Ledger) -> None:
    """Also where a search had been broken off: what events lost may lie before the page at hand; once is enough."""
    holdings, broken = recent(120, a_day=60), True
    first = f"{_FIRST:%Y%m%d}-{_FIRST:%Y%m%d}"

    def answer(asked: Asked) -> Answer:
        return Answer(403) if broken and f"{_FIRST + dt.timedelta(days=1):%Y%m%d}" in asked.path else holdings(asked)

    with hostile_server(answer) as server:
        one = reconciler(server, ledger)
        for _ in range(2):
            with pytest.raises(AccessDenied):
                one.search()
        assert _searches_of(server, first) == 2  # the page, and that there is none after it
        broken = False
        one.wake()
        one.search()
        assert _searches_of(server, first) == 2 * 2
        one.search()
        assert _searches_of(server, first) == 3 * 2
    assert pairs(ledger) == sorted(holdings.series)


def _searches_of(server: HostileServer, days: str) -> int:
    return sum(search.get("StudyDate") == days for search in searches(server.asked))


def test_two_at_once_share_the_way(ledger: Ledger) -> None:
    """Each page is written by one of them, and nothing arrives twice."""
    holdings = recent(400, a_day=110)
    with hostile_server(holdings) as server:
        both = [threading.Thread(target=reconciler(server, ledger).search) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    assert pairs(ledger) == sorted(holdings.series)


def test_slide_without_a_date_arrives(ledger: Ledger) -> None:
    """Where the server finds it before any day, as Orthanc does; where it gives any study for that, nothing goes on."""
    holdings = recent(3)

    def answer(asked: Asked) -> Answer:
        if "StudyDate" in asked.path and "-18000101" not in asked.path:
            return Answer(204)
        said = holdings(replace(asked, path=asked.path.replace("StudyDate=-18000101&", "")))
        return Answer(said.status, said.body.replace(f'["{_FIRST:%Y%m%d}"]'.encode(), b"[]"), said.headers)

    with hostile_server(answer) as server:
        reconciler(server, ledger).search()
    assert pairs(ledger) == sorted(holdings.series)
    with (
        hostile_server(recent(250, ignores={"StudyDate"})) as server,
        pytest.raises(ResponseInvalid, match="other days"),
    ):
        reconciler(server, ledger).search()
    assert len(server.asked) == 2


def settle_all(ledger: Ledger, state: ArrivalState = ArrivalState.SUBMITTED, code: str = "") -> None:
    """Let every series have been looked at."""
    with ledger._db.write() as connection:
        connection.exec_driver_sql(f"UPDATE arrival SET state = '{state}', code = '{code}'")


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda one: one.added.update({"00201209": 7}), False),
        (lambda one: one.added.update({"00201209": 8}), True),
        (lambda one: one.added.update({"00201209": 6}), True),
    ],
)
def test_another_number_of_instances_is_news(
    change: Callable[[MadeUp], None],
    ledger: Ledger,
    *,
    again: bool,
) -> None:
    """A settled series that has more or fewer now is looked at again, once; others stay settled."""
    holdings = recent(3, added={"00201209": 7})
    with hostile_server(holdings) as server:
        one = reconciler(server, ledger)
        one.search()
        settle_all(ledger)
        change(holdings)
        for _ in range(2):
            one.search()
    assert {(one.version, one.state) for one in arrived(ledger)} == {
        (2, ArrivalState.SETTLING) if again else (1, ArrivalState.SUBMITTED)
    }


def test_fails_now_and_then_and_goes_on(ledger: Ledger) -> None:
    """A thread that a server denies access to tries again, and not at once."""
    holdings, denied = recent(3), iter([403])
    asked_at = []

    def answer(asked: Asked) -> Answer:
        asked_at.append(dt.datetime.now(dt.UTC))
        status = next(denied, None)
        return Answer(status) if status else holdings(asked)

    with hostile_server(answer) as server:
        one = reconciler(server, ledger)
        one.start()
        wait_until(lambda: len(arrived(ledger)) == 3, "the slides")
        one.stop()
        assert not one.is_alive()
    assert (asked_at[1] - asked_at[0]).total_seconds() > 0.5


def test_stop_does_not_wait_for_the_next_search(ledger: Ledger) -> None:
    """It ends between searches at once, and wakes for one without delay once it may."""
    with hostile_server(recent(0)) as server:
        one = reconciler(server, ledger, every_s=900.0)
        one.start()
        wait_until(lambda: bool((record := ledger.arrivals.find("pacs")) and record.reconciled_at), "the first search")
        before = dt.datetime.now(dt.UTC)
        one.stop()
        assert (dt.datetime.now(dt.UTC) - before).total_seconds() < 2.0
        assert not one.is_alive()


def test_bug_is_told_without_its_text_and_does_not_end_it(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception that nobody foresaw holds up one search; its text may hold anything."""
    with hostile_server(recent(3)) as server:
        one = reconciler(server, ledger)
        real, broken = one.search, iter([KeyError("1.2.3.4567")])

        def search() -> bool:
            if error := next(broken, None):
                raise error
            return real()

        monkeypatch.setattr(one, "search", search)
        one.start()
        wait_until(lambda: len(arrived(ledger)) == 3, "the slides")
        one.stop()
    said = capsys.readouterr()
    assert "1.2.3.4567" not in said.out + said.err


def test_once_by_hand_moves_no_cursor(ledger: Ledger) -> None:
    """Older days are gone through beside the watch's own searches; it can be stopped, and done again."""
    holdings = MadeUp(150, 10, _FIRST - dt.timedelta(days=30))
    before = ledger.arrivals.find("pacs")
    with hostile_server(holdings) as server:
        searched = searches_of(server)
        assert search_once(searched, ledger.arrivals, None, Cancellation()) == 0
        first = _FIRST - dt.timedelta(days=25)
        assert search_once(searched, ledger.arrivals, first, Cancellation()) == 100
        assert search_once(searched, ledger.arrivals, first, Cancellation()) == 0
        stopped = Cancellation()
        stopped.cancel()
        with pytest.raises(Interrupted):
            search_once(searched, ledger.arrivals, first, stopped)
    after = ledger.arrivals.find("pacs")
    assert before is not None
    assert after is not None
    assert (after.search, after.reconciled_at) == (before.search, None)
    with hostile_server(lambda _: Answer(403)) as server, pytest.raises(AccessDenied):
        search_once(searches_of(server), ledger.arrivals, first, Cancellation())


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([("SM",)], {"SM"}),
        ([("sm",), ("SM", "xc")], {"SM", "XC"}),
        ([("SM",), ("S?",)], {"SM", "*"}),
        ([("SM",), ()], {"SM", "*"}),
        ([], set()),
    ],
)
def test_modalities_are_those_of_all_rules(asked: list[tuple[str, ...]], expected: set[str]) -> None:
    """A pattern, or a rule that does not ask, means any; rules for other archives do not count."""
    rules = [Rule(str(number), Criteria(modality=one)) for number, one in enumerate(asked)]
    others = [Rule("other", Criteria(endpoints=("archive*",), modality=("CT",)))]
    assert modalities_of(rules + others, "pacs") == expected
    assert modalities_of(rules + others, "Archive2") == expected | {"CT"}
