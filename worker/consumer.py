"""Celery's consumer, made to survive messages that are none of ours, and without what needs more than queues.

Celery 5.7 ends the worker when a message's body is no (args, kwargs, embed), and when an entry of a Redis list is
no message at all. Whoever reaches the broker could stop the fleet so; here both are dropped.
"""

from collections.abc import Callable
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.worker.consumer import Consumer
from celery.worker.consumer.connection import Connection

from worker.activity import Activity

_log = structlog.get_logger(__name__)
# What taking a message apart raises; what a task raises never comes here.
_MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError)
_TURN_S, _TURNS_WITHIN_S = 5.0, 60.0


class CarefulConsumer(Consumer):  # type: ignore[misc]
    """The consumer of ``slidewire worker`` (``worker_consumer``)."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """Celery's steps but one, which would make 28 queues in RabbitMQ for delayed messages; none of ours is."""

        default_steps = tuple(step for step in Consumer.Blueprint.default_steps if "DelayedDelivery" not in step)

    loop: Callable[..., Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._loop = self.loop
        self.loop = self._careful_loop

    def create_task_handler(self, *arguments: Any, **named: Any) -> Callable[[Any], Any]:
        """Return Celery's handler of messages, which drops what it cannot take apart."""
        handle = super().create_task_handler(*arguments, **named)

        def on_message(message: Any) -> Any:
            try:
                return handle(message)
            except _MALFORMED as exc:
                _log.warning("a malformed message was dropped", error=type(exc).__name__)
                return message.reject_log_error(_log, self.connection_errors)

        return on_message

    def _careful_loop(self, *arguments: Any) -> Any:
        try:
            return self._loop(*arguments)
        except _MALFORMED as exc:
            _log.warning("an entry of the queue that is no message was dropped", error=type(exc).__name__)
            # It is out of the list already; Celery connects anew and goes on.
            raise ConnectionResetError("the connection is made anew after a malformed entry") from exc


def watch_consumer(app: Celery, activity: Activity) -> None:
    """Let an application's worker note that its loop turns, as long as it has a connection to the broker."""

    class Turning(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = (Connection,)

        def start(self, consumer: Any) -> None:
            del consumer
            activity.expect("consumer", _TURNS_WITHIN_S)

        def register_with_event_loop(self, consumer: Any, hub: Any) -> None:
            del consumer
            hub.call_repeatedly(_TURN_S, activity.turned, "consumer")

        def stop(self, consumer: Any) -> None:
            del consumer
            activity.forget("consumer")

    app.steps["consumer"].add(Turning)
