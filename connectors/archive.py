"""What an archive holds: the studies of some days page by page, by QIDO-RS, and their series of one modality."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from connectors.dicom.attributes import Json, integer, text, values_of
from connectors.dicom.result.derived import MAKER, PRODUCT
from connectors.endpoints import Endpoint, require_uid
from connectors.http import HttpSession, json_of
from models.domain.errors import RequestError, ResponseInvalid

PAGE = 100  # studies, or series, asked for at a time

_JSON = "application/dicom+json"
_PAGE_BYTES = 64 << 20  # a hundred studies are some hundred kB; a server that ignores `limit` may send all it has
_UID_CHARACTERS = 64
_NOT_THERE = frozenset({404, 410})
_STUDY, _SERIES, _MODALITY = "0020000D", "0020000E", "00080060"
_STUDY_DATE, _MODALITIES, _RELATED_SERIES = "00080020", "00080061", "00201206"
_MANUFACTURER, _MODEL = "00080070", "00081090"


@dataclass(frozen=True, slots=True)
class Window:
    """Days of study, both included; None: no bound on that side."""

    first: dt.date | None = None
    last: dt.date | None = None

    @property
    def criterion(self) -> str:
        """As a range of QIDO (PS3.4 C.2.2.2.5.1); "" if there is no bound."""
        first, last = (day.strftime("%Y%m%d") if day else "" for day in (self.first, self.last))
        return f"{first}-{last}" if first or last else ""

    def holds(self, study_date: str) -> bool:
        """Whether a date as DICOM writes it (YYYYMMDD) lies in it."""
        if self.first is not None and study_date < self.first.strftime("%Y%m%d"):
            return False
        return self.last is None or study_date <= self.last.strftime("%Y%m%d")


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series that the archive named; with the code of an error if it cannot be asked for."""

    study_uid: str
    series_uid: str
    error_code: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """An answer to one search.

    Parameters
    ----------
    studies : int
        That the server named; 0: there are no more.
    digest : str
        Of the studies' UIDs: the same for the same page.
    series : tuple of FoundSeries
        Of the modality, in those studies.
    """

    studies: int
    digest: str
    series: tuple[FoundSeries, ...]


class Archive:
    """Searches one server; bounded in memory whatever the server holds.

    Studies are searched by date only, and their modalities looked at here: Orthanc 1.10 loses studies when it is
    asked for a modality and for pages at once.

    Parameters
    ----------
    endpoint : Endpoint
    modality : str
        Of the series that are wanted.
    """

    def __init__(self, endpoint: Endpoint, modality: str) -> None:
        self._session = HttpSession(endpoint)
        self._base, self._label = endpoint.url.rstrip("/"), endpoint.label
        self._modality = modality

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def page(self, window: Window, offset: int) -> Page:
        """Return the series of the studies that come after the first `offset` ones of a window.

        Raises
        ------
        ResponseInvalid
            The server answers something else than was asked: studies of other days, or no studies at all.
        EndpointError
            It does not answer; nothing was skipped.
        """
        dated = f"StudyDate={window.criterion}&" if window.criterion else ""
        fields = f"includefield={_MODALITIES}&includefield={_RELATED_SERIES}"
        studies = self._search(f"studies?{dated}{fields}&limit={PAGE}&offset={offset}")
        wanted = [study for study in studies if self._wanted(study, window)]
        found = [series for study in wanted for series in self._series_of(study)]
        return Page(len(studies), _digest(studies, _STUDY), tuple(found))

    def _wanted(self, study: Json, window: Window) -> bool:
        date = text(study, _STUDY_DATE)
        if date and not window.holds(date):
            raise ResponseInvalid(
                f"The {self._label} answers a search for days with studies of other days: search without --from and "
                "--to."
            )
        if window.criterion and _STUDY_DATE in study and not date:
            return False  # Orthanc finds studies without a date before any day
        modalities = values_of(study, _MODALITIES)
        return not modalities or self._modality in modalities

    def _series_of(self, study: Json) -> list[FoundSeries]:
        """Return the study's series of the modality; what cannot be asked for, with the code of the error."""
        study_uid = text(study, _STUDY)
        try:
            require_uid(study_uid, "Study Instance UID")
            items = list(self._all_series(study_uid, integer(study, _RELATED_SERIES)))
        except (RequestError, ResponseInvalid):
            return [FoundSeries(study_uid[:_UID_CHARACTERS], "", str(ResponseInvalid.code))]
        return [_found(study_uid, text(item, _SERIES)) for item in items if self._is_slide(item)]

    def _is_slide(self, series: Json) -> bool:
        ours = text(series, _MANUFACTURER) == MAKER and text(series, _MODEL) == PRODUCT
        return text(series, _MODALITY) == self._modality and not ours

    def _all_series(self, study_uid: str, announced: int) -> Iterator[Json]:
        """Yield the series of a study until as many came as it is said to have, or none comes any more."""
        fields = f"includefield={_MANUFACTURER}&includefield={_MODEL}"
        seen, before = 0, ""
        while not announced or seen < announced:
            items = self._search(f"studies/{study_uid}/series?{fields}&limit={PAGE}&offset={seen}", _NOT_THERE)
            digest = _digest(items, _SERIES)
            if not items:
                return
            if digest == before:
                if len(items) == PAGE:
                    raise ResponseInvalid(f"The {self._label} gives the same series for every offset.")
                return  # it knows no offset, and had given all at once
            yield from items
            seen, before = seen + len(items), digest

    def _search(self, query: str, also: frozenset[int] = frozenset()) -> list[Json]:
        answer = self._session.fetch(f"{self._base}/{query}", _JSON, also, _PAGE_BYTES)
        if answer.status in also or not answer.body:
            return []  # 204: nothing found (PS3.18 8.3.4.4)
        found = json_of(answer, self._label, json.loads)
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise ResponseInvalid(f"The {self._label} answered a search with JSON that is no list of results.")
        return found


def _found(study_uid: str, series_uid: str) -> FoundSeries:
    try:
        return FoundSeries(study_uid, require_uid(series_uid, "Series Instance UID"))
    except RequestError:
        return FoundSeries(study_uid, series_uid[:_UID_CHARACTERS], str(ResponseInvalid.code))


def _digest(items: list[Json], tag: str) -> str:
    return hashlib.sha256("\n".join(sorted(text(item, tag) for item in items)).encode()).hexdigest()
