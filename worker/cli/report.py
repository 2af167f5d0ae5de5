"""``slidewire report``: a page about a job, to look at and to hand on."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.domain.errors import ExtraMissing, JobNotFound
from worker.cli.reply import print_json, reported

if TYPE_CHECKING:
    from models.domain.embedding import Output
    from worker.wiring import Installation

_FOLDER = "slidewire-report"


def report(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="Id of the job, or its first characters; default: the newest.")
    ] = "",
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder or bucket; else NAME.report beside the table.")
    ] = "",
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Write a page about a job, whatever its state, and its pictures; it opens without a server or a network.

    Example: slidewire report 3f2a
    """
    from worker.declared import open_settings
    from worker.telemetry import configure_logging
    from worker.wiring import Installation

    configure_logging(level=logging.ERROR)
    with reported(json):
        with Installation(open_settings()) as installation:
            files = write_page(installation, job or _newest(installation), out)
        if json:
            print_json({"page": files[0].uri, "files": [file.to_json() for file in files]})
        else:
            typer.echo(f"{files[0].uri}\n  and {len(files) - 1} pictures beside it")
    if show and "://" not in files[0].uri:
        typer.launch(files[0].uri)


def _newest(installation: "Installation") -> str:
    jobs = installation.ledger.jobs.list(1)
    if not jobs:
        raise JobNotFound("There is no job in the ledger yet: embed or submit a slide first.")
    return jobs[0].id


def write_page(installation: "Installation", job_id: str, out: str = "") -> "tuple[Output, ...]":
    """Write the page about a job to where it was asked for, or beside its table; return the files, the page first.

    Raises
    ------
    JobNotFound
    ExtraMissing
    OutputUnwritable
    """
    try:
        from worker.report.page import write_report
        from worker.report.story import Story
    except ImportError as exc:
        raise ExtraMissing("The page needs the extra 'report': pip install 'slidewire[report]'.") from exc
    story = Story.of(installation, job_id)
    table = next((output.uri.removesuffix(".parquet") for output in story.job.outputs if output.kind == "parquet"), "")
    place = out or f"{table or f'{_FOLDER}/{story.name}'}.report"
    return write_report(story, place if "://" in place else str(Path(place).expanduser().absolute()))
