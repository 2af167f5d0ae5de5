"""The way through an archive: everything once, an end whatever the server does."""

import datetime as dt
from collections.abc import Iterator

import pytest

from connectors.archive import PAGE, UNDATED, Archive, FoundSeries, Window
from connectors.endpoints import Endpoint
from models.domain.errors import ResponseInvalid
from tests.services.hostile import hostile_server
from tests.services.qido import MadeUp, searches
from tests.unit.worker.backfill.orders import FIRST, TODAY, order, survey_of, walk
from worker.ledger.backfills import Cursor
from worker.survey import Survey


def pairs(found: list[FoundSeries]) -> list[tuple[str, str]]:
    """Return what was found, sorted, repetitions and all."""
    return sorted((one.study_uid, one.series_uid) for one in found)


@pytest.mark.parametrize(
    "holdings",
    [
        MadeUp(0),
        MadeUp(1),
        MadeUp(3 * PAGE, a_day=3 * PAGE),
        MadeUp(250, a_day=7),
        MadeUp(250, a_day=120, most=30),
        MadeUp(250, a_day=7, ignores={"limit"}),
        MadeUp(250, a_day=7, ignores={"offset"}),
        MadeUp(300, a_day=120, ignores={"limit", "offset"}),
        MadeUp(60, a_day=1, leaves_out={"00080020"}),
    ],
    ids=str,
)
def test_everything_is_found_once(holdings: MadeUp) -> None:
    """By days, whatever the server does with limits and offsets."""
    with hostile_server(holdings) as server:
        assert pairs(walk(survey_of(server, order()))) == sorted(holdings.series)


@pytest.mark.parametrize("ignores", [set(), {"limit"}, {"limit", "offset"}])
def test_everything_is_found_once_without_days(ignores: set[str]) -> None:
    """All at once, as long as the server pages, or gives everything."""
    holdings = MadeUp(250, ignores=ignores)
    with hostile_server(holdings) as server:
        assert pairs(walk(survey_of(server, order(None)))) == sorted(holdings.series)


@pytest.mark.parametrize("first", [FIRST, None])
def test_same_page_for_ever_is_an_error(first: dt.date | None) -> None:
    """A server that cuts a day off at the limit and ignores the offset cannot be searched; it is not asked for ever."""
    with (
        hostile_server(MadeUp(3 * PAGE, a_day=3 * PAGE, ignores={"offset"})) as server,
        pytest.raises(ResponseInvalid, match="for every offset"),
    ):
        walk(survey_of(server, order(first)))


def test_ignored_offset_is_gone_around_by_fewer_days() -> None:
    """Days that hold too many studies together are asked for by themselves."""
    holdings = MadeUp(2 * 90, a_day=90, first=dt.date(2020, 2, 20), ignores={"offset"})
    with hostile_server(holdings) as server:
        found = pairs(walk(survey_of(server, order())))
    assert sorted(set(found)) == sorted(holdings.series)


def test_endless_archive_comes_to_an_end() -> None:
    """A server that always has another page is given up after a million studies."""
    with hostile_server(MadeUp(2_000_000, modalities=("CT",))) as server:
        survey = survey_of(server, order(None))
        before, _ = survey.step(Cursor(seen=999_900, page="digest"))
        assert before.seen == 1_000_000
        with pytest.raises(ResponseInvalid, match="comes to no end"):
            survey.step(Cursor(seen=1_000_100, page="digest"))


def test_days_are_taken_together_where_there_are_few() -> None:
    """A year of nothing costs some tens of requests, not one a day; a busy archive is asked for day by day."""
    with hostile_server(MadeUp(0)) as server:
        walk(survey_of(server, order(TODAY - dt.timedelta(days=365))))
        assert len(server.asked) < 20
    with hostile_server(MadeUp(5 * PAGE, a_day=PAGE, modalities=("CT",))) as server:
        walk(survey_of(server, order(last=FIRST + dt.timedelta(days=4))))
        days = {search["StudyDate"] for search in searches(server.asked)}
        assert len(days) == 5


@pytest.mark.parametrize("last", [FIRST, FIRST + dt.timedelta(days=2), None])
def test_no_day_is_left_out_or_asked_for_besides(last: dt.date | None) -> None:
    """The windows follow one another from the first day to the last, or to the day after today."""
    with hostile_server(MadeUp(2000, a_day=10, modalities=("CT",))) as server:
        walk(survey_of(server, order(last=last)))
        windows = sorted({search["StudyDate"] for search in searches(server.asked)})
    days = [day for window in windows for day in _days(window)]
    end = last or TODAY + dt.timedelta(days=1)
    assert days == [FIRST + dt.timedelta(days=number) for number in range((end - FIRST).days + 1)]


def _days(window: str) -> Iterator[dt.date]:
    first, last = (dt.datetime.strptime(day, "%Y%m%d").date() for day in window.split("-"))  # noqa: DTZ007 - a day
    while first <= last:
        yield first
        first += dt.timedelta(days=1)


def test_search_goes_on_from_any_cursor() -> None:
    """Given up after any page and begun anew from the cursor, everything is found once."""
    holdings = MadeUp(230, a_day=120, most=40)
    with hostile_server(holdings) as server:
        cursor, found = survey_of(server, order()).start, []
        while not cursor.listed:
            cursor, series = survey_of(server, order()).step(cursor)
            found += series
    assert pairs(found) == sorted(holdings.series)


def test_search_up_to_today_goes_on_the_day_after() -> None:
    """A finished search without a last day looks again at the last days, and at those that came since."""
    tomorrow = TODAY + dt.timedelta(days=1)
    listed = Cursor("2020-02-20", tomorrow.isoformat(), 7, "digest", listed=True)
    with hostile_server(MadeUp(0)) as server:
        assert survey_of(server, order()).resumed(listed) == listed
        later = survey_of(server, order(), TODAY + dt.timedelta(days=5)).resumed(listed)
        assert later == Cursor("2020-02-29", "2020-02-29")
        half_way = Cursor("2020-02-20", "2020-02-21", 7, "digest")
        assert survey_of(server, order(), TODAY + dt.timedelta(days=5)).resumed(half_way) == half_way


@pytest.mark.parametrize(("first", "last"), [(FIRST, TODAY), (None, TODAY), (None, None)])
def test_finished_search_with_a_last_day_stays_finished(first: dt.date | None, last: dt.date | None) -> None:
    """What has an end is searched once."""
    listed = Cursor("2020-02-20" if first else "", TODAY.isoformat() if last else "", 7, "digest", listed=True)
    with hostile_server(MadeUp(0)) as server:
        asked = order(first, last)
        assert survey_of(server, asked, TODAY + dt.timedelta(days=5)).resumed(listed) == listed


def test_undated_studies_come_before_the_days() -> None:
    """A page of its own, then the days as ever; where there is no first day, all are asked for anyway."""
    with hostile_server(MadeUp(30)) as server:
        archive = Archive(Endpoint(server.url, "pacs"), {"SM"})
        for first in (FIRST, None):
            walk(Survey(archive, Window(first), TODAY, undated=True))
        archive.close()
        asked = [search.get("StudyDate", "") for search in searches(server.asked)]
    assert asked[0] == UNDATED.criterion
    assert asked[1].startswith(f"{FIRST:%Y%m%d}-")
    assert asked[-2:] == ["", ""]
    assert asked.count(UNDATED.criterion) == 1
