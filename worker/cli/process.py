"""``slidewire worker``: the process that works off the queue."""

import faulthandler
import math
from typing import Annotated

import typer

from models.domain.job import Lane
from worker.cli.reply import reported

Drain = Annotated[bool, typer.Option("--drain", help="Leave when nothing is left to do.")]
Lanes = Annotated[list[Lane] | None, typer.Option("--lane", help="Only such jobs; may be repeated.  [default: all]")]
Encoders = Annotated[
    list[str] | None, typer.Option("--encoder", metavar="NAME", help="Only jobs of this encoder; may be repeated.")
]
LeaveAfter = Annotated[
    float | None, typer.Option("--leave-after", metavar="SECONDS", min=0, help="Leave when idle for so long.")
]


def worker(drain: Drain = False, lane: Lanes = None, encoder: Encoders = None, leave_after: LeaveAfter = None) -> None:
    """Work off the queue: over the broker if one is set, else by looking into the ledger.

    One process a GPU. SIGTERM ends it after the batch in hand, with a checkpoint. With --encoder, --leave-after or
    --drain it looks into the ledger also if a broker is set, whose messages name no encoder.

    Example: SLIDEWIRE_BROKER_URL=redis://localhost:6379/0 slidewire worker

    Example: slidewire worker --encoder uni --encoder timm:vit_small_patch16_224 --leave-after 600
    """
    from models.encoders import registry
    from worker.declared import open_settings
    from worker.ledger import Remit
    from worker.notices import notifying
    from worker.process import poll, serve_broker
    from worker.telemetry import configure_logging
    from worker.wiring import Installation

    configure_logging()
    faulthandler.enable()  # a decoder that crashes leaves its stack in the log
    remit = Remit(tuple(lane or Lane), tuple(encoder or ()))
    with reported():
        settings = open_settings()
        configure_logging(level=settings.log_level)
        for name in remit.encoders:
            registry.find(name)
        with Installation(settings) as installation, notifying(installation.ledger, settings):
            installation.ledger.checkpoints.discard_published()
            if settings.broker_url and not (drain or encoder or leave_after is not None):
                serve_broker(installation, remit)
            else:
                poll(installation, remit, drain=drain, leave_after_s=math.inf if leave_after is None else leave_after)
