"""``slidewire backfill``: a whole archive through the queue, a bounded number of slides at a time."""

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from models.domain.errors import Interrupted, RequestError, SlidewireError
from models.domain.request import DEFAULT_TISSUE_FRACTION
from worker.asked import FIELDS, Asked
from worker.cli import ask
from worker.cli.reply import EXIT_FAILED, EXIT_INTERRUPTED, print_error, print_json, reported

if TYPE_CHECKING:
    from worker.backfill import Order, RunLimits
    from worker.ledger import Ledger
    from worker.ledger.backfills import BackfillRecord
    from worker.wiring import Installation

_GOES_ON = "Stopped; the same command goes on from here."
_SEARCH, _PACE, _REPORT = "Which slides", "How many at a time", "What there is"
_LISTED = ("waiting", "submitted", "done", "already-done", "skipped", "failed")

Archive = Annotated[
    str | None,
    typer.Argument(metavar="ENDPOINT", help="Name of an endpoint, or URL of a DICOMweb service.", show_default=False),
]
Encoder = Annotated[str, typer.Option("--encoder", "-e", help="Model; slidewire encoders lists them.")]
Modality = Annotated[str, typer.Option("--modality", help="Of the series.", rich_help_panel=_SEARCH)]
From = Annotated[
    dt.datetime | None,
    typer.Option(
        "--from",
        formats=["%Y-%m-%d"],
        help="First day of study; without one, the archive is asked for all at once.",
        rich_help_panel=_SEARCH,
    ),
]
To = Annotated[
    dt.datetime | None,
    typer.Option("--to", formats=["%Y-%m-%d"], help="Last day of study; default: today.", rich_help_panel=_SEARCH),
]
Afresh = Annotated[
    bool,
    typer.Option("--search-again", help="Search from the first day again, for studies late.", rich_help_panel=_SEARCH),
]
AtOnce = Annotated[
    int, typer.Option("--at-once", min=1, help="Jobs of this backfill in the queue.", rich_help_panel=_PACE)
]
Threads = Annotated[
    int, typer.Option("--threads", min=1, max=64, help="Slides made ready at a time.", rich_help_panel=_PACE)
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Leave after so many slides: a first try.", rich_help_panel=_PACE)
]
Detach = Annotated[
    bool,
    typer.Option("--detach", help="Leave when all are in the queue; do not wait for them.", rich_help_panel=_PACE),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only count; write nothing to the ledger.", rich_help_panel=_REPORT)
]
Status = Annotated[
    bool,
    typer.Option("--status", help="Say how backfills stand (of ENDPOINT, of --encoder).", rich_help_panel=_REPORT),
]
List = Annotated[
    str | None, typer.Option("--list", help=f"List slides: {', '.join(_LISTED)}.", rich_help_panel=_REPORT)
]
ShowUids = Annotated[bool, typer.Option("--show-uids", help="With their UIDs, in --list.", rich_help_panel=_REPORT)]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def backfill(
    archive: Archive = None,
    encoder: Encoder = "",
    modality: Modality = "SM",
    first: From = None,
    last: To = None,
    search_again: Afresh = False,
    at_once: AtOnce = 200,
    threads: Threads = 4,
    limit: Limit = None,
    detach: Detach = False,
    dry_run: DryRun = False,
    status: Status = False,
    listed: List = None,
    show_uids: ShowUids = False,
    weights: ask.Weights = None,
    spacing_um: ask.Spacing = None,
    native: ask.Native = False,
    upsample: ask.Upsample = False,
    patch_px: ask.PatchPx = None,
    stride_px: ask.StridePx = None,
    all_patches: ask.AllPatches = False,
    min_tissue: ask.MinTissue = DEFAULT_TISSUE_FRACTION,
    tissue: ask.Tissue = "otsu",
    optical_path: ask.OpticalPath = "",
    focal_plane: ask.FocalPlane = "",
    spacing_from: ask.SpacingSource = None,
    missing: ask.MissingFrames = "error",
    color_profile: ask.Color = "none",
    require_profile: ask.RequireProfile = False,
    encoder_option: ask.Options = None,
    out: ask.Out = "",
    write_back: ask.WriteBack = False,
    dicom: ask.Dicom = False,
    picture: ask.Picture = False,
    table: ask.Tables = None,
    maps: ask.Maps = False,
    annotations: ask.AnnotationsTaken = "required",
    json: Json = False,
) -> None:
    """Submit every slide of an archive, the oldest days first, and wait for the jobs; workers do them.

    It can be stopped and started again at any time: the same command goes on where it stopped.

    Example: slidewire backfill pacs --from 2020-01-01 --to 2020-12-31 -e efficientnet-lite0 --write-back
    """
    _do(locals())


def _do(given: dict[str, Any]) -> None:
    """Do what the options ask for: report, count, or work."""
    from worker.telemetry import configure_logging

    configure_logging(level=logging.ERROR)
    with reported(given["json"]):
        if given["status"] or given["listed"] is not None:
            _tell(given)
            return
        asked = Asked(source=given["archive"], **{name: given[name] for name in FIELDS & given.keys()})
        order = _order(asked, given)
        if given["dry_run"]:
            _count(order, as_json=given["json"])
            return
        from worker.backfill import RunLimits

        names = ("at_once", "threads", "limit", "detach", "search_again")
        _work(order, RunLimits(*(given[name] for name in names)), as_json=given["json"])


def _order(asked: Asked, given: dict[str, Any]) -> "Order":
    from dataclasses import replace

    from worker.backfill import Order
    from worker.declared import open_settings
    from worker.submission import Ways, settled

    if not asked.source or not asked.encoder:
        raise RequestError("Name an ENDPOINT to go through, and an --encoder.")
    settings = open_settings()
    [request] = asked.requests()
    request, _ = settled(request, Ways.of(settings))  # once for all slides, and before the first
    first, last = (day.date() if day else None for day in (given["first"], given["last"]))
    return Order(asked.source, given["modality"], first, last, replace(request, source=""))


def _count(order: "Order", *, as_json: bool) -> None:
    from worker.backfill import count
    from worker.settings import load_settings
    from worker.wiring import Installation

    with Installation(load_settings()) as installation:
        found, known = count(installation, order)
    if as_json:
        print_json({"found": found, "found_before": known})
    else:
        typer.echo(f"{found} series of modality {order.modality}; {known} of them this backfill has found before.")


def _work(order: "Order", limits: "RunLimits", *, as_json: bool) -> None:
    from worker.backfill import Run
    from worker.cli.backfill_view import watching
    from worker.pipeline import Cancellation
    from worker.process import stopping_on_signals
    from worker.settings import load_settings
    from worker.wiring import Installation

    stop, error = Cancellation(), None
    with Installation(load_settings()) as installation:
        try:
            with stopping_on_signals(stop), watching(installation.ledger.backfills, quiet=as_json) as watch:
                Run(installation, order, limits, stop).work(watch)
        except SlidewireError as exc:
            error = exc
        _end(installation, order, error, as_json=as_json)


def _end(installation: "Installation", order: "Order", error: SlidewireError | None, *, as_json: bool) -> None:
    """Say how the backfill stands after a run, and leave with the status that says so."""
    message = _GOES_ON if isinstance(error, Interrupted) else error.message if error else ""
    record = installation.ledger.backfills.find(order.key)
    if record is None and error is not None:
        raise error
    assert record is not None
    report = _report(installation.ledger, record)
    if as_json:
        print_json(report | ({"error": {"code": str(error.code), "message": message}} if error else {}))
    else:
        _say(report)
    if error is not None:
        _leave(error, message)
    if report["failed"]:
        raise typer.Exit(EXIT_FAILED)


def _leave(error: SlidewireError, message: str) -> NoReturn:
    print_error(str(error.code), message)
    raise typer.Exit(EXIT_INTERRUPTED if isinstance(error, Interrupted) else EXIT_FAILED)


def _tell(given: dict[str, Any]) -> None:
    """Say how backfills stand, or list slides of them."""
    from worker.ledger import Ledger
    from worker.settings import load_settings

    archive, encoder, listed, as_json = (given[name] for name in ("archive", "encoder", "listed", "json"))
    if listed is not None and listed not in _LISTED:
        raise RequestError(f"--list takes one of {', '.join(_LISTED)}.")
    settings = load_settings()
    with Ledger(settings.ledger, settings.checkpoint_folder, settings.ledger_rules) as ledger:
        chosen = [
            record
            for record in ledger.backfills.all()
            if archive in {None, record.wanted["archive"]} and encoder in {"", record.wanted["request"]["encoder"]}
        ]
        for record in chosen:
            ledger.backfills.settle(record.id)
        if listed is not None:
            _list(ledger, chosen, listed, show_uids=given["show_uids"], as_json=as_json)
            return
        reports = [_report(ledger, record) for record in chosen]
    if as_json:
        print_json(reports)
    elif not reports:
        typer.echo("No backfills.")
    else:
        for report in reports:
            _say(report)


def _list(ledger: "Ledger", chosen: Sequence["BackfillRecord"], state: str, *, show_uids: bool, as_json: bool) -> None:
    from worker.ledger.backfills import ItemState

    shown = ("serial", "state", "code", "job_id", *(("study_uid", "series_uid") if show_uids else ()))
    rows = (
        {"backfill": record.id} | {name: str(getattr(item, name)) for name in shown}
        for record in chosen
        for item in ledger.backfills.items(record.id, ItemState(state))
    )
    if as_json:
        print_json(list(rows))
        return
    for row in rows:
        typer.echo("  ".join(value or "-" for name, value in row.items() if name != "backfill"))


def _report(ledger: "Ledger", record: "BackfillRecord") -> dict[str, Any]:
    """Return how a backfill stands, as scripts read it."""
    tally, cursor = ledger.backfills.tally(record.id), ledger.backfills.cursor(record.id)
    open_ones = tally.waiting + tally.running
    counts = {field.name: getattr(tally, field.name) for field in fields(tally)}
    return {
        "backfill": record.id,
        "state": "finished" if cursor.listed and not open_ones else "unfinished",
        "archive": record.wanted["archive"],
        "modality": record.wanted["modality"],
        "from": record.wanted["from"],
        "to": record.wanted["to"],
        "encoder": record.wanted["request"]["encoder"],
        **{name.replace("known", "already_done"): value for name, value in counts.items()},
    }


def _say(report: dict[str, Any]) -> None:
    days = f"{report['from'] or '...'} to {report['to'] or '...'}"
    what = f"{report['archive']}, {report['modality']}, {days}, {report['encoder']}"
    typer.echo(f"{report['state']}: backfill {report['backfill'][:8]} of {what}")
    for name in ("found", "submitted", "done", "already_done", "running", "waiting"):
        typer.echo(f"  {name.replace('_', ' '):<13} {report[name]:>8}")
    for name in ("skipped", "failed"):
        codes = ", ".join(f"{code} {number}" for code, number in report[name].items())
        typer.echo(f"  {name:<13} {sum(report[name].values()):>8}  {codes}".rstrip())
    typer.echo(f"  {'patches':<13} {report['patches']:>8}")
