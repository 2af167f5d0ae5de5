"""Redis on a free port, in memory only: killed, it has forgotten everything."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis, RedisError

from tests.services.ports import free_port
from tests.services.process import ServerProcess, find_program


class RedisServer(ServerProcess):
    """One Redis.

    Parameters
    ----------
    program : str
    folder : Path
        Receives the log.
    """

    def __init__(self, program: str, folder: Path) -> None:
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(command, folder / "redis.log", self._answers)

    def flush(self) -> None:
        """Forget everything."""
        with Redis.from_url(self.url) as client:
            client.flushall()

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=2.0) as client:
                return bool(client.ping())
        except RedisError:
            return False


def start_redis(folder: Path) -> RedisServer:
    """Start a Redis of one's own with its log in `folder`; the caller stops it."""
    server = RedisServer(find_program("redis-server", "apt-get install redis-server"), folder)
    server.start()
    return server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run one Redis for the whole session: leave it running; `flush` it before relying on its content."""
    server = start_redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a Redis of the test's own: empty at first, to be killed and restarted at will."""
    server = start_redis(tmp_path / "redis")
    yield server
    server.stop()
