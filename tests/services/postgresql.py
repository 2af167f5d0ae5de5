"""PostgreSQL on a free port, in a folder of its own, run by the user postgres where the tests run as root."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.services.ports import free_port
from tests.services.process import ServerProcess, unavailable

_PASSWORD = "canary-password"  # tests look for it where it must not be


class PostgresServer(ServerProcess):
    """One PostgreSQL cluster.

    Parameters
    ----------
    programs : Path
        Folder of initdb and postgres.
    folder : Path
        Receives data and log; must belong to whom the server runs as.
    durable : bool
        Whether a commit is on disk when it returns, as PostgreSQL has it by itself.
    """

    def __init__(self, programs: Path, folder: Path, *, durable: bool = False) -> None:
        self._port = free_port()
        self._initialize(programs, folder)
        command = [*_as_postgres(), str(programs / "postgres"), "-D", str(folder / "data")]
        settings: dict[str, object] = {
            "port": self._port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 100,
        }  # fmt: skip
        if not durable:  # the machine is not going to lose power: a killed server still finds everything
            settings |= {"fsync": "off", "full_page_writes": "off"}
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        super().__init__(command, folder / "postgres.log", self._answers)

    def create_database(self) -> str:
        """Create an empty database; return its URL."""
        name = f"ledger_{secrets.token_hex(6)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database and whoever is connected to it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{url.rpartition("/")[2]}" WITH (FORCE)')

    def url(self, database: str) -> str:
        """Return the URL of a database of this server."""
        return f"postgresql://slidewire:{_PASSWORD}@127.0.0.1:{self._port}/{database}"

    def stop(self) -> None:
        """Shut down without waiting for clients (SIGINT); SIGTERM would wait for them."""
        if self._process is not None:
            os.kill(self.pid, signal.SIGINT)
        super().stop()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @staticmethod
    def _initialize(programs: Path, folder: Path) -> None:
        password = folder / "password"
        password.write_text(_PASSWORD)
        if os.getuid() == 0:
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")
        command = [*_as_postgres(), str(programs / "initdb"), "-D", str(folder / "data"), "--username=slidewire"]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)


def _as_postgres() -> list[str]:
    """Return what to put before a command, as PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def _find_programs() -> Path:
    """Return the folder of the newest PostgreSQL installed."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = next((home for home in reversed(homes) if (home / "initdb").exists()), None)
    if found is None:
        beside = shutil.which("initdb")
        if beside is None:
            unavailable("PostgreSQL is not installed: apt-get install postgresql.")
        found = Path(beside).parent
    return found


@contextmanager
def running_postgresql(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Run one PostgreSQL for the length of a block; `durable`: as it comes, commits on disk."""
    programs = _find_programs()
    # Not pytest's own folder: the user postgres may not enter that.
    with tempfile.TemporaryDirectory(prefix="slidewire-postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(programs, Path(folder), durable=durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresServer]:
    """Run one PostgreSQL for the whole session: leave it running, use a database of your own."""
    with running_postgresql() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: PostgresServer) -> Iterator[str]:
    """Create an empty database for one test; give its URL."""
    url = postgresql_server.create_database()
    yield url
    postgresql_server.drop_database(url)
