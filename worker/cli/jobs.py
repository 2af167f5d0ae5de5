"""``slidewire jobs``: what is in the ledger, and how to cancel it or try it again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.domain.errors import RequestError
from models.domain.job import JobState
from worker.cli.reply import job_object, print_json, reported, said_outputs

if TYPE_CHECKING:
    from worker.ledger import Incident, JobRecord, Ledger

app = typer.Typer(help="List jobs, show one, cancel it, try it again.", invoke_without_command=True)

Id = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or its first characters.")]
_UNITS_S = {"d": 86400.0, "h": 3600.0}
_MOST_DIGITS = 6
_RETRIED = {JobState.FAILED, JobState.QUARANTINED, JobState.CANCELLED}
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


@contextmanager
def open_ledger(as_json: bool) -> Iterator["Ledger"]:
    """Open the ledger for the length of a block whose errors are told the agreed way."""
    from worker.ledger import Ledger
    from worker.settings import load_settings
    from worker.telemetry import configure_logging

    configure_logging()
    with reported(as_json):
        settings = load_settings()
        with Ledger(settings.ledger, settings.checkpoint_folder, settings.ledger_rules) as ledger:
            yield ledger


@app.callback()
def jobs(
    context: typer.Context,
    state: Annotated[JobState | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 50,
    json: Json = False,
) -> None:
    """List jobs with their state and progress.

    Example: slidewire jobs --state failed --json
    """
    if context.invoked_subcommand:
        return
    with open_ledger(json) as ledger:
        found = ledger.jobs.list(limit, state)
        if json:
            print_json([_full(job) for job in found])
        else:
            _table(found)


@app.command()
def show(job: Id, json: Json = False) -> None:
    """Show one job: state, progress, outputs, error, and what happened to its shards.

    Example: slidewire jobs show 3f2a
    """
    with open_ledger(json) as ledger:
        record, history = ledger.jobs.get(job), ledger.jobs.history(job)
        if json:
            print_json(_full(record) | {"history": [asdict(one) | {"at": when(one.at)} for one in history]})
        else:
            _say(record)
            _say_history(history)


@app.command()
def cancel(job: Id, json: Json = False) -> None:
    """Cancel a job; a worker that is at it stops by its next heartbeat.

    Example: slidewire jobs cancel 3f2a
    """
    with open_ledger(json) as ledger:
        _one(ledger.jobs.cancel(job), as_json=json)


@app.command()
def retry(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Id of the job, or its first characters.")] = None,
    state: Annotated[JobState | None, typer.Option(help="Instead of one job: all that are failed, ...")] = None,
    code: Annotated[str | None, typer.Option(help="Of those, only the ones that ended with this error.")] = None,
    json: Json = False,
) -> None:
    """Queue jobs again that failed, were quarantined or cancelled; they go on from their checkpoints.

    Example: slidewire jobs retry 3f2a

    Example: slidewire jobs retry --state failed --code ENDPOINT_UNREACHABLE
    """
    with open_ledger(json) as ledger:
        if (job is None) == (state is None):
            raise RequestError("Name one job, or give --state.")
        if job is not None:
            _one(ledger.jobs.reopen(job), as_json=json)
            return
        if state not in _RETRIED:
            raise RequestError(f"Jobs that are {state} cannot be tried again; failed, quarantined, cancelled ones can.")
        found = [ledger.jobs.reopen(each) for each in ledger.jobs.ended(state, code)]
        if json:
            print_json([_full(each) for each in found])
        else:
            typer.echo(f"{len(found)} jobs queued again.")


@app.command()
def purge(
    older_than: Annotated[str, typer.Option(metavar="AGE", help="Of jobs that ended so long ago: 30d, 12h.")] = "30d",
    json: Json = False,
) -> None:
    """Remove the checkpoints of jobs that ended long ago; tried again, such a job begins anew. Open jobs keep theirs.

    Example: slidewire jobs purge --older-than 30d
    """
    with open_ledger(json) as ledger:
        done = ledger.checkpoints.purge(_seconds(older_than))
        if json:
            print_json(asdict(done))
        else:
            typer.echo(f"{done.files} files of {done.jobs} jobs removed, {done.freed_bytes / 1e6:.1f} MB.")


def _seconds(age: str) -> float:
    number, unit = age[:-1], _UNITS_S.get(age[-1:])
    if unit is None or not number.isascii() or not number.isdigit() or len(number) > _MOST_DIGITS:
        raise RequestError("An age is a whole number of days or hours: 30d, 12h.")
    return int(number) * unit


def _full(job: "JobRecord") -> dict[str, Any]:
    return {
        **job_object(job),
        "lane": str(job.lane),
        "patches_done": job.patches_done,
        "created_at": when(job.created_at),
        "updated_at": when(job.updated_at),
    }


def when(seconds: float) -> str:
    """Return a moment as people and scripts read it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _table(found: Sequence["JobRecord"]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        typer.echo("No jobs.")
        return
    table = Table("job", "state", "encoder", "patches", "created", "error", box=None)
    for job in found:
        progress = f"{job.patches_done}/{job.patches}"
        table.add_row(job.id[:8], job.state, job.encoder, progress, when(job.created_at), job.error_code)
    Console().print(table)


def _one(job: "JobRecord", *, as_json: bool) -> None:
    if as_json:
        print_json(_full(job))
    else:
        _say(job)


def _say(job: "JobRecord") -> None:
    for name, value in _full(job).items():
        if name == "outputs":
            for line in said_outputs(value):
                typer.echo(line)
        else:
            typer.echo(f"{name:<12} {value['code'] + ': ' + value['message'] if name == 'error' else value}")


def _say_history(history: Sequence["Incident"]) -> None:
    """Say what went otherwise than claimed and completed; most jobs have nothing to say here."""
    for one in history:
        if one.event not in {"claimed", "completed"}:
            code = f" {one.code}" if one.code else ""
            typer.echo(f"{when(one.at)}  {one.kind} shard {one.shard}: {one.event}{code}: {one.detail or one.owner}")
