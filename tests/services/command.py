"""The slidewire command as scripts use it: a process of its own, with a state folder of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, NullPool, create_engine, text

from tests.services.ports import wait_until
from tests.services.warm import WarmProcess

PROGRAM = Path(sys.executable).parent / "slidewire"
ROOT = Path(__file__).parents[2]
_LIMIT_S = 120.0


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    rc: int
    stdout: str
    stderr: str

    @cached_property
    def json(self) -> Any:
        """Standard output, which must be exactly one JSON value and a line end."""
        assert self.stdout.endswith("\n"), self
        assert self.stdout.count("\n") == 1, self
        return json.loads(self.stdout)

    def output(self, kind: str) -> dict[str, str]:
        """Return the only output of a kind."""
        [found] = [output for output in self.json["outputs"] if output["kind"] == kind]
        return dict(found)


class Running:
    """A command that goes on, with both its streams in files."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        return self._log.read_text(errors="replace")

    def wait(self, timeout_s: float = 60.0) -> int:
        """Wait for its end; return its exit status."""
        return self.process.wait(timeout_s)

    def terminate(self, timeout_s: float = 60.0) -> int:
        """Send SIGTERM, wait; return the exit status."""
        self.process.terminate()
        return self.wait(timeout_s)

    def kill(self) -> None:
        """Send SIGKILL, wait."""
        self.process.kill()
        self.process.wait()


@dataclass
class Slidewire:
    """The command with a state folder and an environment.

    Parameters
    ----------
    folder : Path
        Holds the state folder, the logs, and is the working folder.
    warm : WarmProcess
        Runs the commands that end by themselves.
    environment : dict
        On top of the test's own; what the developer has set for Slidewire is left out.
    """

    folder: Path
    warm: WarmProcess
    environment: dict[str, str] = field(default_factory=dict)
    _running: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        defaults = {
            "SLIDEWIRE_STATE_FOLDER": str(self.folder / "state"),
            "SLIDEWIRE_POLL_S": "0.1",
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "COLUMNS": "200",
        }
        self.environment = defaults | self.environment

    def beside(self, folder: str, **environment: str) -> "Slidewire":
        """Return the same command with a fresh state folder (`folder`), and more in its environment."""
        inherited = {name: value for name, value in self.environment.items() if name != "SLIDEWIRE_STATE_FOLDER"}
        return Slidewire(self.folder / folder, self.warm, inherited | environment, self._running)

    def variables(self) -> dict[str, str]:
        """Return the whole environment of a command."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLIDEWIRE_")}
        return kept | self.environment

    def __call__(self, *arguments: object, armed: Sequence[str] = ()) -> Said:
        """Run a command to its end, in a process that is armed: see `tests.services.armed`."""
        log = self.folder / "said"
        rc = self.warm.run([*map(str, arguments)], self.variables(), self.folder, log, armed)
        return Said(rc, Path(f"{log}.out").read_text(), Path(f"{log}.err").read_text())

    def program(self, *arguments: object, timeout_s: float = _LIMIT_S) -> Said:
        """Run the installed program, imports and all, to its end."""
        done = subprocess.run(
            [PROGRAM, *map(str, arguments)], env=self.variables(), cwd=self.folder, capture_output=True, text=True,
            timeout=timeout_s, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    def done(self, *arguments: object) -> Said:
        """Run a command with --json that must succeed and say nothing on standard error."""
        said = self(*arguments, "--json")
        assert said.rc == 0, said
        assert said.stderr == "", said
        return said

    def failed(self, code: str, *arguments: object) -> Said:
        """Run a command with --json that must fail the agreed way, with `code`."""
        said = self(*arguments, "--json")
        assert said.rc not in {0, -9, -15}, said
        assert said.json["error"]["code"] == code, said
        assert said.stderr == f"slidewire: {code}: {said.json['error']['message']}\n", said
        assert said.stderr.count("\n") == 1, said
        assert "Traceback" not in said.stderr, said
        return said

    def start(self, *arguments: str, armed: Sequence[str] = ()) -> Running:
        """Start a command that goes on; it is killed when the test ends.

        Parameters
        ----------
        armed : sequence of str
            What shall go wrong in its process: see `tests.services.armed`.
        """
        log = self.folder / f"{arguments[0]}-{len(self._running)}.log"
        command = [sys.executable, "-m", "tests.services.armed", *armed, "--"] if armed else [str(PROGRAM)]
        variables = self.variables() | ({"PYTHONPATH": str(ROOT)} if armed else {})
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, *arguments], env=variables, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=stream, stderr=subprocess.STDOUT,
            )  # fmt: skip
        running = Running(process, log)
        self._running.append(running)
        return running

    def job(self, job: str) -> dict[str, Any]:
        """Return a job as `slidewire jobs show` tells it."""
        return dict(self.done("jobs", "show", job).json)

    def wait_for(self, job: str, state: str = "succeeded", timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait until a job is in a state; a job that ends otherwise fails the test at once."""

        def reached() -> bool:
            with self.ledger() as connection:
                query = text("SELECT state, error_message FROM job WHERE id = :job")
                found, message = connection.execute(query, {"job": job}).one()
            assert found == state or found in {"queued", "running"}, (found, message)
            return bool(found == state)

        wait_until(reached, f"the job to be {state}", timeout_s)
        return self.job(job)

    def ledger(self) -> Connection:
        """Open the ledger's database behind Slidewire's back."""
        default = f"sqlite:///{self.environment['SLIDEWIRE_STATE_FOLDER']}/ledger.sqlite"
        url = self.environment.get("SLIDEWIRE_LEDGER_URL", default)
        return create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool).connect()

    def rows(self, query: str) -> Sequence[Any]:
        """Return the rows of a query on the ledger."""
        with self.ledger() as connection:
            return connection.exec_driver_sql(query).fetchall()

    def stop_all(self) -> None:
        """Kill whatever still runs."""
        for running in self._running:
            if running.process.poll() is None:
                running.kill()


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmProcess]:
    """Keep one process with the imports done."""
    process = WarmProcess()
    yield process
    process.stop()


@pytest.fixture
def slidewire(tmp_path: Path, warm: WarmProcess) -> Iterator[Slidewire]:
    """Give the slidewire command with an empty state folder; its processes end with the test."""
    command = Slidewire(tmp_path / "slidewire", warm)
    yield command
    command.stop_all()
