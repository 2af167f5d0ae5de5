"""The event log of an Orthanc that misbehaves, over a real connection; the real one is in tests/integration."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors.endpoints import Credentials, Endpoint
from connectors.intake.orthanc import OrthancLog
from connectors.intake.protocol import Events, Place, Sighting
from models.domain.errors import (
    AccessDenied,
    EndpointFailed,
    EndpointNotAllowed,
    EndpointUnreachable,
    ResponseInvalid,
    SettingsInvalid,
)
from tests.services.hostile import Answer, Asked, HostileServer, hostile_server

_TYPE = {"Content-Type": "application/json"}
_BEGINNING = Place()
_TRUE: object = True  # which Python takes for the number 1


def id_of(number: int, kind: str = "a") -> str:
    """Return an id as Orthanc gives them."""
    return "-".join([f"{kind * 4}{number:04x}"] * 5)


@dataclass
class MadeUpOrthanc:
    """A log of so many series of one instance each, and what is said in its stead.

    Parameters
    ----------
    series : int
        Entries: NewInstance under each odd number, NewSeries under each even one.
    changes : object
        What /changes says, whatever is asked; None: the truth.
    bulk : object
        What /tools/bulk-content says; None: the truth; 404: it knows nothing of it.
    details : mapping
        Over what the truth about each series is.
    """

    series: int = 3
    changes: Any = None
    bulk: Any = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> Answer:
        """Answer a request."""
        split = urlsplit(asked.path.removeprefix("/dicom-web"))
        said: Any = None
        if split.path == "/changes":
            said = self._page(parse_qs(split.query, keep_blank_values=True)) if self.changes is None else self.changes
        elif split.path == "/tools/bulk-content":
            said = self._bulk(json.loads(asked.body)) if self.bulk is None else self.bulk
        else:
            _, kind, id_, *more = split.path.split("/")
            said = self._resource(kind, id_, [*more, split.query])
        if isinstance(said, int):
            return Answer(said, b"", _TYPE)
        return Answer(200, said if isinstance(said, bytes) else json.dumps(said).encode(), _TYPE)

    def entries(self) -> list[dict[str, Any]]:
        """Return the whole log."""
        return [
            entry(2 * number + offset, change, id_of(number, kind))
            for number in range(self.series)
            for offset, change, kind in ((1, "NewInstance", "a"), (2, "NewSeries", "b"))
        ]

    def _page(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        entries = self.entries()
        last = entries[-1]["Seq"] if entries else 0
        if "last" in query:
            return page(entries[-1:], last=last)
        since, limit = int(query["since"][0]), int(query["limit"][0])
        rest = [one for one in entries if one["Seq"] > since]
        return page(rest[:limit], last=rest[:limit][-1]["Seq"] if rest else last, done=len(rest) <= limit)

    def _bulk(self, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
        kind = {"Series": "b", "Study": "c"}[wanted["Level"]]
        numbers = sorted({int(id_[4:8], 16) for id_ in wanted["Resources"]})
        return [self._series(number) if kind == "b" else _study(number) for number in numbers]

    def _resource(self, kind: str, id_: str, more: list[str]) -> Any:
        number = int(id_[4:8], 16)
        if kind == "instances":
            return {"ID": id_, "ParentSeries": id_of(number, "b")}
        if kind == "studies":
            return _study(number)
        series = self._series(number)
        metadata = series.pop("Metadata")
        return metadata if more[0] == "metadata" else series

    def _series(self, number: int) -> dict[str, Any]:
        return {
            "ID": id_of(number, "b"), "Instances": [id_of(number)], "ParentStudy": id_of(number, "c"),
            "MainDicomTags": {"SeriesInstanceUID": f"1.2.{number}.1"}, "Metadata": {"RemoteAET": "SCANNER"},
        } | self.details  # fmt: skip


def _study(number: int) -> dict[str, Any]:
    return {"ID": id_of(number, "c"), "MainDicomTags": {"StudyInstanceUID": f"1.2.{number}"}}


def entry(number: object, change: object, id_: object, date: object = "20260101T000000") -> dict[str, Any]:
    """Return an entry of the log."""
    return {"Seq": number, "ChangeType": change, "ID": id_, "Date": date, "ResourceType": "x", "Path": "x"}


def page(entries: list[Any], last: object, *, done: object = True) -> dict[str, Any]:
    """Return a page of the log."""
    return {"Changes": entries, "Last": last, "Done": done}


@contextmanager
def opened(said: MadeUpOrthanc, endpoint: Endpoint | None = None) -> Iterator[tuple[OrthancLog, HostileServer]]:
    """Open the log of a server for the length of a block."""
    with hostile_server(said) as server:
        given = endpoint or Endpoint("http://127.0.0.1:9/dicom-web", "pacs")
        log = OrthancLog(replace(given, orthanc_url=server.url))
        try:
            yield log, server
        finally:
            log.close()


def read(said: MadeUpOrthanc, after: Place = _BEGINNING) -> Events:
    """Return one page."""
    with opened(said) as (log, _):
        return log.read(after)


def seen(*numbers: int, **changes: Any) -> tuple[Sighting, ...]:
    """Return what is to be seen of series of the made-up server."""
    return tuple(replace(Sighting(f"1.2.{number}", f"1.2.{number}.1", "SCANNER", 1), **changes) for number in numbers)


def test_log_is_read_from_a_place_on() -> None:
    """Each series once, with its UIDs, its sender and its number of instances; the next page follows."""
    with opened(MadeUpOrthanc()) as (log, server):
        first = log.read(_BEGINNING)
        assert (first.series, first.after.cursor, first.more, first.reset) == (seen(0, 1, 2), 6, False, False)
        again = log.read(first.after)
        assert again == Events(first.after)
        assert log.head() == first.after
        assert len(server.asked) == 5


def test_idle_look_is_one_request() -> None:
    """Nothing is asked but whether anything happened."""
    with opened(MadeUpOrthanc()) as (log, server):
        place = log.head()
        for _ in range(3):
            log.read(place)
        assert [asked.path.partition("/changes")[2] for asked in server.asked[1:]] == ["?since=5&limit=1000"] * 3


def test_log_of_several_pages() -> None:
    """A page has a thousand entries at most; 500 of them are looked up at a time."""
    with opened(MadeUpOrthanc(series=1200)) as (log, server):
        place, found, pages = Place(), list[Sighting](), 0
        while (events := log.read(place)).after != place:
            found, place, pages = [*found, *events.series], events.after, pages + 1
            assert events.more == (place.cursor < 2400)
        assert {one.series_uid for one in found} == {f"1.2.{number}.1" for number in range(1200)}
        assert pages == 3
        bulk = [json.loads(asked.body) for asked in server.stored]
        assert max(len(one["Resources"]) for one in bulk) == 500


@pytest.mark.parametrize("status", [404, 405])
def test_server_without_bulk_content(status: int) -> None:
    """One that is too old is asked one by one; it is not asked for bulk content again."""
    with opened(MadeUpOrthanc(bulk=status)) as (log, server):
        assert log.read(_BEGINNING).series == seen(0, 1, 2)
        assert log.read(_BEGINNING).series == seen(0, 1, 2)
        assert len(server.stored) == 1


def test_what_is_only_stable_has_not_changed() -> None:
    """StableSeries says that a series is there; with an instance in the same page, that it changed."""
    stable = [entry(number + 7, "StableSeries", id_of(number, "b")) for number in range(3)]
    log = [entry(7, "NewInstance", id_of(1)), *stable[1:]]
    assert read(MadeUpOrthanc(changes=page(stable, 9))).series == seen(0, 1, 2, changed=False)
    assert read(MadeUpOrthanc(changes=page(log, 9))).series == (*seen(1), *seen(2, changed=False))


def test_other_changes_are_passed_over() -> None:
    """Whatever kinds of changes there are, and ids that are none: they are read, and nothing is looked up."""
    kinds = ["StableStudy", "NewPatient", "UpdatedMetadata", "Deleted", "", None, 7, ["NewInstance"]]
    odd = [entry(number + 1, kind, id_of(1)) for number, kind in enumerate(kinds)]
    odd += [
        entry(20, "NewInstance", "../../patients"),
        entry(21, "NewSeries", None),
        entry(22, "NewSeries", id_of(1) * 2),
    ]
    with opened(MadeUpOrthanc(changes=page(odd, 22))) as (log, server):
        events = log.read(_BEGINNING)
        assert (events.series, events.after.cursor) == ((), 22)
        assert len(server.asked) == 1


def test_deleted_meanwhile_is_no_error() -> None:
    """What the log names and the server no longer has is left out, be it a series or its study."""
    assert read(MadeUpOrthanc(bulk=[])).series == ()
    assert read(MadeUpOrthanc(details={"ParentStudy": "gone"}, bulk=[{"ID": "x", "ParentStudy": "gone"}])).series == ()


@pytest.mark.parametrize("uid", ["", "1.2.x", "1." * 40 + "1", "../..", None, 7])
def test_series_without_uids_is_left_out(uid: object) -> None:
    """It cannot be asked for; that there was one is said, and the log is read on."""
    events = read(MadeUpOrthanc(details={"MainDicomTags": {"SeriesInstanceUID": uid}}))
    assert (events.series, events.unusable, events.after.cursor) == ((), 3, 6)


@pytest.mark.parametrize(
    ("metadata", "aet"),
    [({"RemoteAET": " SCAN 1 "}, "SCAN 1"), ({}, ""), (None, ""), ({"RemoteAET": 7}, ""),
     ({"RemoteAET": "A\0B"}, ""), ({"RemoteAET": "A" * 65}, "")],
)  # fmt: skip
def test_who_sent_it_as_far_as_that_can_be_told(metadata: object, aet: str) -> None:
    """A database takes no NUL, and an AE title has 16 characters (PS3.5 6.2)."""
    assert {one.calling_aet for one in read(MadeUpOrthanc(details={"Metadata": metadata})).series} == {aet}


@pytest.mark.parametrize("instances", [None, 7, {"a": 1}, [7, None, id_of(0)]])
def test_odd_list_of_instances(instances: object) -> None:
    """A series whose instances cannot be told still came, as its own entry says."""
    found = read(MadeUpOrthanc(details={"Instances": instances})).series
    assert len(found) == 3
    assert all(one.changed for one in found)


@pytest.mark.parametrize(
    "changes",
    [
        [], "text", {}, page([], -1), page([], None), page([], _TRUE), page([], 1 << 63),
        page([7], 7), page([{}], 7), page([entry("1", "NewSeries", "")], 7), page([entry(_TRUE, "NewSeries", "")], 7),
        page([entry(1 << 63, "NewSeries", "")], (1 << 63) - 1), page([entry(0, "NewSeries", "")], 7),
        page([entry(2, "", ""), entry(1, "", "")], 7), page([entry(2, "", ""), entry(2, "", "")], 7),
        page([entry(5, "", "")], 4), {"Changes": {}, "Last": 1, "Done": True}, b"<html>", b"[" * 100_000,
    ],
)  # fmt: skip
def test_answer_that_is_no_log(changes: object) -> None:
    """Wrong types, numbers that do not rise or are before what was asked for, an end before the last entry."""
    with pytest.raises(ResponseInvalid) as caught:
        read(MadeUpOrthanc(changes=changes))
    assert "pacs" in caught.value.message


@pytest.mark.parametrize("bulk", [{}, "x", [7], [[]], b"<html>", "text"])
def test_answer_that_is_no_list_of_resources(bulk: object) -> None:
    """Nothing of the page is taken: it is read again."""
    with pytest.raises(ResponseInvalid):
        read(MadeUpOrthanc(bulk=bulk))


@pytest.mark.parametrize(("status", "error"), [(401, AccessDenied), (500, EndpointFailed), (302, ResponseInvalid)])
def test_server_that_refuses(status: int, error: type[Exception]) -> None:
    """Each is the error that it is anywhere else; none is tried again here."""
    with opened(MadeUpOrthanc(changes=status)) as (log, server), pytest.raises(error):
        log.read(_BEGINNING)
    assert len(server.asked) == 1
    with pytest.raises(error):
        read(MadeUpOrthanc(bulk=status))


def test_page_of_another_kind() -> None:
    """A login page is no log, and an endless one is given up."""
    with hostile_server(lambda _: Answer(200, b"<html>", {"Content-Type": "text/html"})) as server:
        log = OrthancLog(Endpoint(server.url, "pacs", orthanc_url=server.url))
        with pytest.raises(ResponseInvalid, match="orthanc_url"):
            log.read(_BEGINNING)
    with pytest.raises(ResponseInvalid, match="more than"):
        read(MadeUpOrthanc(changes=b" " * (9 << 20)))


def test_log_that_says_that_there_is_more_and_gives_nothing() -> None:
    """`Done` is never true: without an entry there is no next page."""
    assert not read(MadeUpOrthanc(changes=page([], 7, done=False)), Place(7)).more
    stands = read(MadeUpOrthanc()).after
    same = MadeUpOrthanc(changes=page([MadeUpOrthanc().entries()[-1]], 6, done=False))
    assert read(same, stands) == Events(stands)


@pytest.mark.parametrize("there", [MadeUpOrthanc(series=2), MadeUpOrthanc(series=0)])
def test_log_that_ends_before_our_place_is_another(there: MadeUpOrthanc) -> None:
    """The storage was wiped, or a backup restored: the log is read from its beginning."""
    assert read(there, Place(6, "mark")) == Events(_BEGINNING, more=True, reset=True)
    assert read(there, Place(6)) == Events(_BEGINNING, more=True, reset=True)


def test_other_entry_under_our_number_is_another_log() -> None:
    """As long as the old log was, or longer: the entry that was read last tells them apart."""
    old = read(MadeUpOrthanc()).after
    for changed in ({"ID": id_of(9, "b")}, {"ChangeType": "StableSeries"}, {"Date": "20270101T000000"}):
        entries = [one | changed if one["Seq"] == 6 else one for one in MadeUpOrthanc(series=5).entries()]
        assert read(MadeUpOrthanc(changes=page(entries[5:], 10)), old) == Events(_BEGINNING, more=True, reset=True)
    assert read(MadeUpOrthanc(series=5), old).series == seen(3, 4)


def test_entry_that_is_gone_is_no_other_log() -> None:
    """Its instance was deleted or overwritten: reading goes on, and the place is no longer compared."""
    for more in ([], [entry(9, "NewInstance", id_of(1))]):
        earlier = [entry(2, "NewSeries", id_of(0, "b"))]

        def answer(asked: Asked, more: list[Any] = more, earlier: list[Any] = earlier) -> Answer:
            said = page(earlier, 2) if "since=0" in asked.path else page(more, 9 if more else 6)
            return Answer(200, json.dumps(said).encode(), _TYPE) if "/changes" in asked.path else MadeUpOrthanc()(asked)

        with hostile_server(answer) as server:
            events = OrthancLog(Endpoint(server.url, "pacs", orthanc_url=server.url)).read(Place(6, "mark"))
        assert (events.reset, events.truncated) == (False, False)
        assert (events.after == Place(6)) == (not more)
        assert events.series == (seen(1) if more else ())


def test_log_of_which_nothing_up_to_our_place_is_left_was_cut_off() -> None:
    """What it had may have been more than was read; without a number that was passed over it was not."""
    assert read(MadeUpOrthanc(changes=page([], 6)), Place(6, "mark")) == Events(Place(6), truncated=True)
    assert read(MadeUpOrthanc(changes=page([], 6)), Place(6)) == Events(Place(6))
    later = read(MadeUpOrthanc(changes=page([entry(9, "NewInstance", id_of(1))], 9)), Place(6, "mark"))
    assert (later.truncated, later.reset, later.series) == (True, False, seen(1))
    for number, truncated in ((7, False), (8, True)):
        unmarked = read(MadeUpOrthanc(changes=page([entry(number, "", "")], number)), Place(6))
        assert (unmarked.truncated, unmarked.after.cursor) == (truncated, number)


def test_head_of_an_empty_log() -> None:
    """The number that was given last counts, also where no entry is left."""
    for last in (0, 15):
        with opened(MadeUpOrthanc(changes=page([], last))) as (log, _):
            assert log.head() == Place(last)


def test_endpoint_without_a_log() -> None:
    """The setting is named, with an example."""
    with pytest.raises(SettingsInvalid, match="orthanc_url = "):
        OrthancLog(Endpoint("http://127.0.0.1:9", "pacs"))


def test_password_goes_to_this_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint's credentials are sent to its orthanc_url, which may be another host than its DICOMweb's."""
    monkeypatch.setenv("ORTHANC_PASSWORD", "canary")
    endpoint = Endpoint("http://127.0.0.1:9/dicom-web", "pacs", Credentials("basic", "us", "env:ORTHANC_PASSWORD"))
    with opened(MadeUpOrthanc(), endpoint) as (log, server):
        log.read(_BEGINNING)
        assert {asked.headers["Authorization"] for asked in server.asked} == {"Basic dXM6Y2FuYXJ5"}
        with pytest.raises(EndpointNotAllowed):
            log._session.get("http://127.0.0.1:9/changes")


def test_server_that_is_away() -> None:
    """Nobody listens: one try, and the error says which endpoint."""
    log = OrthancLog(Endpoint("http://127.0.0.1:9", "pacs", orthanc_url="http://127.0.0.1:9"))
    with pytest.raises(EndpointUnreachable, match="pacs"):
        log.head()
