"""``slidewire export``: embeddings out of a PACS, or out of files, into tables."""

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from models.domain.embedding import Output
from models.domain.errors import RequestError
from worker.cli.progress import progress_bar
from worker.cli.reply import print_json, reported

if TYPE_CHECKING:
    from connectors.dicom.deidentification.deidentify import Deidentification
    from connectors.protocols import Result
    from connectors.sinks.files import Wanted

_FILES = (".parquet", ".npz")


def export(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SERIES|FILES...",
            help="Series of results or of the slide (DICOMweb URL or ENDPOINT/STUDY_UID/SERIES_UID); DICOM files of "
            "any writer, folders of them; .parquet and .npz tables of Slidewire's.",
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", "-o", metavar="FILE|FOLDER", help="FILE.parquet, FILE.npz, or a folder or bucket.")
    ],
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar="NAME", help="Also write this layout; repeat for several.")
    ] = None,
    dicom: Annotated[bool, typer.Option("--dicom", help="Also write annotations and report again.")] = False,
    maps: Annotated[bool, typer.Option("--maps", help="With --dicom: also a Parametric Map.")] = False,
    group: Annotated[
        str, typer.Option("--group", metavar="N|LABEL", help="Annotation group, if several have measurements.")
    ] = "",
    kind: Annotated[
        Literal["annotations", "map"] | None,
        typer.Option("--kind", help="What to read; default: annotations if there are any.", show_default=False),
    ] = None,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="Replace all that names the patient by keyed pseudonyms.")
    ] = False,
    dates: Annotated[
        Literal["drop", "shift"], typer.Option("--dates", help="With --deidentify: what becomes of dates.")
    ] = "drop",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Read embeddings back, whole and verified by digest, from annotations or maps of any writer.

    Example: slidewire export pacs/1.2.3/1.2.3.4 --out embeddings.npz

    Example: slidewire export pacs/1.2.3/1.2.3.4 --out results --table trident --table numpy

    Example: slidewire export results/*.dcm --out shared --deidentify --dates shift
    """
    from connectors.export import Choice, read_stored
    from worker.deidentification import policy_of
    from worker.settings import load_settings
    from worker.telemetry import configure_logging

    configure_logging()
    with reported(json):
        wanted = _wanted(out, tuple(table or ()), dicom=dicom, maps=maps)
        settings = load_settings()
        policy = policy_of(settings, dates) if deidentify else None
        with progress_bar(None, "reading", "objects") as told:
            found = read_stored(sources, settings.open_endpoints(), Choice(group, kind or ""), told)
            replies = _all_written((one.result() for one in found), policy, out, wanted)
        _say(replies, as_json=json)


def _all_written(
    results: "Iterator[Result]", policy: "Deidentification | None", out: str, wanted: "Wanted | None"
) -> list[dict[str, Any]]:
    from connectors.dicom.deidentification.deidentify import deidentified

    if wanted is None:
        first = list(islice(results, 2))
        if len(first) > 1:
            raise RequestError("There are several results, and one file: give a folder with --out.")
        results = iter(first)
    return [_written(deidentified(result, policy) if policy else result, out, wanted) for result in results]


def _wanted(out: str, tables: tuple[str, ...], *, dicom: bool, maps: bool) -> "Wanted | None":
    """Return what goes into a folder; None if one file is wanted."""
    from connectors.sinks.files import Wanted
    from connectors.tables.registry import find_table

    if Path(out).suffix in _FILES:
        if tables or dicom or maps:
            raise RequestError("--table, --dicom and --maps write several files: give a folder with --out.")
        return None
    if "://" not in out and Path(out).suffix and not out.endswith("/") and not Path(out).is_dir():
        raise RequestError(
            "Export writes .parquet or .npz, or into a folder: if that is one, end its name with a slash."
        )
    if maps and not dicom:
        raise RequestError("--maps adds a map to the objects of --dicom: give both.")
    for name in tables:
        find_table(name)  # refused before anything is read
    return Wanted(tables, dicom, maps)


def _written(result: "Result", out: str, wanted: "Wanted | None") -> dict[str, Any]:
    """Write one result, and return what is said of it."""
    from connectors.export import to_file
    from connectors.sinks.files import FilesSink, put

    place = out if "://" in out else str(Path(out).absolute())
    said = {
        "patches": len(result.embeddings),
        "dimension": result.embeddings.dimension,
        "encoder": result.provenance.encoder,
    }
    if wanted is None:
        content = to_file(result, Path(out).suffix)
        put(place, content)
        output = Output(Path(out).suffix[1:], place, hashlib.sha256(content).hexdigest())
        return {**said, "uri": output.uri, "sha256": output.sha256, "outputs": [output.to_json()]}
    if wanted.dicom and (result.header is None or not result.provenance.slidewire):
        raise RequestError("--dicom writes results of Slidewire's on DICOM slides again, and this is none.")
    return {**said, "outputs": [output.to_json() for output in FilesSink(place, wanted).write(result)]}


def _say(replies: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(replies[0] if len(replies) == 1 else {"results": replies})
        return
    for reply in replies:
        for output in reply["outputs"]:
            typer.echo(f"{reply['patches']} patches x {reply['dimension']} written to {output['uri']}")
