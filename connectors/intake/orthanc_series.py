"""The series behind entries of Orthanc's event log, which name instances and series by Orthanc's own ids."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from connectors.dicom.attributes import Json
from connectors.http import HttpSession, json_of
from models.domain.errors import ResponseInvalid

API = "Orthanc's REST API (orthanc_url)"

_AT_A_TIME = 500
_BYTES = 64 << 20  # a series names its instances, 39 characters each
_GONE = frozenset({404})
_UNKNOWN = frozenset({404, 405})
_AET_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class StoredSeries:
    """A series as Orthanc has it now.

    Parameters
    ----------
    id : str
        Orthanc's.
    study_uid, series_uid : str
        As the archive has them: they may be no UIDs.
    calling_aet : str
        Who sent its first instance by DIMSE; "" for nobody.
    instances : frozenset of str
        Orthanc's ids.
    """

    id: str
    study_uid: str
    series_uid: str
    calling_aet: str
    instances: frozenset[str]


class OrthancSeries:
    """Looks series up, many with one request where the server can (Orthanc 1.9.4 and later).

    Parameters
    ----------
    session : HttpSession
        To Orthanc's REST API.
    """

    def __init__(self, session: HttpSession) -> None:
        self._session = session
        self._base, self._label = session.endpoint.url, session.endpoint.label
        self._in_bulk = True

    def of(self, instances: Collection[str], series: Collection[str]) -> tuple[StoredSeries, ...]:
        """Return the series of instances, and series; what is no longer there is left out.

        Raises
        ------
        EndpointError
            Orthanc fails, or answers something else.
        """
        items = self._bulk([*instances, *series], "Series") if self._in_bulk else None
        if items is None:
            self._in_bulk = False
            items = list(self._one_by_one(instances, series))
        found = {_text(item, "ID"): item for item in items}
        parents = {_text(item, "ParentStudy") for item in found.values()} - {""}
        studies = self._bulk(parents, "Study") if self._in_bulk else None
        if studies is None:
            studies = [item for id_ in sorted(parents) if (item := self._get(f"studies/{id_}")) is not None]
        uids = {_text(item, "ID"): _tag(item, "StudyInstanceUID") for item in studies}
        return tuple(
            _stored(item, uids[parent])
            for item in found.values()
            if (parent := _text(item, "ParentStudy")) in uids  # else it was deleted meanwhile
        )

    def _bulk(self, ids: Collection[str], level: str) -> list[Json] | None:
        """Return resources at a level, those above or below the named ones; None if the server cannot do that."""
        found, wanted_ids = list[Json](), sorted(ids)
        for start in range(0, len(wanted_ids), _AT_A_TIME):
            some = wanted_ids[start : start + _AT_A_TIME]
            wanted = {"Resources": some, "Level": level, "Metadata": level == "Series"}
            answer = self._session.post_json(f"{self._base}/tools/bulk-content", wanted, _UNKNOWN, _BYTES)
            if answer.status in _UNKNOWN:
                return None
            items = json_of(answer, self._label, json.loads, API)
            if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                raise ResponseInvalid(f"The {self._label} answered with no list of resources: is it an Orthanc?")
            found += items
        return found

    def _one_by_one(self, instances: Collection[str], series: Collection[str]) -> Iterator[Json]:
        held = (self._get(f"instances/{id_}") for id_ in sorted(instances))
        wanted = {_text(item, "ParentSeries") for item in held if item is not None} | set(series)
        for id_ in sorted(wanted - {""}):
            item = self._get(f"series/{id_}")
            if item is not None:
                yield item | {"Metadata": self._get(f"series/{id_}/metadata?expand") or {}}

    def _get(self, path: str) -> Json | None:
        answer = self._session.fetch_once(f"{self._base}/{path}", "application/json", _GONE, _BYTES)
        if answer.status in _GONE:
            return None
        item = json_of(answer, self._label, json.loads, API)
        if not isinstance(item, dict):
            raise ResponseInvalid(f"The {self._label} answered with JSON that is no resource: is it an Orthanc?")
        return item


def _stored(item: Json, study_uid: str) -> StoredSeries:
    instances = item.get("Instances")
    members = instances if isinstance(instances, list) else []
    metadata = item.get("Metadata")
    sender = _text(metadata, "RemoteAET").strip() if isinstance(metadata, dict) else ""
    return StoredSeries(
        _text(item, "ID"),
        study_uid,
        _tag(item, "SeriesInstanceUID"),
        sender if sender.isprintable() and len(sender) <= _AET_CHARACTERS else "",
        frozenset(member for member in members if isinstance(member, str)),
    )


def _tag(item: Json, name: str) -> str:
    tags = item.get("MainDicomTags")
    return _text(tags, name) if isinstance(tags, dict) else ""


def _text(item: Json, name: str) -> str:
    value = item.get(name)
    return value if isinstance(value, str) else ""
