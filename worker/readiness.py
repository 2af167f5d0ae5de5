"""Whether a process could work: asks what it depends on in the background, so that a probe never waits for it."""

import threading
import time
from collections.abc import Callable
from typing import Final, Self

import structlog

from models.domain.errors import SlidewireError
from worker.ledger import Ledger
from worker.pipeline import Cancellation

_EVERY_S: Final = 5.0
_LASTS_S: Final = 20.0  # an answer that is older counts for nothing
_BROKER_S: Final = 3.0
_log = structlog.get_logger(__name__)


class Question(threading.Thread):
    """Asks one part of the system again and again whether it answers.

    Parameters
    ----------
    name : str
        Of what is asked.
    ask : callable
        Returns, or raises whatever it likes.
    every_s, lasts_s : float
        Between questions, and how long an answer counts.
    """

    def __init__(
        self, name: str, ask: Callable[[], object], *, every_s: float = _EVERY_S, lasts_s: float = _LASTS_S
    ) -> None:
        super().__init__(name=f"ask-{name}", daemon=True)
        self._what, self._ask = name, ask
        self._every_s, self._lasts_s = every_s, lasts_s
        self._over = threading.Event()
        self._answered_at: float | None = None
        self._why = ""

    def run(self) -> None:
        """Ask until told to stop."""
        while not self._over.is_set():
            try:
                self._ask()
            except Exception as exc:  # noqa: BLE001 - brokers and their clients raise what they like
                self._note(exc.code if isinstance(exc, SlidewireError) else type(exc).__name__)
            else:
                self._answered_at = time.monotonic()
                self._note("")
            self._over.wait(self._every_s)

    def stop(self) -> None:
        """Ask no more; a question under way ends by itself."""
        self._over.set()

    def complaint(self) -> str:
        """Return why what is asked cannot be relied on; "" if it can."""
        if self._why:
            return f"the {self._what} does not answer ({self._why})"
        at = self._answered_at
        if at is None:
            return f"the {self._what} has not answered yet"
        age_s = time.monotonic() - at
        return "" if age_s <= self._lasts_s else f"the {self._what} has not answered for {age_s:.0f} s"

    def _note(self, why: str) -> None:
        if why != self._why:
            _log.info("the state of a dependency changed", dependency=self._what, answers=not why, error=why)
        self._why = why


class Readiness:
    """Whether ledger and broker answer and nobody has asked the process to end; a context manager.

    Parameters
    ----------
    ledger : Ledger
    broker_url : str
        "": there is none.
    cancellation : Cancellation
    """

    def __init__(self, ledger: Ledger, broker_url: str, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        self._questions = [Question("ledger", ledger.ask)]
        if broker_url:
            self._questions.append(Question("broker", lambda: _ask_broker(broker_url)))

    def __enter__(self) -> Self:
        for question in self._questions:
            question.start()
        return self

    def __exit__(self, *exc: object) -> None:
        for question in self._questions:
            question.stop()

    def complaints(self) -> tuple[str, ...]:
        """Return why the process is not ready; empty if it is."""
        if self._cancellation.cancelled:
            return ("the process is about to end",)
        return tuple(filter(None, (question.complaint() for question in self._questions)))


def _ask_broker(url: str) -> None:
    from kombu import Connection  # Celery's messaging: not for processes without a broker

    with Connection(url, connect_timeout=_BROKER_S, transport_options={"socket_timeout": _BROKER_S}) as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=_BROKER_S)
        if connection.transport.driver_type == "redis":  # its connections are made when they are first used
            connection.default_channel.client.ping()
