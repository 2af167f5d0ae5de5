"""``slidewire embed`` and ``slidewire submit``: a slide now, or a slide in the queue."""

import inspect
import logging
import sys
from collections.abc import Callable
from traceback import extract_tb
from typing import TYPE_CHECKING, Any

import typer

from models.domain.codes import ErrorCode
from models.domain.errors import Interrupted, SlidewireError
from models.domain.job import Lane
from models.domain.request import DEFAULT_TISSUE_FRACTION, EmbedRequest
from worker.asked import FIELDS, Asked
from worker.cli import ask
from worker.cli.reply import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    failure_object,
    job_object,
    joined,
    print_error,
    print_json,
    print_notice,
    said_outputs,
    said_read,
)

if TYPE_CHECKING:
    from worker.ledger import JobRecord
    from worker.wiring import Installation

_READ = "read"
Work = Callable[["Installation", EmbedRequest, Lane], "JobRecord"]


def _command(work: Work, about: str, *without: str) -> Callable[..., None]:
    """Return a command with the options that describe a slide, without some; what is done with it differs."""

    def command(
        encoder: ask.Encoder,
        source: ask.Source = None,
        weights: ask.Weights = None,
        spacing_um: ask.Spacing = None,
        native: ask.Native = False,
        upsample: ask.Upsample = False,
        patch_px: ask.PatchPx = None,
        stride_px: ask.StridePx = None,
        all_patches: ask.AllPatches = False,
        min_tissue: ask.MinTissue = DEFAULT_TISSUE_FRACTION,
        tissue: ask.Tissue = "otsu",
        mask: ask.Mask = None,
        regions: ask.Regions = None,
        coordinates: ask.Coordinates = None,
        request: ask.Request = None,
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
        lane: ask.Urgency = Lane.STANDARD,
        json: ask.Json = False,
    ) -> None:
        asked = {name: value for name, value in locals().items() if name in FIELDS}
        _do(Asked(**asked), work, lane, as_json=json)

    signature = inspect.signature(command)
    kept = [option for option in signature.parameters.values() if option.name not in without]
    command.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    command.__doc__ = about
    return command


def _do(asked: Asked, work: Work, lane: Lane, *, as_json: bool) -> None:
    """Do each request by itself, so that one bad slide does not sink the others; say what became of each."""
    from worker.declared import open_settings
    from worker.telemetry import configure_logging
    from worker.wiring import Installation

    configure_logging(level=logging.ERROR)
    replies: list[dict[str, Any]] = []
    try:
        settings = open_settings()
        requests = asked.requests()
        with Installation(settings) as installation:
            replies.extend(_one(installation, request, work, lane) for request in requests)
    except SlidewireError as exc:
        replies.append(failure_object(asked.encoder, exc))
    except KeyboardInterrupt:
        replies.append(failure_object(asked.encoder, Interrupted("Stopped before the slide was in the queue.")))
    if as_json:  # the object is the job's: asked again, it is the same
        print_json(joined([{name: value for name, value in reply.items() if name != _READ} for reply in replies]))
    for reply in replies:
        if "error" in reply:
            print_error(reply["error"]["code"], reply["error"]["message"])
        elif not as_json:
            _say(reply)
    codes = {reply["error"]["code"] for reply in replies if "error" in reply}
    if codes:
        raise typer.Exit(EXIT_INTERRUPTED if ErrorCode.INTERRUPTED in codes else EXIT_FAILED)


def _one(installation: "Installation", request: EmbedRequest, work: Work, lane: Lane) -> dict[str, Any]:
    try:
        before = installation.traffic
        reply = job_object(work(installation, request, lane))
        return reply | {_READ: said_read(before, installation.traffic)}
    except SlidewireError as exc:
        return failure_object(request.encoder, exc)
    except Exception as exc:  # noqa: BLE001 - a bug of ours; its text may hold anything, where it is may be told
        frame = extract_tb(exc.__traceback__)[-1]
        where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        error = SlidewireError(f"Slidewire itself failed ({type(exc).__name__} at {where}): please report it.")
        return failure_object(request.encoder, error)


def _submit_one(installation: "Installation", request: EmbedRequest, lane: Lane) -> "JobRecord":
    from worker.announcer import Announcer
    from worker.embedding import submit as submit_one

    job = submit_one(installation, request, lane)
    Announcer(installation).ring()
    return job


def _embed_one(installation: "Installation", request: EmbedRequest, lane: Lane) -> "JobRecord":
    from worker.cli.progress import progress_bar
    from worker.embedding import run_inline
    from worker.embedding import submit as submit_one
    from worker.pipeline import Cancellation
    from worker.process import stopping_on_signals

    del lane  # a person waits for it
    job = submit_one(installation, request, Lane.INTERACTIVE)
    cancellation = Cancellation()
    notice = print_notice if sys.stderr.isatty() else None
    with stopping_on_signals(cancellation), progress_bar(job.patches) as advance:
        return run_inline(installation, job, advance, cancellation, notice)


def _say(reply: dict[str, Any]) -> None:
    typer.echo(f"{reply['state']}: {reply['patches']} patches, {reply['encoder']}, job {reply['job']}")
    if "holes" in reply:
        typer.echo(f"  {reply['holes']} patches are holes: their frames could not be had; they have no embedding")
    for line in said_outputs(reply["outputs"]):
        typer.echo(f"  {line}")
    typer.echo(f"  {reply[_READ]}")


embed = _command(
    _embed_one,
    """Embed a slide here and now, with a progress bar.

    Example: slidewire embed pacs/1.2.3/1.2.3.4 --encoder efficientnet-lite0 --out embeddings --write-back
    """,
    "lane",
)
submit = _command(
    _submit_one,
    """Put a slide into the queue; when this returns, the job is on disk.

    Example: slidewire submit pacs/1.2.3/1.2.3.4 --encoder efficientnet-lite0 --write-back --json
    """,
)
