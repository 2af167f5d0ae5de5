"""Orthanc's event log: ``/changes`` of its REST API, which numbers what came in.

Numbers have gaps: the entry of an instance that is deleted or overwritten goes with it. ``Last`` of an empty page is
the highest number ever given (of ``?last``, the highest that is still there), also after the log was emptied, and
survives a crash. ``StableSeries`` never comes if Orthanc is killed at the wrong moment, and comes again with each late
instance; so ``NewInstance`` decides, and it only says that a series is there. All measured with Orthanc 1.10.1.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from connectors.dicom.attributes import Json
from connectors.endpoints import Endpoint, require_uid
from connectors.http import HttpSession, json_of
from connectors.intake.orthanc_series import API, OrthancSeries, StoredSeries
from connectors.intake.protocol import Events, Place, Sighting
from models.domain.errors import RequestError, ResponseInvalid, SettingsInvalid

_PAGE = 1000  # entries of some 300 characters
_PAGE_BYTES = 8 << 20
_LARGEST = (1 << 63) - 1  # what SQLite, and Orthanc's own index, can count to
_READ_S, _TOTAL_S = 20.0, 60.0  # for answers as small as these; nobody who wants to leave waits for longer
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")
_CAME = {"NewInstance": "instances", "NewSeries": "series"}
_STABLE = {"StableSeries": "series"}


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    mark: str
    change: str
    id: str


@dataclass(frozen=True, slots=True)
class _Page:
    entries: tuple[_Entry, ...]
    last: int
    done: bool


class OrthancLog:
    """Reads the event log of one Orthanc; an `EventLog`.

    A look at a log in which nothing happened is one request; a page with events takes two more for each 500 of them.

    Parameters
    ----------
    endpoint : Endpoint
        With `orthanc_url`, which is asked with the endpoint's credentials, certificates and gate.

    Raises
    ------
    SettingsInvalid
        The endpoint has no `orthanc_url`.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        if not endpoint.orthanc_url:
            raise SettingsInvalid(
                f"The {endpoint.label} has no event log to follow: set its orthanc_url, for example "
                'orthanc_url = "http://pacs:8042".'
            )
        limits = endpoint.timeouts
        limits = replace(limits, read_s=min(limits.read_s, _READ_S), total_s=min(limits.total_s, _TOTAL_S))
        self._session = HttpSession(replace(endpoint, url=endpoint.orthanc_url, timeouts=limits))
        self._base, self._label = endpoint.orthanc_url, endpoint.label
        self._series = OrthancSeries(self._session)

    def head(self) -> Place:
        """Return the place of the last entry."""
        page = self._page("last", 0)
        if not page.entries:
            return Place(page.last)
        return _place(page.entries[-1])

    def read(self, after: Place) -> Events:
        """Return the page that follows a place, and whether that still is a place of this log.

        The entry there is fetched once more with each page: another one in its stead, or a log that ends before it,
        is a log that began anew (storage wiped or restored). If it is gone, or was never there and numbers after it
        are, the log may have been cut off.
        """
        since = after.cursor - 1 if after.mark else after.cursor
        page = self._page(f"since={since}&limit={_PAGE}", since)
        entries, mark = page.entries, after.mark
        if mark and entries and entries[0].number == after.cursor:
            another, gap = entries[0].mark != mark, False
            entries = entries[1:]
        else:
            another = not entries and page.last < since
            gap = bool(mark) or (bool(entries) and entries[0].number > after.cursor + 1)
            mark = ""
        if another:
            return Events(Place(), more=True, reset=True)
        series, unusable = self._seen(entries)
        return Events(
            _place(entries[-1]) if entries else Place(after.cursor, mark),
            series,
            more=bool(entries) and not page.done,
            truncated=gap and self._begins_after(after.cursor),
            unusable=unusable,
        )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _begins_after(self, cursor: int) -> bool:
        """Whether nothing up to a number is left; an entry that is gone alone was of an instance that is gone."""
        entries = self._page("since=0&limit=1", 0).entries
        return not entries or entries[0].number > cursor

    def _page(self, query: str, since: int) -> _Page:
        answer = self._session.fetch_once(f"{self._base}/changes?{query}", "application/json", frozenset(), _PAGE_BYTES)
        said = json_of(answer, self._label, json.loads, API)
        items = said.get("Changes") if isinstance(said, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ResponseInvalid(
                f"The {self._label} answered with no event log: is its orthanc_url that of an Orthanc?"
            )
        entries, last = tuple(map(_entry, items)), _number(said.get("Last"))
        numbers = [since, *(entry.number for entry in entries)]
        if any(high <= low for low, high in pairwise(numbers)):
            raise ResponseInvalid(f"The event log of the {self._label} is not in order, or not what was asked for.")
        if last < 0 or (entries and last < numbers[-1]):
            raise ResponseInvalid(f"The event log of the {self._label} does not say how far it goes.")
        return _Page(entries, last, said.get("Done") is not False)

    def _seen(self, entries: Sequence[_Entry]) -> tuple[tuple[Sighting, ...], int]:
        """Return the series that entries are about, and how many are left out."""
        came = {entry.id for entry in entries if entry.change in _CAME}
        wanted: dict[str, set[str]] = {"instances": set(), "series": set()}
        for entry in entries:
            kind = (_CAME | _STABLE).get(entry.change)
            if kind is not None and _ID.fullmatch(entry.id):
                wanted[kind].add(entry.id)
        if not any(wanted.values()):
            return (), 0
        stored = self._series.of(wanted["instances"], wanted["series"])
        usable = [one for one in stored if _has_uids(one)]
        return tuple(_series_seen(one, came) for one in usable), len(stored) - len(usable)


def _series_seen(one: StoredSeries, came: set[str]) -> Sighting:
    changed = one.id in came or not came.isdisjoint(one.instances)
    return Sighting(one.study_uid, one.series_uid, one.calling_aet, len(one.instances), changed)


def _has_uids(one: StoredSeries) -> bool:
    try:
        require_uid(one.study_uid, "Study Instance UID")
        require_uid(one.series_uid, "Series Instance UID")
    except RequestError:
        return False
    return True


def _place(entry: _Entry) -> Place:
    return Place(entry.number, entry.mark)


def _entry(item: Json) -> _Entry:
    what = [item.get(name) for name in ("ID", "ChangeType", "Date")]
    change, id_ = (value if isinstance(value, str) else "" for value in (what[1], what[0]))
    return _Entry(_number(item.get("Seq")), hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32], change, id_)


def _number(value: object) -> int:
    """Return what Orthanc counts with; -1 if it is nothing of the kind."""
    return value if type(value) is int and 0 <= value <= _LARGEST else -1
