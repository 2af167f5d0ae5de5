"""How `slidewire watch` says what its watches have seen: how far, how many, which; and looks again at what was left."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from models.domain.errors import RequestError
from worker.cli.jobs import when
from worker.cli.reply import print_json

if TYPE_CHECKING:
    from worker.ledger import Ledger
    from worker.ledger.arrival_records import Arrival, ArrivalState, WatchRecord

_AGAIN = ("failed", "overdue", "passed-over")


def tell_status(archive: str | None, *, as_json: bool) -> None:
    """Print how the watch of an archive stands, or all of them.

    Raises
    ------
    RequestError
        The archive was never watched.
    """
    with _ledger() as ledger:
        reports = [_report(ledger, record) for record in _chosen(ledger, archive)]
    if as_json:
        print_json(reports)
    elif not reports:
        typer.echo("No watches.")
    for report in reports if not as_json else ():
        for line in _said(report):
            typer.echo(line)


def tell_list(archive: str | None, state: str, *, show_uids: bool, as_json: bool) -> None:
    """Print the series in a state, in the order of their coming; UIDs only if they are asked for.

    Raises
    ------
    RequestError
        There is no such state, or the archive was never watched.
    """
    wanted = _state(state)
    with _ledger() as ledger:
        rows = (
            _row(one, show_uids=show_uids)
            for record in _chosen(ledger, archive)
            for one in ledger.arrivals.items(record.endpoint, wanted)
        )
        if as_json:
            print_json(list(rows))
            return
        for row in rows:
            typer.echo("  ".join(str(value) or "-" for value in row.values()))


def look_again(archive: str, state: str, *, as_json: bool) -> None:
    """Let a watch look at series again that it had given up or passed over, as if they had just come.

    Raises
    ------
    RequestError
        Series in that state are not looked at again by hand, or the archive was never watched.
    """
    from worker.settings import load_settings

    if state not in _AGAIN:
        raise RequestError(f"--retry takes one of {', '.join(_AGAIN)}.")
    patience = load_settings().watch.patience
    with _ledger() as ledger:
        [record] = _chosen(ledger, archive)
        found = ledger.arrivals.retry(record.endpoint, patience, (_state(state),))
    if as_json:
        print_json({"again": found})
    else:
        typer.echo(f"{found} series are looked at again.")


@contextmanager
def _ledger() -> "Iterator[Ledger]":
    from worker.ledger import Ledger
    from worker.settings import load_settings

    settings = load_settings()
    with Ledger(settings.ledger, settings.checkpoint_folder, settings.ledger_rules) as ledger:
        yield ledger


def _state(name: str) -> "ArrivalState":
    from worker.ledger.arrival_records import ArrivalState

    try:
        return ArrivalState(name)
    except ValueError:
        raise RequestError(f"--list takes one of {', '.join(ArrivalState)}.") from None


def _chosen(ledger: "Ledger", archive: str | None) -> "Sequence[WatchRecord]":
    found = [record for record in ledger.arrivals.watches() if archive in {None, record.endpoint}]
    if archive is not None and not found:
        raise RequestError(f"The endpoint {archive!r} was never watched: `slidewire watch {archive}` begins.")
    return found


def _report(ledger: "Ledger", record: "WatchRecord") -> dict[str, Any]:
    """Return how a watch stands, as scripts read it; times are ISO 8601, None: never."""
    search, counted = record.search, ledger.arrivals.tally(record.endpoint)
    return {
        "endpoint": record.endpoint,
        "watched_since": when(record.created_at),
        "events": {
            "read_to": record.place.cursor,
            "read_at": _when(record.read_at),
            "behind_s": None if record.read_at is None else round(max(0.0, record.now - record.read_at), 1),
        },
        "reconciliation": {
            "ended_at": _when(record.reconciled_at),
            "under_way": not search.listed,
            "first_day": search.first_day,
            "last_day": search.last_day,
            "studies_of_these_days": search.seen,
        },
        "arrivals": {str(state): number for state, number in counted.items()},
        "codes": {str(state): dict(codes) for state, codes in ledger.arrivals.codes(record.endpoint).items() if codes},
    }


def _when(seconds: float | None) -> str | None:
    return None if seconds is None else when(seconds)


def _said(report: dict[str, Any]) -> Iterator[str]:
    events, search = report["events"], report["reconciliation"]
    yield f"{report['endpoint']}: watched since {report['watched_since']}"
    read = "never" if events["read_at"] is None else f"{events['behind_s']:g} s ago, to number {events['read_to']}"
    yield f"  events read    {read}"
    days = f"days {search['first_day'] or '...'} to {search['last_day'] or '...'}"
    way = f"; under way: {days}, {search['studies_of_these_days']} studies" if search["under_way"] else ""
    yield f"  reconciled     {search['ended_at'] or 'never'}{way}"
    for state, number in report["arrivals"].items():
        codes = ", ".join(f"{code} {count}" for code, count in report["codes"].get(state, {}).items())
        yield f"  {state:<13} {number:>8}  {codes}".rstrip()


def _row(one: "Arrival", *, show_uids: bool) -> dict[str, Any]:
    uids = {"study_uid": one.study_uid, "series_uid": one.series_uid} if show_uids else {}
    return {
        "endpoint": one.endpoint,
        "arrival": one.serial,
        "state": str(one.state),
        "code": one.code,
        "rule": one.rule,
        "job": one.job_id,
        "instances": one.instances,
        "came_at": when(one.first_at),
        "changed_at": when(one.changed_at),
        **uids,
    }
