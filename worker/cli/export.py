"""``slidewire export``: embeddings out of a PACS into a file."""

from pathlib import Path
from typing import Annotated

import typer

from worker.cli.reply import print_json, reported


def export(
    series: Annotated[
        str,
        typer.Argument(
            metavar="SERIES",
            help="Series of annotations or of the slide: DICOMweb URL or ENDPOINT/STUDY_UID/SERIES_UID.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="FILE.parquet or FILE.npz.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Read embeddings back from the PACS, whole and verified by digest.

    Example: slidewire export pacs/1.2.3/1.2.3.4 --out embeddings.npz
    """
    import hashlib

    from connectors.export import read_series, to_file
    from connectors.sinks.files import put
    from worker.settings import load_settings
    from worker.telemetry import configure_logging

    configure_logging()
    with reported(json):
        endpoints = load_settings().open_endpoints()
        stored = read_series(endpoints.locate(series), endpoints)
        content = to_file(stored, out.suffix)
        put(str(out.absolute()), content)
        patches, dimension = stored.matrix.shape
        if json:
            digest = hashlib.sha256(content).hexdigest()
            print_json({"patches": patches, "dimension": dimension, "uri": str(out.absolute()), "sha256": digest})
        else:
            typer.echo(f"{patches} patches x {dimension} written to {out}")
