"""``slidewire encoders``: the models that are installed, and what each needs."""

from dataclasses import asdict
from typing import Annotated

import typer

from worker.cli.reply import print_json, reported


def encoders(
    name: Annotated[str | None, typer.Argument(help="Show this one.", show_default=False)] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """List the encoders, or show one with where its weights come from.

    Example: slidewire encoders efficientnet-lite0
    """
    from models.encoders import registry

    with reported(json):
        specs = [registry.find(found).spec for found in ((name,) if name else registry.names())]
        if json:
            print_json(asdict(specs[0]) if name else [asdict(spec) for spec in specs])
        elif name:
            for field, value in asdict(specs[0]).items():
                typer.echo(f"{field:<22} {value}")
        else:
            for spec in specs:
                typer.echo(f"{spec.name:<22} {spec.dimension:>5}  {spec.licence:<12} {spec.family}")
