"""What the tests do with a broker, be it Redis or RabbitMQ: count what waits, put something in, lose everything."""

from collections.abc import Mapping
from typing import Protocol

from kombu import Connection, Producer

from worker.app import make_app


class Broker(Protocol):
    """A broker that runs for the tests."""

    url: str

    def start(self) -> None:
        """Start it, with what it kept."""

    def kill(self) -> None:
        """End it with SIGKILL."""

    def stop(self) -> None:
        """End it."""

    def flush(self) -> None:
        """Lose every message."""


def connect(broker: Broker) -> Connection:
    """Connect as Slidewire does."""
    with make_app(broker.url) as app:
        return app.connection_for_write()


def waiting(broker: Broker, queue: str = "embed.std") -> int:
    """Return how many messages wait in a queue."""
    with make_app(broker.url) as app, app.connection_for_write() as connection, connection.channel() as channel:
        return int(app.amqp.queues[queue].bind(channel).queue_declare().message_count)


def put(
    broker: Broker,
    body: bytes,
    *,
    content_type: str = "application/json",
    headers: Mapping[str, object] | None = None,
    queue: str = "embed.std",
) -> None:
    """Put a message of any kind into a queue that is there already."""
    with connect(broker) as connection, connection.channel() as channel:
        Producer(channel, auto_declare=False).publish(
            body, routing_key=queue, exchange="", content_type=content_type, headers=dict(headers or {}),
            content_encoding="utf-8" if content_type == "application/json" else "binary",
        )  # fmt: skip
