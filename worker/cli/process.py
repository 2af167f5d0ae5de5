"""``slidewire worker``: the process that works off the queue."""

import faulthandler
from typing import Annotated

import typer

from models.domain.job import Lane
from worker.cli.reply import reported

Drain = Annotated[bool, typer.Option("--drain", help="Leave when nothing is left to do.")]


Lanes = Annotated[list[Lane] | None, typer.Option("--lane", help="Only such jobs; may be repeated.  [default: all]")]


def worker(drain: Drain = False, lane: Lanes = None) -> None:
    """Work off the queue: over the broker if one is set, else by looking into the ledger.

    One process a GPU. SIGTERM ends it after the batch in hand, with a checkpoint.

    Example: SLIDEWIRE_BROKER_URL=redis://localhost:6379/0 slidewire worker
    """
    from worker.process import poll, serve_broker
    from worker.settings import load_settings
    from worker.telemetry import configure_logging
    from worker.wiring import Installation

    configure_logging()
    faulthandler.enable()  # a decoder that crashes leaves its stack in the log
    lanes = tuple(lane or Lane)
    with reported(), Installation(load_settings()) as installation:
        installation.ledger.checkpoints.discard_published()
        if installation.settings.broker_url and not drain:
            serve_broker(installation, lanes)
        else:
            poll(installation, lanes, drain=drain)
