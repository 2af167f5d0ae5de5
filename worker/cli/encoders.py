"""``slidewire encoders``: the models there are, what each needs to run, and how its weights come here."""

import logging
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from worker.cli.jobs import Json
from worker.cli.reply import print_json, print_notice, reported

_SHOW = "show"


class _Names(TyperGroup):
    """What is no command is the name of an encoder."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # Any: the types are click's own, or those of the copy of it that newer versions of typer carry.
        return super().resolve_command(ctx, args if args[0] in self.commands else [_SHOW, *args])


app = typer.Typer(cls=_Names, invoke_without_command=True, subcommand_metavar="[NAME | fetch NAME] [OPTIONS]")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the encoder.")]


@app.callback()
def encoders(context: typer.Context, json: Json = False) -> None:
    """List the encoders; with a NAME, show that one and what is needed to run it.

    Example: slidewire encoders

    Example: slidewire encoders exaonepath
    """
    if context.invoked_subcommand:
        return
    from worker.cli import encoders_view as view
    from worker.declared import open_settings

    with reported(json):
        found = view.survey(open_settings())
        if json:
            print_json([one.to_json() for one in found])
        else:
            view.print_table(found)


@app.command(_SHOW, hidden=True)
def show(context: typer.Context, name: Name, json: Json = False) -> None:
    """Show one encoder: what it takes and gives, and what is needed to run it.

    Example: slidewire encoders exaonepath
    """
    from models.encoders import registry
    from worker.cli import encoders_view as view
    from worker.declared import open_settings

    json |= bool(context.parent and context.parent.params["json"])
    with reported(json):
        settings = open_settings()
        found = view.Standing.of(registry.find(name), settings)
        if json:
            print_json(found.to_json())
        else:
            view.print_one(found)


@app.command()
def fetch(
    context: typer.Context,
    name: Name,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit; default: the encoder's own.")] = "",
    json: Json = False,
) -> None:
    """Fetch the published weights of an encoder from the Hugging Face hub; what broke off is gone on with.

    HF_TOKEN in the environment is the token of an account that agreed to the terms of a gated model.

    Example: slidewire encoders fetch exaonepath
    """
    from connectors.weights_fetch import Watched, fetch_weights
    from models.encoders import registry
    from models.encoders.suitability import check_licence
    from worker.cli.progress import download_bar
    from worker.declared import open_settings
    from worker.telemetry import configure_logging

    configure_logging(level=logging.ERROR)
    json |= bool(context.parent and context.parent.params["json"])
    with reported(json):
        settings, spec = open_settings(), registry.find(name).spec
        check_licence(spec, settings.accepted_licences)
        with download_bar(name) as count:
            watched = Watched((lambda text: None) if json else print_notice, count)  # noqa: ARG005
            fetched = fetch_weights(spec, settings.weights_folder, settings.hub, revision, watched)
        if json:
            print_json(
                {"encoder": name, "path": str(fetched.path), "already": fetched.already, **fetched.lock.to_json()}
            )
            return
        size_mb = sum(file.bytes for file in fetched.lock.files.values()) / 1e6
        what = f"{len(fetched.lock.files)} files, {size_mb:.1f} MB, revision {fetched.lock.revision[:12]}"
        done = "are here already, whole: nothing was fetched" if fetched.already else "were fetched"
        typer.echo(f"The weights of {name} {done} ({what}).")
        typer.echo(str(fetched.path))
