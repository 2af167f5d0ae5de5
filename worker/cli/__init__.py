"""The slidewire command: one module a group of commands; heavy imports wait until a command runs."""

from typing import Annotated

import typer

from worker.cli import (
    backfill,
    dataset,
    doctor,
    embed,
    encoders,
    endpoints,
    export,
    health,
    jobs,
    ledger,
    metrics,
    process,
    report,
    show,
    similarity,
    watch,
)

app = typer.Typer(
    name="slidewire",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn whole-slide images in a PACS or a bucket into embeddings, and put the embeddings back.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from worker.version import VERSION

        typer.echo(f"slidewire {VERSION}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    del version


app.command("embed")(embed.embed)
app.command("submit")(embed.submit)
app.command("backfill")(backfill.backfill)
app.command("watch")(watch.watch)
app.command("worker")(process.worker)
app.add_typer(jobs.app, name="jobs")
app.add_typer(ledger.app, name="ledger")
app.add_typer(endpoints.app, name="endpoints")
app.command("export")(export.export)
app.command("report")(report.report)
app.command("similarity")(similarity.similarity)
app.command("dataset")(dataset.dataset)
app.add_typer(encoders.app, name="encoders")
app.command("doctor")(doctor.doctor)
app.command("health")(health.health)
app.command("metrics")(metrics.metrics)
app.command("demo")(show.demo)


def main() -> None:
    """Run the command."""
    app()
