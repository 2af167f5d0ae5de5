"""An archive that is only searched: studies made up as they are asked for, with the quirks that servers have."""

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.services.hostile import Answer, Asked

_SERIES = re.compile(r".*/studies/(?P<study>[^/]+)/series")
_TYPE = {"Content-Type": "application/dicom+json"}


@dataclass
class MadeUp:
    """So many studies a day, each of one series of slides and one of annotations; some thousand bytes in all.

    Parameters
    ----------
    studies, a_day : int
    first : date
    modalities : tuple of str
        Of the series of each study.
    ignores : set of str
        Query keys that the server does not heed: ``limit``, ``offset``, ``StudyDate``, ``StudyInstanceUID``.
    most : int
        Results it gives at a time, whatever is asked.
    leaves_out : set of str
        Tags that it does not return.
    added : mapping
        Further attributes of series, by tag: {"00080070": "maker"}.
    relational : int
        Status of searches for the series of several studies.
    """

    studies: int
    a_day: int = 10
    first: dt.date = dt.date(2020, 1, 1)
    modalities: tuple[str, ...] = ("SM", "ANN")
    ignores: set[str] = field(default_factory=set)
    most: int = 1 << 30
    leaves_out: set[str] = field(default_factory=set)
    added: Mapping[str, str | int] = field(default_factory=dict)
    relational: int = 200

    def __call__(self, asked: Asked) -> Answer:
        """Answer a search; 204 where nothing is found."""
        split = urlsplit(asked.path)
        query = {name: values[0] for name, values in parse_qs(split.query).items() if name not in self.ignores}
        of_study = _SERIES.fullmatch(split.path)
        if of_study:
            number = int(of_study["study"].rpartition(".")[2])
            found = [self._series(number, index) for index in range(len(self.modalities))]
            found = found[int(query.get("offset", 0)) :][: int(query.get("limit", self.most))]
        elif split.path.endswith("/series"):
            if self.relational != HTTPStatus.OK:
                return Answer(self.relational)
            found = list(self._listed(query))
        else:
            found = [self._study(number) for number in self._numbers(query)]
        if not found:
            return Answer(204)
        return Answer(200, json.dumps(found).encode(), _TYPE)

    def _listed(self, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield the series of the studies that a search names; of all, if it names none."""
        named = query.get("StudyInstanceUID", "")
        numbers = [int(uid.rpartition(".")[2]) for uid in named.split(",")] if named else range(self.studies)
        every = (self._series(number, index) for number in numbers for index in range(len(self.modalities)))
        start = int(query.get("offset", 0))
        yield from islice(every, start, start + min(self.most, int(query.get("limit", self.most))))

    @property
    def series(self) -> set[tuple[str, str]]:
        """Study and series UID of all slides."""
        return {
            (f"1.2.3.{number}", f"1.2.3.{number}.{index}")
            for number in range(self.studies)
            for index, modality in enumerate(self.modalities)
            if modality == "SM"
        }

    def date(self, number: int) -> dt.date:
        """Return the day of a study."""
        return self.first + dt.timedelta(days=number // self.a_day)

    def _numbers(self, query: Mapping[str, str]) -> range:
        start, _, stop = query.get("StudyDate", "-").partition("-")
        low = max(0, self._days(start) * self.a_day) if start else 0
        high = min(self.studies, (self._days(stop) + 1) * self.a_day) if stop else self.studies
        low += int(query.get("offset", 0))
        return range(low, min(high, low + min(self.most, int(query.get("limit", self.most)))))

    def _days(self, text: str) -> int:
        return (dt.datetime.strptime(text, "%Y%m%d").replace(tzinfo=dt.UTC).date() - self.first).days

    def _study(self, number: int) -> dict[str, Any]:
        return self._kept(
            {
                "00080020": _of("DA", f"{self.date(number):%Y%m%d}"),
                "00080061": {"vr": "CS", "Value": sorted(set(self.modalities))},
                "0020000D": _of("UI", f"1.2.3.{number}"),
                "00201206": _of("IS", len(self.modalities)),
            }
        )

    def _series(self, number: int, index: int) -> dict[str, Any]:
        item = {
            "00080060": _of("CS", self.modalities[index]),
            "0020000D": _of("UI", f"1.2.3.{number}"),
            "0020000E": _of("UI", f"1.2.3.{number}.{index}"),
        }
        return self._kept(item | {tag: _of("LO", value) for tag, value in self.added.items()})

    def _kept(self, item: dict[str, Any]) -> dict[str, Any]:
        return {tag: element for tag, element in item.items() if tag not in self.leaves_out}


def _of(vr: str, value: object) -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


def searches(asked: list[Asked]) -> Iterator[Mapping[str, str]]:
    """Yield what the searches for studies asked."""
    for one in asked:
        split = urlsplit(one.path)
        if split.path.endswith("/studies"):
            yield {name: values[0] for name, values in parse_qs(split.query).items()}
