"""Searching an archive, over a real connection to servers with the quirks of real ones."""

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from connectors.archive import PAGE, UNDATED, Archive, FoundSeries, Page, Window
from connectors.dicom.result.derived import MAKER, PRODUCT
from connectors.endpoints import Endpoint
from models.domain.errors import AccessDenied, EndpointUnreachable, ResponseInvalid
from tests.services.hostile import Answer, Asked, HostileServer, hostile_server
from tests.services.http import Reply, StrictServer
from tests.services.orthanc import Orthanc
from tests.services.pacs import load, renamed
from tests.services.qido import MadeUp, searches
from tests.services.slides import SlideOnDisk

_JSON = {"Content-Type": "application/dicom+json"}
_DAY = dt.date(2020, 1, 1)


@contextmanager
def archive(endpoint: str, modality: str = "SM") -> Iterator[Archive]:
    """Open an archive for the length of a block."""
    opened = Archive(Endpoint(endpoint, "pacs"), {modality})
    try:
        yield opened
    finally:
        opened.close()


def page_of(holdings: MadeUp, window: Window, offset: int = 0) -> tuple[Page, HostileServer]:
    """Return one page of a made-up archive, and the server that gave it."""
    with hostile_server(holdings) as server, archive(server.url) as opened:
        return opened.page(window, offset), server


def test_nothing_found_is_no_error() -> None:
    """204 without a body means that there are no (more) studies."""
    page, _ = page_of(MadeUp(0), Window())
    assert (page.studies, page.series) == (0, ())


def test_html_is_an_error(server: StrictServer) -> None:
    """A login page in place of results is not taken for an empty archive."""
    server.replies = [Reply(200, b"<html>sign in</html>", {"Content-Type": "text/html"})]
    with archive(server.url) as opened, pytest.raises(ResponseInvalid, match="instead of JSON"):
        opened.page(Window(), 0)


@pytest.mark.parametrize("body", [b'{"a": 1}', b'["1.2.3"]'])
def test_json_that_is_no_list_of_results_is_an_error(server: StrictServer, body: bytes) -> None:
    """JSON of another shape is not taken for an empty archive."""
    server.replies = [Reply(200, body, _JSON)]
    with archive(server.url) as opened, pytest.raises(ResponseInvalid, match="no list of results"):
        opened.page(Window(), 0)


def test_wrong_address_is_an_error(server: StrictServer) -> None:
    """404 to the search itself is not taken for an empty archive."""
    server.replies = [Reply(404)]
    with archive(server.url) as opened, pytest.raises(ResponseInvalid, match="404"):
        opened.page(Window(), 0)


def test_server_that_goes_away_in_a_page() -> None:
    """A page of which the series cannot be had is no page: nothing of it is returned."""
    holdings = MadeUp(5)

    def answer(asked: Asked) -> Answer:
        return Answer(401) if "/series" in asked.path else holdings(asked)

    with hostile_server(answer) as server, archive(server.url) as opened, pytest.raises(AccessDenied):
        opened.page(Window(), 0)


def test_torn_answer_is_tried_again(server: StrictServer) -> None:
    """An answer that breaks off is asked for again, and reported if it never comes."""
    server.replies = [Reply(200, b"[" + b" " * 1000 + b"]", _JSON, cut=500)]
    with archive(server.url) as opened, pytest.raises(EndpointUnreachable):
        opened.page(Window(), 0)
    assert len(server.asked) > 1


def test_studies_of_other_days_are_noticed() -> None:
    """A server that ignores StudyDate is told from one that heeds it."""
    holdings = MadeUp(30, ignores={"StudyDate"})
    with pytest.raises(ResponseInvalid, match="other days"):
        page_of(holdings, Window(_DAY, _DAY))


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(_DAY, _DAY), 10),
        (Window(_DAY, dt.date(2020, 1, 3)), 30),
        (Window(None, dt.date(2020, 1, 2)), 20),
        (Window(dt.date(2020, 1, 3), None), 10),
        (Window(), 30),
    ],
)
def test_days_are_both_included(window: Window, expected: int) -> None:
    """A window holds its first and its last day."""
    page, _ = page_of(MadeUp(30), window)
    assert (page.studies, len(page.series)) == (expected, expected)


def test_only_the_modality_is_found_and_asked_for_here() -> None:
    """Other series are passed over; the server is never asked for a modality: Orthanc 1.10 then loses studies."""
    holdings = MadeUp(3, modalities=("CT", "SM", "ANN", "SR"))
    page, server = page_of(holdings, Window())
    assert {(one.study_uid, one.series_uid) for one in page.series} == holdings.series
    assert all("SM" not in asked.path for asked in server.asked)


def test_studies_of_other_modalities_are_not_opened() -> None:
    """A study that says it holds no slide costs no further request; one that says nothing is looked into."""
    page, server = page_of(MadeUp(7, modalities=("CT",)), Window())
    assert (page.studies, page.series, len(server.asked)) == (7, (), 1)
    page, server = page_of(MadeUp(7, modalities=("CT",), leaves_out={"00080061"}), Window())
    assert (page.studies, page.series, len(server.asked)) == (7, (), 2)


def test_series_of_many_studies_cost_one_request() -> None:
    """As long as they come in one page, and their UIDs fit into a URL; each study is in one search."""
    page, server = page_of(MadeUp(PAGE, modalities=("SM", "SR", "ANN")), Window())
    assert len(page.series) == PAGE
    assert len(server.asked) == 1 + -(-PAGE // (PAGE // 3))
    with hostile_server(MadeUp(PAGE)) as server:
        characters = 500
        opened = Archive(Endpoint(server.url, "pacs", url_characters=characters), {"SM"})
        assert {(one.study_uid, one.series_uid) for one in opened.page(Window(), 0).series} == MadeUp(PAGE).series
        opened.close()
        paths = [asked.path for asked in server.asked if "/series" in asked.path]
        assert max(len(path) for path in paths) < characters - len("http://127.0.0.1:1")
        assert len(paths) < PAGE / 10


@pytest.mark.parametrize(
    ("holdings", "asked"),
    [
        (MadeUp(9, relational=404), 1 + 1 + 9),
        (MadeUp(9, relational=400), 1 + 1 + 9),
        (MadeUp(9, relational=500), 1 + 1 + 9),
        (MadeUp(9, relational=501), 1 + 1 + 9),
        (MadeUp(9, most=7), 2 + 2 + 4),
        (MadeUp(500, a_day=500, modalities=("SM",), ignores={"StudyInstanceUID"}), 1 + 1 + 100),
    ],
    ids=str,
)
def test_list_that_is_not_heeded_costs_nothing_but_requests(holdings: MadeUp, asked: int) -> None:
    """A server that refuses the list, ignores it or cuts the answer off is asked for the series of each study."""
    offset = 400 if holdings.studies == 500 else 0
    with hostile_server(holdings) as server, archive(server.url) as opened:
        found = {(one.study_uid, one.series_uid) for one in opened.page(Window(), offset).series}
        if holdings.most == 7:
            found |= {(one.study_uid, one.series_uid) for one in opened.page(Window(), 7).series}
        assert len(server.asked) == asked
    assert found == (holdings.series if not offset else {pair for pair in holdings.series if int(pair[0][6:]) >= 400})


def test_refused_list_is_not_tried_again() -> None:
    """The second page of a server that takes no list goes study by study at once."""
    with hostile_server(MadeUp(2 * PAGE, a_day=2 * PAGE, relational=400)) as server, archive(server.url) as opened:
        opened.page(Window(), 0)
        opened.page(Window(), PAGE)
        assert sum("StudyInstanceUID=" in asked.path for asked in server.asked) == 1


@pytest.mark.parametrize(("said", "expected"), [("7", 7), (7, 7), ("", 0), ("-3", 0), ("1e9", 0), (10**12, 0)])
def test_number_of_instances_is_what_the_server_says(said: str | int, expected: int) -> None:
    """As far as it is one."""
    page, _ = page_of(MadeUp(3, added={"00201209": said}), Window())
    assert [one.instances for one in page.series] == [expected] * 3


@pytest.mark.parametrize("modalities", [{"SM", "XC"}, {"*"}, {"*", "SM"}])
def test_several_modalities(modalities: set[str]) -> None:
    """Those that are named, or any."""
    with hostile_server(MadeUp(2, modalities=("CT", "SM", "XC"))) as server:
        opened = Archive(Endpoint(server.url, "pacs"), modalities)
        found = opened.page(Window(), 0).series
        opened.close()
    assert len(found) == 2 * (3 if "*" in modalities else 2)


@pytest.mark.parametrize("leaves_out", [set(), {"00201206"}])
@pytest.mark.parametrize("ignores", [set(), {"offset"}, {"limit"}, {"limit", "offset"}])
def test_all_series_of_a_study_are_found_once(ignores: set[str], leaves_out: set[str]) -> None:
    """A study of more series than a page holds is paged through, if the server can; else given in one."""
    number = PAGE + 30 if "offset" not in ignores else PAGE - 1
    holdings = MadeUp(1, modalities=("SM",) * number, ignores=ignores, leaves_out=leaves_out)
    page, _ = page_of(holdings, Window())
    assert sorted((one.study_uid, one.series_uid) for one in page.series) == sorted(holdings.series)


def test_series_that_cannot_be_paged_through_are_told() -> None:
    """A study whose further series cannot be had is reported as such, and does not stop the others."""
    holdings = MadeUp(1, modalities=("SM",) * (PAGE + 5), ignores={"offset"})
    page, _ = page_of(holdings, Window())
    assert page.series == (FoundSeries("1.2.3.0", "", "RESPONSE_INVALID"),)


def test_uids_that_are_none_are_told() -> None:
    """What is no UID is never put into a URL; the rest of the page is found."""
    holdings = MadeUp(2, modalities=("SM",))

    def answer(asked: Asked) -> Answer:
        said = holdings(asked)
        body = said.body.replace(b'"1.2.3.0"', b'"../1"').replace(b'"1.2.3.1.0"', b'"' + b"x" * 99 + b'"')
        return Answer(said.status, body, said.headers)

    with hostile_server(answer) as server, archive(server.url) as opened:
        page = opened.page(Window(), 0)
    invalid = "RESPONSE_INVALID"
    assert page.series == (FoundSeries("../1", "", invalid), FoundSeries("1.2.3.1", "x" * 64, invalid))
    assert not any(".." in asked.path for asked in server.asked)


def test_study_that_was_deleted_meanwhile() -> None:
    """A study that is gone when its series are asked for has none."""
    holdings = MadeUp(3)

    def answer(asked: Asked) -> Answer:
        if "1.2.3.1/series" in asked.path:
            return Answer(404)
        return holdings(replace(asked, path=asked.path.replace("1.2.3.0,1.2.3.1,1.2.3.2", "1.2.3.0,1.2.3.2")))

    with hostile_server(answer) as server, archive(server.url) as opened:
        found = opened.page(Window(), 0).series
    assert {one.study_uid for one in found} == {"1.2.3.0", "1.2.3.2"}


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ({"00080070": MAKER, "00081090": PRODUCT}, 0),
        ({"00080070": MAKER}, 3),
        ({"00080070": "Slidewire", "00081090": "Sample slide writer"}, 3),
    ],
)
def test_what_slidewire_wrote_is_passed_over(added: dict[str, str], expected: int) -> None:
    """A series that carries the mark of our own results is not found; the demo's slide is."""
    page, _ = page_of(MadeUp(3, added=added), Window())
    assert len(page.series) == expected


def test_same_page_has_the_same_digest() -> None:
    """Two pages are told apart by the studies they name, in whatever order."""
    holdings = MadeUp(PAGE * 2, a_day=PAGE * 2)

    def backwards(asked: Asked) -> Answer:
        said = holdings(asked)
        return Answer(said.status, json.dumps(json.loads(said.body)[::-1]).encode(), said.headers)

    with hostile_server(holdings) as server, archive(server.url) as opened:
        first, second = opened.page(Window(), 0), opened.page(Window(), PAGE)
        assert list(searches(server.asked))[1]["offset"] == str(PAGE)
    with hostile_server(backwards) as server, archive(server.url) as opened:
        assert opened.page(Window(), 0).digest == first.digest != second.digest


def test_orthanc_pages_through_days(
    cleared_orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A real server gives every slide of the days once, not those of other days, without a day, or no slides."""
    folder = tmp_path_factory.mktemp("archive")
    days = {"a": "20200101", "b": "20200102", "c": "20200103", "late": "20200201", "undated": ""}
    found = {
        name: load(cleared_orthanc, renamed(cmu_slide, folder / name, StudyDate=day, PatientID=name))
        for name, day in days.items()
    }
    load(cleared_orthanc, renamed(cmu_slide, folder / "ct", StudyDate="20200102", Modality="CT"))
    window = Window(None, dt.date(2020, 1, 31))
    with archive(cleared_orthanc.dicomweb) as opened:
        undated = opened.page(UNDATED, 0)
        pages = [opened.page(window, offset) for offset in range(6)]
    assert [one.series_uid for one in undated.series] == [found["undated"].slide.series_uid]
    expected = {found[name].slide.series_uid for name in "abc"}
    assert {one.instances for one in pages[0].series} == {len(cmu_slide.levels)}
    assert {one.series_uid for one in pages[0].series} == expected
    assert [page.studies for page in pages] == [5, 4, 3, 2, 1, 0]  # with the undated one, and the CT
