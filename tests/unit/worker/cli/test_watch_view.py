"""What is told of a series on a terminal: why it is taken, why not, what is waited for, and what became of it."""

from typing import Any

import pytest

from worker.cli.watch_view import explained

_LEVEL = {"width_px": 640, "height_px": 320, "spacing_um": (0.5, 0.4), "instances": 1, "lacks": ""}
_CHECK = {"trait": "station", "wanted": "S*", "found": "the archive does not say", "holds": False}
_TOLD: dict[str, Any] = {
    "endpoint": "pacs",
    "would_be": "submitted",
    "code": "",
    "why": "",
    "rule": "slides",
    "job": {"encoder": "uni", "patches": 1234, "lane": "standard"},
    "instances": 3,
    "traits": {"ours": False},
    "rules": [{"rule": "first", "holds": False, "checks": [_CHECK]}, {"rule": "slides", "holds": True, "checks": []}],
    "whole": True,
    "missing": [],
    "levels": [_LEVEL],
    "refusal": "",
    "arrival": None,
}
_ARRIVAL = {"state": "settling", "code": "", "rule": "", "due_s": 7.2, "job": "", "job_state": ""}


def _said(**changes: Any) -> str:
    return "\n".join(explained(_TOLD | changes))


def test_a_slide_that_is_taken() -> None:
    """Each rule with its checks, each level, and the job that would be made of it."""
    assert _said().splitlines() == [
        "series at pacs, 3 instances",
        "rule first: does not hold",
        "  no  station           wanted: S*; found: the archive does not say",
        "rule slides: holds",
        "level 0: 640 x 320 px, 0.4 um/px, whole",
        "now: a job is made of it: 1234 patches with uni, lane standard",
        "in the ledger: it has never been seen",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"traits": {"ours": True}}, "series at pacs, 3 instances, written by Slidewire"),
        ({"levels": [_LEVEL | {"lacks": "9 of 10 tiles are there"}]}, "level 0: 640 x 320 px, 0.4 um/px, 9 of 10 til"),
        ({"levels": [_LEVEL | {"spacing_um": None}]}, "level 0: 640 x 320 px, spacing unknown, whole"),
        ({"levels": [], "whole": False, "missing": ["there is but a label"]}, "there is but a label"),
        (
            {"job": None, "would_be": "passed-over", "code": "NO_RULE"},
            "now: it is passed over (NO_RULE)",
        ),
        (
            {"job": None, "would_be": "incomplete", "code": "SLIDE_INCOMPLETE", "why": "Not whole."},
            "now: it is waited for (SLIDE_INCOMPLETE: Not whole.)",
        ),
        ({"job": None, "would_be": "submitted", "why": "It was."}, "now: nothing is left to do (It was.)"),
        ({"arrival": _ARRIVAL}, "in the ledger: settling, looked at in 7 s"),
        ({"arrival": _ARRIVAL | {"due_s": -3.0}}, "in the ledger: settling, looked at in 0 s"),
        (
            {
                "arrival": _ARRIVAL
                | {"state": "submitted", "rule": "slides", "job": "0123456789", "job_state": "running"}
            },
            "in the ledger: submitted, rule slides, job 01234567 running",
        ),
        (
            {"arrival": _ARRIVAL | {"state": "overdue", "code": "SLIDE_INCOMPLETE"}},
            "in the ledger: overdue, SLIDE_INCOMPLETE",
        ),
        (
            {"arrival": _ARRIVAL | {"state": "submitted", "job": "0123456789"}},
            "in the ledger: submitted, job 01234567 that was removed",
        ),
    ],
)
def test_what_else_is_told(changes: dict[str, Any], line: str) -> None:
    """Of what is missing, what is waited for, and what became of it."""
    assert [one for one in _said(**changes).splitlines() if one.startswith(line)]
