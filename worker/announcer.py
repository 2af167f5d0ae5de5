"""The announcer: rings for what this process has queued, if there is a broker."""

from functools import cached_property
from typing import Any

from worker.doorbell import ring
from worker.wiring import Installation


class Announcer:
    """Rings the doorbell of an installation; without a broker, workers look into the ledger by themselves.

    Parameters
    ----------
    installation : Installation
    """

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def ring(self) -> None:
        """Send a message for every shard that is due and was not announced."""
        if self._broker is not None:
            ring(self._installation.ledger, self._broker)

    @cached_property
    def _broker(self) -> Any:
        if not self._installation.settings.broker_url:
            return None
        from worker.app import make_app

        return make_app(self._installation.settings.broker_url)
