"""``slidewire dataset``: many results as one table, with labels."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.domain.errors import ResultError
from worker.cli.reply import print_json, reported

if TYPE_CHECKING:
    from connectors.dataset.index import Index
    from connectors.dataset.patches import PatchDataset

_SHOWN = 5


def dataset(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder or URI that results were embedded into (--out).")],
    labels: Annotated[
        str | None,
        typer.Option(metavar="CSV", help="A row a slide, or a row a patch (columns x, y), and columns of labels."),
    ] = None,
    on: Annotated[str, typer.Option(metavar="COLUMN", help="The labels' column with the slides' names.")] = "slide",
    encoder: Annotated[str, typer.Option("--encoder", "-e", help="Only results of this encoder.")] = "",
    recipe: Annotated[str, typer.Option(help="Only results of this recipe; its first characters.")] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Look at all tables in a folder as one dataset, join labels, and say what is there; nothing is copied.

    What was found is kept in OUT/slidewire-index.parquet, so that the next look is quick. In Python:
    ``from worker import open_dataset``.

    Example: slidewire dataset embeddings --labels labels.csv
    """
    from connectors.dataset.index import read_index, write_index
    from connectors.dataset.labels import read_labels
    from connectors.dataset.patches import PatchDataset, choose_entries
    from worker.cli.progress import progress_bar
    from worker.telemetry import configure_logging

    configure_logging()
    with reported(json):
        with progress_bar(None, "looking", "tables") as advance:
            index = read_index(out, advance)
        known = None if labels is None else read_labels(labels, on)
        found = PatchDataset(out, choose_entries(index, encoder, recipe), known)
        reply = _object(found, index)
        try:
            write_index(out, index)
        except ResultError as exc:  # a folder that is only read is no less a dataset
            reply["index_not_kept"] = exc.message
        if json:
            print_json(reply)
        else:
            _say(reply)


def _object(found: "PatchDataset", index: "Index") -> dict[str, Any]:
    entries = found.entries
    reply: dict[str, Any] = {
        "slides": len(entries),
        "patches": sum(entry.patches for entry in entries),
        "holes": sum(entry.holes for entry in entries),
        "dimension": entries[0].dimension,
        "encoder": entries[0].encoder,
        "recipe": entries[0].recipe,
        "first_slides": [entry.slide for entry in entries[:_SHOWN]],
        "columns": found.schema.names,
        "unreadable": list(index.unreadable),
        "foreign": list(index.foreign),
    }
    if found.labels is not None:
        there = {entry.slide for entry in entries}
        reply["labels"] = {
            "of": "patches" if found.labels.of_patches else "slides",
            "columns": [field.name for field in found.labels.fields],
            "slides_with_label": len(there & found.labels.slides),
            "slides_without_label": len(there - found.labels.slides),
            "labels_without_slide": len(found.labels.slides - there),
        }
    return reply


def _say(reply: dict[str, Any]) -> None:
    typer.echo(
        f"{reply['slides']} slides, {reply['patches']} patches x {reply['dimension']}, {reply['encoder']}, "
        f"recipe {reply['recipe'][:8] or 'unknown'}"
    )
    if reply["holes"]:
        typer.echo(f"  {reply['holes']} patches are holes: they have no embedding")
    typer.echo(f"  columns: {', '.join(reply['columns'])}")
    typer.echo(f"  slides are called: {', '.join(reply['first_slides'])}{' ...' if reply['slides'] > _SHOWN else ''}")
    if labels := reply.get("labels"):
        typer.echo(
            f"  labels of {labels['of']}: {', '.join(labels['columns'])};"
            f" {labels['slides_with_label']} slides have one,"
            f" {labels['slides_without_label']} have none; {labels['labels_without_slide']} of the labels have no slide"
        )
    for file in reply["unreadable"]:
        typer.echo(f"  cannot be read: {file}")
    if "index_not_kept" in reply:
        typer.echo(f"  the next look opens all tables again, for the index is not kept: {reply['index_not_kept']}")
    if reply["foreign"]:
        typer.echo(f"  {len(reply['foreign'])} Parquet files of others were passed over")
