"""``slidewire watch``: the intake of an archive, and how it stands."""

import datetime as dt
from typing import Annotated

import typer

from models.domain.errors import RequestError
from worker.cli import watch_status
from worker.cli.reply import print_json, reported

_LOOK, _STATES = "What there is", "settling, incomplete, overdue, submitted, passed-over, failed"

Archive = Annotated[
    str | None, typer.Argument(metavar="ENDPOINT", help="Name of an endpoint in the settings.", show_default=False)
]
Explain = Annotated[
    str,
    typer.Option(
        "--explain",
        metavar="SERIES",
        help="Say which rule matches a series, whether it is whole, and what follows: its UID, STUDY_UID/SERIES_UID, "
        "or its URL. Writes nothing.",
        rich_help_panel=_LOOK,
    ),
]
Status = Annotated[
    bool, typer.Option("--status", help="Say how watches stand (of ENDPOINT, or all).", rich_help_panel=_LOOK)
]
List = Annotated[str, typer.Option("--list", metavar="STATE", help=f"List series: {_STATES}.", rich_help_panel=_LOOK)]
ShowUids = Annotated[bool, typer.Option("--show-uids", help="With their UIDs, in --list.", rich_help_panel=_LOOK)]
Retry = Annotated[
    str, typer.Option("--retry", metavar="STATE", help="Look again at series that are failed, overdue, passed-over.")
]
Reconcile = Annotated[
    bool, typer.Option("--reconcile", help="Search the archive once for what events missed, and leave.")
]
From = Annotated[
    dt.datetime | None,
    typer.Option("--from", formats=["%Y-%m-%d"], help="First day of study of that search; default: the settings'."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def watch(
    archive: Archive = None,
    explain: Explain = "",
    status: Status = False,
    listed: List = "",
    show_uids: ShowUids = False,
    retry: Retry = "",
    reconcile: Reconcile = False,
    first: From = None,
    json: Json = False,
) -> None:
    """Make jobs of the slides that arrive in an archive, by the rules of the settings, until stopped.

    Nothing is lost when it is killed: start it again. Workers do the jobs.

    Example: slidewire watch pacs

    Example: slidewire watch pacs --explain 1.2.840.113619.2.1.1
    """
    from worker.telemetry import configure_logging

    configure_logging()
    with reported(json):
        if sum((bool(explain), status, bool(listed), bool(retry), reconcile)) > 1:
            raise RequestError("--explain, --status, --list, --retry and --reconcile are one at a time.")
        if first is not None and not reconcile:
            raise RequestError("--from is for --reconcile.")
        if archive is None and not (status or listed):
            raise RequestError("Name an ENDPOINT to watch; `slidewire watch --status` lists those that are.")
        if status:
            watch_status.tell_status(archive, as_json=json)
        elif listed:
            watch_status.tell_list(archive, listed, show_uids=show_uids, as_json=json)
        elif retry:
            assert archive is not None
            watch_status.look_again(archive, retry, as_json=json)
        elif explain:
            assert archive is not None
            _explain(archive, explain, as_json=json)
        else:
            assert archive is not None
            _work(archive, reconcile=reconcile, first=first.date() if first else None, as_json=json)


def _work(archive: str, *, reconcile: bool, first: dt.date | None, as_json: bool) -> None:
    from worker.declared import open_settings
    from worker.pipeline import Cancellation
    from worker.process import stopping_on_signals
    from worker.telemetry import configure_logging
    from worker.watch.watch import Watch
    from worker.wiring import Installation

    settings, stop = open_settings(), Cancellation()
    configure_logging(level=settings.log_level)
    with Installation(settings) as installation:
        watching = Watch(installation, archive)
        with stopping_on_signals(stop):
            if reconcile:
                _say_found(watching.reconcile(first, stop), as_json=as_json)
            else:
                watching.run(stop)


def _say_found(found: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"new": found})
    else:
        typer.echo(f"{found} series are news; a watch looks at them now.")


def _explain(archive: str, series: str, *, as_json: bool) -> None:
    from worker.cli.watch_view import say_explanation
    from worker.declared import open_settings
    from worker.watch.explain import explain
    from worker.wiring import Installation

    with Installation(open_settings()) as installation:
        told = explain(installation, archive, series).to_json()
    if as_json:
        print_json(told)
    else:
        say_explanation(told)
