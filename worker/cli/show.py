"""``slidewire demo``: the whole of it on a public slide, without any service."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.domain.request import EmbedRequest, OutputSpec, PatchSpec
from worker.cli.reply import EXIT_FAILED, job_object, print_error, print_json, reported
from worker.cli.report import write_page

if TYPE_CHECKING:
    from connectors.endpoints import Endpoint

_PATCHES = PatchSpec(stride_px=112)  # half a patch: a finer picture
_ABOUT = {
    "parquet": "the table: one row a patch; pandas.read_parquet opens it",
    "annotations": "DICOM Microscopy Bulk Simple Annotations: the same numbers, for the PACS",
    "report": "DICOM Comprehensive 3D SR: what was computed, how, with which weights",
    "picture": "look at this: slide and embeddings side by side; like colours, like tissue",
}


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Where everything goes.")] = Path(
        "demo-out"
    ),
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Model.")] = "efficientnet-lite0",
    send: Annotated[
        str | None,
        typer.Option("--send", metavar="ENDPOINT", help="Only store the slide there, for `slidewire watch` to find."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Fetch a public slide, write it as DICOM, embed it, and leave table, DICOM objects and a picture.

    Example: slidewire demo --out demo-out
    """
    from worker.cli.progress import progress_bar
    from worker.embedding import run_inline, submit
    from worker.settings import Settings, load_settings
    from worker.telemetry import configure_logging
    from worker.wiring import Installation

    configure_logging(level=logging.ERROR)
    with reported(json):
        target = None if send is None else load_settings().open_endpoints().named(send)
        slide = out / "cmu-region"
        files = _write_sample(out / "sample", slide)
        if target is not None:
            _send(files, target, as_json=json)
            return
        # A ledger of its own: the demo touches nothing outside its folder.
        settings = Settings(state_folder=out / "state", ledger_url="", broker_url="", checkpoints=None)
        request = EmbedRequest(str(slide), encoder, OutputSpec(str(out), dicom_files=True, picture=True), _PATCHES)
        with Installation(settings) as installation:
            job = submit(installation, request)
            typer.echo(f"Embedding {job.patches} patches with {encoder} ...", err=True)
            with progress_bar(job.patches) as advance:
                job = run_inline(installation, job, advance)
            page, *_ = write_page(installation, job.id)
    reply = job_object(job) | {"page": page.uri}
    if json:
        print_json(reply)
    if "error" in reply:
        print_error(reply["error"]["code"], reply["error"]["message"])
        raise typer.Exit(EXIT_FAILED)
    if not json:
        _say(reply, slide)


def _write_sample(cache: Path, slide: Path) -> tuple[Path, ...]:
    """Fetch the public slide, write it as DICOM into a folder, and return the files."""
    from worker.demo.pyramid import write_pyramid
    from worker.demo.sample import fetch_sample, read_sample

    typer.echo("Fetching a public H&E slide (CMU-1-Small-Region, 2220 x 2967 px, 0.499 um/px) ...", err=True)
    pixels, spacing_um = read_sample(fetch_sample(cache))
    return write_pyramid(pixels, spacing_um, slide)


def _send(files: Sequence[Path], endpoint: "Endpoint", *, as_json: bool) -> None:
    """Store the sample in a server of the settings, and say so."""
    from worker.demo.delivery import deliver

    deliver(files, endpoint)
    if as_json:
        print_json({"endpoint": endpoint.name, "instances": len(files)})
    else:
        typer.echo(f"Stored {len(files)} instances of one slide in {endpoint.name}.")


def _say(reply: dict[str, Any], slide: Path) -> None:
    typer.echo(f"\nDone: {reply['patches']} patches x {reply['dimension']} numbers. What there is to see:")
    typer.echo(f"  {slide}\n    the slide as a DICOM pyramid, as a scanner would store it")
    for output in reply["outputs"]:
        typer.echo(f"  {output['uri']}\n    {_ABOUT[output['kind']]}")
    typer.echo(
        f"  {reply['page']}\n    open this in a browser: all of the job on one page, with clusters and example patches"
    )
