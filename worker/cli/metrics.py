"""``slidewire metrics``: what the ledger knows, for Prometheus: printed once, or served."""

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from models.domain.errors import SettingsInvalid
from worker.cli.reply import reported

if TYPE_CHECKING:
    from worker.ledger import Ledger
    from worker.settings import Settings

_LOOK_S = 0.2


def metrics(
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve it at the settings' metrics_host and metrics_port until stopped.")
    ] = False,
) -> None:
    """Print what the ledger knows in Prometheus' text format: queue, leases, jobs, servers, watched archives.

    A `slidewire watch` serves the same; where none runs, one process of a fleet does with --serve.

    Example: slidewire metrics | grep queue_age
    """
    from prometheus_client import generate_latest

    from worker.ledger import Ledger
    from worker.metrics.ledger import LedgerMetrics
    from worker.settings import load_settings
    from worker.telemetry import configure_logging

    configure_logging()
    with reported():
        settings = load_settings()
        if serve and settings.metrics_port is None:
            raise SettingsInvalid("--serve needs the setting metrics_port, for example metrics_port = 9102.")
        with Ledger(settings.ledger, settings.checkpoint_folder, settings.ledger_rules) as ledger:
            if serve:
                configure_logging(level=settings.log_level)
                _serve(settings, ledger)
            else:
                found = LedgerMetrics.of(ledger, settings).registry()
                typer.echo(generate_latest(found).decode(), nl=False)


def _serve(settings: "Settings", ledger: "Ledger") -> None:
    from worker.health import LIVEZ, READYZ, serving
    from worker.metrics.ledger import LedgerMetrics
    from worker.pipeline import Cancellation
    from worker.process import stopping_on_signals
    from worker.readiness import Readiness

    cancellation, registry = Cancellation(), LedgerMetrics.of(ledger, settings).registry()
    pause = threading.Event()
    with (
        stopping_on_signals(cancellation),
        Readiness(ledger, "", cancellation) as readiness,
        serving(settings, registry, {LIVEZ: tuple, READYZ: readiness.complaints}),
    ):
        while not cancellation.cancelled:
            pause.wait(_LOOK_S)
