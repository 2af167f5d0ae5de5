"""``slidewire endpoints``: how the servers stand that jobs read from, and how to end a pause by hand."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli.jobs import Json, open_ledger, when
from worker.cli.reply import print_json

if TYPE_CHECKING:
    from worker.ledger import EndpointRecord

app = typer.Typer(invoke_without_command=True)


@app.callback()
def endpoints(context: typer.Context, json: Json = False) -> None:
    """List the servers that jobs read from: whether they are left alone and why, and what waits for them.

    Example: slidewire endpoints
    """
    if context.invoked_subcommand:
        return
    with open_ledger(json) as ledger:
        found = ledger.endpoints.list()
        if json:
            moments = ({"until": _when(one.until), "succeeded_at": _when(one.succeeded_at)} for one in found)
            print_json([asdict(one) | moment for one, moment in zip(found, moments, strict=True)])
        else:
            _table(found)


@app.command()
def resume(
    name: Annotated[str, typer.Argument(help="Of the endpoint; of a raw URL, its scheme, host and port.")],
    json: Json = False,
) -> None:
    """Let the workers read from a server again at once, after what was wrong has been repaired.

    Example: slidewire endpoints resume pacs
    """
    with open_ledger(json) as ledger:
        ledger.endpoints.resume(name)
        if json:
            print_json({"key": name, "state": "closed"})
        else:
            typer.echo(f"{name}: closed")


def _when(seconds: float | None) -> str | None:
    return None if seconds is None else when(seconds)


def _table(found: Sequence["EndpointRecord"]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        typer.echo("No job was read from a server yet.")
        return
    table = Table("endpoint", "state", "why", "until", "leased", "waiting", "last success", box=None)
    for one in found:
        counts = (str(one.leased), str(one.waiting))
        table.add_row(one.key, one.state, one.code, _when(one.until) or "", *counts, _when(one.succeeded_at) or "never")
    Console().print(table)
