"""Logs: our own words on standard error, and of libraries no more than who spoke."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_SECRET = "PATIENT-1.2.840.99"

# In a process of its own: logging is set up once a process.
_PROGRAM = f"""
import logging, sys, warnings
import structlog
from worker.telemetry import configure_logging
configure_logging(as_json=AS_JSON, level=LEVEL)
for name in ("urllib3.connectionpool", "pydicom", "requests", "sqlalchemy.engine", "workers", "celerybeat"):
    logging.getLogger(name).warning("GET /studies/%s", "{_SECRET}")
try:
    raise ValueError("{_SECRET}")
except ValueError:
    logging.getLogger("highdicom.ann").exception("{_SECRET}")
    logging.getLogger("worker.thing").error("told", exc_info=True)
warnings.warn("value {_SECRET} is invalid", stacklevel=1)
logging.getLogger("worker.thing").info("too quiet")
structlog.get_logger("worker").info("shard done", patches=7)
structlog.get_logger("worker").debug("whispered")
"""


def _run(*, as_json: bool = True, level: int | str = logging.INFO) -> subprocess.CompletedProcess[str]:
    program = _PROGRAM.replace("AS_JSON", str(as_json)).replace("LEVEL", repr(level))
    return subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=True, timeout=60
    )


@pytest.mark.parametrize("as_json", [True, False])
def test_texts_of_libraries_are_withheld(*, as_json: bool) -> None:
    """Messages, exceptions and warnings of libraries come without their text; so does the text of any exception."""
    done = _run(as_json=as_json)
    assert _SECRET not in done.stderr
    for name in ("urllib3.connectionpool", "pydicom", "highdicom.ann", "py.warnings", "workers", "celerybeat"):
        assert f"{name}: (text withheld)" in done.stderr


def test_people_read_lines() -> None:
    """At a terminal what libraries say is no JSON either."""
    assert "error worker.thing: told\n" in _run(as_json=False).stderr


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_on_standard_output(*, as_json: bool) -> None:
    """Standard output belongs to results."""
    assert _run(as_json=as_json).stdout == ""


def test_our_own_messages_are_told() -> None:
    """What Slidewire says is there, one JSON object a line, with level and time; quieter levels are not."""
    done = _run()
    lines = {line["event"]: line for line in map(json.loads, done.stderr.splitlines())}
    assert lines["worker.thing: told"]["level"] == "error"
    assert (lines["shard done"]["level"], lines["shard done"]["patches"]) == ("info", 7)
    assert all(line["timestamp"].endswith("Z") for line in lines.values())
    assert "quiet" not in done.stderr
    assert "whispered" not in done.stderr


@pytest.mark.parametrize("level", [logging.ERROR, "error"])
def test_a_higher_level_is_kept(level: int | str) -> None:
    """At the level of errors, warnings of libraries and news of ours are left out."""
    done = _run(level=level)
    assert "urllib3" not in done.stderr
    assert "shard done" not in done.stderr
    assert "worker.thing: told" in done.stderr
