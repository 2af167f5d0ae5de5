"""``slidewire ledger``: whether the database of the ledger is that of this version, and how to make it so."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from worker.cli.jobs import Json
from worker.cli.reply import print_json, reported

if TYPE_CHECKING:
    from worker.ledger import Database

app = typer.Typer(help="Look at the ledger's database, or bring it up to date.", no_args_is_help=True)

_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@contextmanager
def _opened(as_json: bool) -> Iterator["Database"]:
    from worker.ledger import Database
    from worker.settings import load_settings
    from worker.telemetry import configure_logging

    configure_logging()
    with reported(as_json):
        database = Database(load_settings().ledger, as_it_is=True)
        try:
            yield database
        finally:
            database.close()


@app.command()
def migrate(json: Json = False) -> None:
    """Bring the ledger of an older Slidewire up to date; one that is, stays as it is. Back it up first.

    Workers that run meanwhile go on; started again, they must be of this version.

    Example: slidewire ledger migrate
    """
    with _opened(json) as database:
        before, after = database.migrate()
        if json:
            print_json({"database": database.kind, "from": before, "to": after, "migrated": before != after})
        elif before == after:
            typer.echo(f"The ledger ({_NAMES[database.kind]}) is up to date: revision {after}.")
        elif before is None:
            typer.echo(f"The ledger ({_NAMES[database.kind]}) was empty and is set up: revision {after}.")
        else:
            typer.echo(f"The ledger ({_NAMES[database.kind]}) was brought from revision {before} to {after}.")


@app.command()
def status(json: Json = False) -> None:
    """Show which database the ledger is in, whether its revision is that of this version, and how many jobs it holds.

    Example: slidewire ledger status --json
    """
    from worker.ledger import Jobs, migration

    with _opened(json) as database:
        found, newest = database.revision(), migration.known()[0]
        jobs = {} if found is None else Jobs(database).counts()
        if json:
            said = {"database": database.kind, "revision": found, "newest": newest, "current": found == newest}
            print_json({**said, "jobs": jobs})
            return
        typer.echo(f"database     {_NAMES[database.kind]}")
        typer.echo(f"revision     {found or 'none: it is set up when it is used first'}{_said(found, newest)}")
        for state, count in jobs.items():
            typer.echo(f"{state:<12} {count}")


def _said(found: str | None, newest: str) -> str:
    from worker.ledger import migration

    if found == newest:
        return " (up to date)"
    if found in migration.known():
        return f" (older than this version's, {newest}: run `slidewire ledger migrate`)"
    return "" if found is None else f" (of a newer Slidewire; this version's is {newest})"
