"""``slidewire doctor``: what a DICOMweb server can do, and what to do where it cannot."""

import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.domain.errors import RequestError
from worker.cli.reply import print_json, reported

if TYPE_CHECKING:
    from connectors.endpoints import Endpoint, Endpoints
    from connectors.probe import Finding
    from connectors.profile import Profile

_ABOUT = "ENDPOINT, ENDPOINT/STUDY_UID/SERIES_UID, or the URL of a DICOMweb service or of a series."
_MARKS = {"good": "ok", "note": "note", "bad": "BAD"}

Server = Annotated[str, typer.Argument(metavar="SERVER", help=_ABOUT, show_default=False)]
WriteTest = Annotated[
    bool,
    typer.Option("--write-test", help="Store an annotations object of four patches in the slide's study; it stays."),
]
Save = Annotated[bool, typer.Option("--save/--no-save", help="Keep the profile for later jobs.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def doctor(server: Server, write_test: WriteTest = False, save: Save = True, json: Json = False) -> None:
    """Ask a server what it can do, say so, and keep it for later jobs.

    Reads one slide: its metadata, some frames, its smallest instance. Writes nothing unless told to.

    Example: slidewire doctor pacs
    """
    from connectors.probe import Probe, usable
    from worker.settings import load_settings
    from worker.telemetry import configure_logging

    configure_logging(level=logging.ERROR)
    with reported(json):
        settings = load_settings()
        endpoint, study_uid, series_uid = _located(server, settings.open_endpoints(profiled=False))
        if write_test and not json:
            typer.echo("Storing an annotations object of four patches in the slide's study; it stays there.", err=True)
        probe = Probe(endpoint, study_uid, series_uid)
        try:
            profile, findings = probe.run(write=write_test)
        finally:
            probe.close()
        if save:
            settings.profiles.save(profile)
        fine = usable(findings)
        if json:
            found = [asdict(finding) for finding in findings]
            print_json({"usable": fine, "saved": save, "profile": _shown(profile), "findings": found})
        else:
            _say(findings)
            typer.echo(_verdict(profile, fine=fine, saved=save))


def _located(server: str, endpoints: "Endpoints") -> tuple["Endpoint", str, str]:
    """Return the endpoint, and the slide if one was named."""
    is_url = server.startswith(("http://", "https://"))
    if is_url and "/studies" not in server:
        return endpoints.of_url(server), "", ""
    if not is_url and "/" not in server:
        return endpoints.named(server), "", ""
    ref = endpoints.locate(server)
    if ref.kind != "dicomweb":
        raise RequestError(f"That is no DICOMweb server: give {_ABOUT}")
    return endpoints.of_ref(ref), ref.study_uid, ref.series_uid


def _shown(profile: "Profile") -> dict[str, Any]:
    """Return a profile without the address, which is known to whoever asked, or is nobody else's business."""
    return {name: value for name, value in profile.to_json().items() if name != "url"}


def _say(findings: "tuple[Finding, ...]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "tried", "what came", "what it means", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for finding in findings:
        table.add_row(_MARKS[finding.verdict], finding.tried, finding.came, finding.means)
    Console(markup=False, highlight=False, emoji=False).print(table)


def _verdict(profile: "Profile", *, fine: bool, saved: bool) -> str:
    kept = " The profile is kept; later jobs start from it." if saved else ""
    if not fine:
        return f"\nSlides can be read here; see what is BAD above.{kept}"
    if profile.stores_annotations == "unknown":
        return f"\nSlides can be read here. Whether results can be stored was not tried: --write-test.{kept}"
    return f"\nSlides can be read here, and results stored.{kept}"
