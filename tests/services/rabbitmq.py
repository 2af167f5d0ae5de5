"""RabbitMQ on free ports, with a name, a registry of names and a folder of its own; killed, it keeps quorum queues."""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu import Connection

from tests.services.ports import accepts, free_port
from tests.services.process import ServerFailed, ServerProcess, find_program, unavailable
from worker.app import make_app
from worker.doorbell import QUEUES

_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{port}
loopback_users.guest = true
disk_free_limit.absolute = 50MB
raft.wal_max_size_bytes = 8388608
log.console = true
log.console.level = warning
log.file = false
"""


class RabbitServer(ServerProcess):
    """One RabbitMQ, and the epmd that it asks for ports: a child like the other, so that none is left behind.

    Parameters
    ----------
    program : Path
        The server's own script; Debian's wrapper around it insists on another user.
    epmd : str
    folder : Path
        Receives configuration, data and logs.
    advanced : str
        More configuration, in Erlang's terms.
    """

    def __init__(self, program: Path, epmd: str, folder: Path, advanced: str) -> None:
        self._port, registry, between_nodes = free_port(), free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self._port}//"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rabbitmq.conf").write_text(_CONFIGURATION.format(port=self._port))
        (folder / "advanced.config").write_text(advanced)
        (folder / "plugins").write_text("[].\n")
        variables = {
            "HOME": folder,  # of the Erlang cookie
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the server, and is no process between
            "ERL_EPMD_PORT": registry,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"slidewire-{secrets.token_hex(4)}@localhost",
            "RABBITMQ_DIST_PORT": between_nodes,
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": folder / "advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
            "RABBITMQ_MNESIA_BASE": folder / "data",
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
        }
        given = [f"{name}={value}" for name, value in variables.items()]
        self._registry = ServerProcess(
            [epmd, "-address", "127.0.0.1", "-port", str(registry)], folder / "epmd.log", lambda: accepts(registry)
        )
        super().__init__(["/usr/bin/env", *given, str(program)], folder / "rabbitmq.log", self._answers)

    def start(self) -> None:
        """Start the server, after the registry of names."""
        if not self._registry.running:
            self._registry.start()
        try:
            super().start()
        except ServerFailed:
            self._registry.stop()
            raise

    def stop(self) -> None:
        """End the server and its registry; nobody needs what is in its queues."""
        self.kill()
        self._registry.stop()

    def flush(self) -> None:
        """Forget every message of Slidewire; its queues stay."""
        with make_app(self.url) as app, app.connection_for_write() as connection, connection.channel() as channel:
            for queue in app.amqp.queues.values():
                bound = queue.bind(channel)
                bound.declare()
                bound.purge()

    def delete_queues(self) -> None:
        """Take the queues away under those who use them, as somebody at the console might."""
        with Connection(self.url) as connection, connection.channel() as channel:
            for queue in QUEUES.values():
                channel.queue_delete(queue)

    def _answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2.0) as connection:
                connection.connect()
        except (OSError, *Connection(self.url).connection_errors):
            return False
        return True


def start_rabbitmq(folder: Path, advanced: str = "[].") -> RabbitServer:
    """Start a RabbitMQ with its files in `folder`, and `advanced` in its configuration; the caller stops it."""
    script = next(iter(sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"))), None)
    if script is None:
        beside = shutil.which("rabbitmq-server")
        if beside is None:
            unavailable("rabbitmq-server is not installed: apt-get install rabbitmq-server; `make test` installs it.")
        script = Path(beside)
    server = RabbitServer(script, find_program("epmd", "apt-get install erlang-base"), folder, advanced)
    server.start()
    return server


@pytest.fixture(scope="session")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """Run one RabbitMQ for the whole session: it may be killed if it is started again; `flush` it before."""
    server = start_rabbitmq(tmp_path_factory.mktemp("rabbitmq"))
    yield server
    server.stop()
