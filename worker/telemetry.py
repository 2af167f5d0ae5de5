"""Logs: structured, to standard error, free of identifying data.

What libraries log is cut down to who and how bad: their texts hold URLs, UIDs and response bodies.
"""

import json
import logging
import sys
from datetime import UTC, datetime

import structlog

_TRUSTED = ("celery", "kombu", "worker", "connectors", "models")


class _Careful(logging.Formatter):
    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the message of a trusted logger, and of any other its name alone."""
        trusted = record.name.split(".")[0] in _TRUSTED
        said = f"{record.name}: {record.getMessage() if trusted else '(text withheld)'}"
        level = record.levelname.lower()
        if not self._as_json:
            return f"{level} {said}"
        at = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        return json.dumps({"event": said, "level": level, "timestamp": at})


def configure_logging(*, level: int | str = logging.INFO, as_json: bool | None = None) -> None:
    """Set up logging for this process.

    Parameters
    ----------
    level : int or str
        Of our own messages; libraries speak from WARNING on, or from this level if it is higher. A name in small
        letters, as in the settings, does as well.
    as_json : bool or None
        None: JSON unless standard error is a terminal.
    """
    if isinstance(level, str):
        level = logging.getLevelNamesMapping()[level.upper()]
    machine = not sys.stderr.isatty() if as_json is None else as_json
    renderer = structlog.processors.JSONRenderer() if machine else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Careful(as_json=machine))
    handler.setLevel(max(level, logging.WARNING))  # some libraries set the level of their own logger
    logging.captureWarnings(capture=True)  # warnings of pydicom print values
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)
