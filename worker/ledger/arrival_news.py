"""News of a watched archive: which of the series that it names have to be looked at, and which once more."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from connectors.intake.protocol import Sighting
from models.domain.codes import ErrorCode
from worker.ledger.arrival_records import ArrivalState
from worker.ledger.clock import NOW
from worker.ledger.schema import arrival

OPEN = (ArrivalState.SETTLING, ArrivalState.INCOMPLETE)
"""Of these, the series will be looked at by themselves."""

_AT_A_TIME = 100
_YOUNG_S = 86400.0  # since its last event: so long a series may still grow unseen


@dataclass(frozen=True, slots=True)
class News:
    """What is to be done about some series.

    Parameters
    ----------
    series : tuple of Sighting
        To be waited for, or waited for anew.
    doubtful : tuple of int
        Serials of arrivals of which nobody can say whether they have grown.
    """

    series: tuple[Sighting, ...]
    doubtful: tuple[int, ...]


def news_of(connection: Connection, endpoint: str, sightings: Iterable[Sighting]) -> News:
    """Tell what is news from what is known.

    A series is news if something has happened to it, if it never arrived, if it has another number of instances than
    before, or if it was gone when it was looked at. Where the archive does not say how many instances there are, one
    that came within the last day, and is waited for no more, is doubtful.
    """
    seen = list({(one.study_uid, one.series_uid): one for one in sightings}.values())
    known = _known(connection, endpoint, [one for one in seen if not one.changed])
    rows = [(one, known.get((one.study_uid, one.series_uid))) for one in seen]
    return News(
        tuple(one for one, row in rows if row is None or _has_grown(one, row)),
        tuple(row.serial for one, row in rows if row is not None and not _has_grown(one, row) and _may_grow(one, row)),
    )


def look_again(connection: Connection, serials: Sequence[int]) -> None:
    """Have settled series looked at again, without an event: their deadlines stay, and so do notices of them."""
    for at in range(0, len(serials), _AT_A_TIME):
        connection.execute(
            update(arrival)
            .where(arrival.c.serial.in_(serials[at : at + _AT_A_TIME]), arrival.c.state.not_in(OPEN))
            .values(
                state=ArrivalState.SETTLING, version=arrival.c.version + 1, tries=0, due_at=NOW, updated_at=NOW,
            )
        )  # fmt: skip


def _has_grown(one: Sighting, row: Row[Any]) -> bool:
    if row.state not in OPEN and row.code == ErrorCode.SERIES_NOT_FOUND:
        return True
    # A settled one of which no number is known was decided on without its instances.
    return one.instances > 0 and row.instances != one.instances and (row.instances > 0 or row.state not in OPEN)


def _may_grow(one: Sighting, row: Row[Any]) -> bool:
    return not one.instances and row.state not in OPEN and row.now - row.changed_at < _YOUNG_S


def _known(connection: Connection, endpoint: str, seen: Sequence[Sighting]) -> dict[tuple[str, str], Row[Any]]:
    names = ("serial", "study_uid", "series_uid", "state", "code", "instances", "changed_at")
    query = select(*(arrival.c[name] for name in names), NOW.label("now")).where(arrival.c.endpoint == endpoint)
    found: dict[tuple[str, str], Row[Any]] = {}
    for at in range(0, len(seen), _AT_A_TIME):
        some = seen[at : at + _AT_A_TIME]
        named = query.where(
            arrival.c.study_uid.in_({one.study_uid for one in some}),
            arrival.c.series_uid.in_({one.series_uid for one in some}),
        )
        found |= {(row.study_uid, row.series_uid): row for row in connection.execute(named)}
    return found
