"""What an archive holds: the studies of some days page by page, by QIDO-RS, and their series of some modalities."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass

from connectors.dicom.attributes import Json, integer, text, values_of
from connectors.dicom.result.derived import MAKER, PRODUCT
from connectors.endpoints import Endpoint, require_uid
from connectors.qido import Qido, digest_of
from connectors.study_series import PAGE, StudySeries
from models.domain.errors import RequestError, ResponseInvalid

__all__ = ["ANY_MODALITY", "PAGE", "UNDATED", "Archive", "FoundSeries", "Page", "Window"]

ANY_MODALITY = "*"

_UID_CHARACTERS = 64
_MOST_INSTANCES = 10_000_000  # what says more does not say how many
_STUDY, _SERIES, _MODALITY = "0020000D", "0020000E", "00080060"
_STUDY_DATE, _MODALITIES, _RELATED_SERIES = "00080020", "00080061", "00201206"
_MANUFACTURER, _MODEL, _RELATED_INSTANCES = "00080070", "00081090", "00201209"


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


UNDATED = Window(None, dt.date(1800, 1, 1))
"""Studies whose date is empty: Orthanc finds them before any day, most other servers never by one."""


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series that the archive named.

    Parameters
    ----------
    study_uid, series_uid : str
    error_code : str
        Of the error with which it cannot be asked for; "" for none.
    instances : int
        That it holds; 0 if the archive does not say.
    """

    study_uid: str
    series_uid: str
    error_code: str = ""
    instances: int = 0


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
        Of the modalities, in those studies.
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
    modalities : collection of str
        Of the series that are wanted; `ANY_MODALITY` among them: any.
    """

    def __init__(self, endpoint: Endpoint, modalities: Collection[str]) -> None:
        self._qido = Qido(endpoint)
        self._series = StudySeries(self._qido, (_MANUFACTURER, _MODEL, _RELATED_INSTANCES))
        self._modalities = frozenset(modalities)

    def close(self) -> None:
        """Close the connections."""
        self._qido.close()

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
        studies = self._qido.search(f"studies?{dated}{fields}&limit={PAGE}&offset={offset}")
        if window == UNDATED:  # a server that takes no such range may give any; they are found by their days
            studies = [study for study in studies if not text(study, _STUDY_DATE)]
        wanted = [study for study in studies if self._wanted(study, window)]
        found = [one for study, series in self._series.of(wanted) for one in self._found(study, series)]
        return Page(len(studies), digest_of(studies, _STUDY), tuple(found))

    def _wanted(self, study: Json, window: Window) -> bool:
        date = text(study, _STUDY_DATE)
        if date and not window.holds(date):
            raise ResponseInvalid(
                f"The {self._qido.label} answers a search for days with studies of other days: search without --from "
                "and --to."
            )
        if window.criterion and window != UNDATED and _STUDY_DATE in study and not date:
            return False  # Orthanc finds studies without a date before any day
        modalities = values_of(study, _MODALITIES)
        return not modalities or any(self._takes(str(modality)) for modality in modalities)

    def _takes(self, modality: str) -> bool:
        return ANY_MODALITY in self._modalities or modality in self._modalities

    def _found(self, study: Json, series: list[Json] | None) -> list[FoundSeries]:
        """Return a study's series that are wanted; what cannot be asked for, with the code of the error."""
        study_uid = text(study, _STUDY)
        if series is None:
            return [FoundSeries(study_uid[:_UID_CHARACTERS], "", str(ResponseInvalid.code))]
        return [_found(study_uid, item) for item in series if self._takes(text(item, _MODALITY)) and not _is_ours(item)]


def _is_ours(series: Json) -> bool:
    return text(series, _MANUFACTURER) == MAKER and text(series, _MODEL) == PRODUCT


def _found(study_uid: str, series: Json) -> FoundSeries:
    series_uid = text(series, _SERIES)
    try:
        require_uid(series_uid, "Series Instance UID")
    except RequestError:
        return FoundSeries(study_uid, series_uid[:_UID_CHARACTERS], str(ResponseInvalid.code))
    instances = integer(series, _RELATED_INSTANCES)
    return FoundSeries(study_uid, series_uid, instances=instances if 0 < instances < _MOST_INSTANCES else 0)
