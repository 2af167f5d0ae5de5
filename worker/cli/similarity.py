"""``slidewire similarity``: which parts of a slide are like a chosen patch."""

import re
from pathlib import Path
from typing import Annotated

import typer

from models.domain.errors import RequestError
from worker.cli.reply import print_json, reported

_POINT = re.compile(r"\s*(\d{1,9})\s*,\s*(\d{1,9})\s*")


def similarity(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or its first characters.")],
    at: Annotated[str, typer.Option("--at", metavar="X,Y", help="A point of the chosen patch, in pixels of level 0.")],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder or bucket; else where the job's table is.")
    ] = "",
    dicom: Annotated[bool, typer.Option("--dicom", help="Also write a DICOM Parametric Map there.")] = False,
    write_back: Annotated[bool, typer.Option("--write-back", help="Also store the map in the slide's PACS.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Draw a heat map: the cosine similarity of every embedding of a job to that of one patch.

    Example: slidewire similarity 3f2a --at 5200,8100 --out heat --dicom
    """
    from worker.declared import open_settings
    from worker.similarity import Similarity
    from worker.telemetry import configure_logging
    from worker.wiring import Installation

    configure_logging()
    with reported(json):
        point = _point(at)
        with Installation(open_settings()) as installation:
            found = Similarity.of(installation, job, point)
            folder = out or found.request.output.folder or str(Path.cwd())
            folder = folder if "://" in folder else str(Path(folder).expanduser().absolute())
            stored = [found.store(installation)] if write_back else []
            outputs = [*found.write(folder, dicom=dicom), *stored]
        if json:
            print_json({"job": found.job, "row": found.row, "outputs": [output.to_json() for output in outputs]})
        else:
            typer.echo("\n".join(f"{output.kind:<8} {output.uri}" for output in outputs))


def _point(text: str) -> tuple[int, int]:
    found = _POINT.fullmatch(text)
    if found is None:
        raise RequestError(
            "--at takes the column and the row of a pixel of level 0, two whole numbers: --at 5200,8100."
        )
    return int(found[1]), int(found[2])
