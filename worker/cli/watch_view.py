"""How `slidewire watch --explain` looks on a terminal."""

from collections.abc import Iterator
from typing import Any

import typer

_DONE = {
    "submitted": "a job is made of it",
    "settling": "it is looked at again",
    "incomplete": "it is waited for",
    "overdue": "it is reported as late",
    "passed-over": "it is passed over",
    "failed": "it is left, with an error",
}


def say_explanation(told: dict[str, Any]) -> None:
    """Print an explanation, given as scripts read it."""
    for line in explained(told):
        typer.echo(line)


def explained(told: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that explain what the watch makes of a series, given as scripts read it."""
    yield f"series at {told['endpoint']}, {told['instances']} instances{_ours(told)}"
    for rule in told["rules"]:
        yield f"rule {rule['rule']}: {'holds' if rule['holds'] else 'does not hold'}"
        for check in rule["checks"]:
            mark = "yes" if check["holds"] else "no"
            yield f"  {mark:<3} {check['trait']:<17} wanted: {check['wanted']}; found: {check['found']}"
    for index, level in enumerate(told["levels"]):
        yield f"level {index}: {_level(level)}"
    if told["whole"] is False and not told["levels"]:
        yield from told["missing"]
    yield f"now: {_what(told)}{_because(told)}"
    yield f"in the ledger: {_known(told['arrival'])}"


def _ours(told: dict[str, Any]) -> str:
    return ", written by Slidewire" if told["traits"]["ours"] else ""


def _level(level: dict[str, Any]) -> str:
    spacing = level["spacing_um"]
    said = f"{min(spacing):.4g} um/px" if spacing else "spacing unknown"
    return f"{level['width_px']} x {level['height_px']} px, {said}, {level['lacks'] or 'whole'}"


def _what(told: dict[str, Any]) -> str:
    known = told["would_be"] == "submitted" and told["job"] is None
    return "nothing is left to do" if known else _DONE[told["would_be"]]


def _because(told: dict[str, Any]) -> str:
    if told["job"] is not None:
        return f": {told['job']['patches']} patches with {told['job']['encoder']}, lane {told['job']['lane']}"
    said = ": ".join(text for text in (told["code"], told["why"]) if text)
    return f" ({said})" if said else ""


def _known(arrival: dict[str, Any] | None) -> str:
    if arrival is None:
        return "it has never been seen"
    said = [arrival["state"], arrival["code"], f"rule {arrival['rule']}" if arrival["rule"] else ""]
    if arrival["state"] in {"settling", "incomplete"}:
        said.append(f"looked at in {max(0, round(arrival['due_s']))} s")
    if arrival["job"]:
        said.append(f"job {arrival['job'][:8]} {arrival['job_state'] or 'that was removed'}")
    return ", ".join(filter(None, said))
