"""What a command says: one JSON object for scripts, a few lines for people, one line for an error."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from models.domain.errors import SlidewireError

if TYPE_CHECKING:
    from connectors.protocols import Traffic
    from worker.ledger import JobRecord

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def job_object(job: "JobRecord") -> dict[str, Any]:
    """Return a job as scripts read it."""
    reply: dict[str, Any] = {
        "job": job.id,
        "state": str(job.state),
        "patches": job.patches,
        "dimension": int(job.request["provenance"]["dimension"]),
        "encoder": job.encoder,
        "outputs": [output.to_json() for output in job.outputs],
    }
    if job.holes:
        reply["holes"] = job.holes
    if job.error_code:
        reply["error"] = {"code": job.error_code, "message": job.error_message}
    return reply


def said_outputs(outputs: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Yield the lines that say what a job left behind, and what is to be known of it."""
    for output in outputs:
        yield f"{output['kind']:<12} {output['uri']}"
        if "note" in output:
            yield f"{'':<12} {output['note']}"


def said_read(before: "Traffic", after: "Traffic") -> str:
    """Return in words what was read of a slide between two moments."""
    size_mb = (after.bytes_read - before.bytes_read) / 1e6
    return f"read from the slide: {size_mb:.1f} MB in {after.requests - before.requests} requests"


def failure_object(encoder: str, error: SlidewireError) -> dict[str, Any]:
    """Return the reply for a request that never became a job."""
    return {
        "job": None,
        "state": "failed",
        "patches": 0,
        "dimension": None,
        "encoder": encoder,
        "outputs": [],
        "error": {"code": str(error.code), "message": error.message},
    }


def joined(replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one object for several jobs: their sum, the first error, and each in ``jobs``."""
    if len(replies) == 1:
        return dict(replies[0])
    states = [str(reply["state"]) for reply in replies]
    errors = [reply["error"] for reply in replies if "error" in reply]
    whole: dict[str, Any] = {
        "job": replies[0]["job"],
        "state": states[0] if len(set(states)) == 1 else ("failed" if errors else "running"),
        "patches": sum(reply["patches"] for reply in replies),
        "dimension": next((reply["dimension"] for reply in replies if reply["dimension"]), None),
        "encoder": replies[0]["encoder"],
        "outputs": [output for reply in replies for output in reply["outputs"]],
        "jobs": list(replies),
    }
    return {**whole, "error": errors[0]} if errors else whole


def print_json(value: Any) -> None:
    """Write one JSON value to standard output."""
    sys.stdout.write(json.dumps(value) + "\n")


def print_error(code: str, message: str) -> None:
    """Write an error's one line to standard error."""
    sys.stderr.write(f"slidewire: {code}: {message}\n")


def print_notice(text: str) -> None:
    """Write a remark to standard error, for a person at a terminal."""
    sys.stderr.write(f"slidewire: {text}\n")


@contextmanager
def reported(as_json: bool = False) -> Iterator[None]:
    """Turn an error into its one line (and its JSON object) and exit status 1; an interrupt into 130."""
    try:
        yield
    except SlidewireError as exc:
        if as_json:
            print_json({"error": {"code": str(exc.code), "message": exc.message}})
        print_error(str(exc.code), exc.message)
        raise typer.Exit(EXIT_FAILED) from exc
    except KeyboardInterrupt:
        print_error("INTERRUPTED", "Stopped.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
