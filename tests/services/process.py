"""A real server as a child process: started, waited for, restarted, killed; its log kept in a file."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from tests.services.ports import wait_until

_STOP_S = 10.0


class ServerFailed(RuntimeError):
    """The server ended, or did not get ready; the end of its log is in the message."""


class ServerProcess:
    """One server on this machine.

    Parameters
    ----------
    command : sequence of str
    log : Path
        Receives both output streams, across restarts.
    ready : callable
        Tells whether the server answers.
    """

    def __init__(self, command: Sequence[str], log: Path, ready: Callable[[], bool]) -> None:
        self._command = list(command)
        self._log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started, and neither stopped nor killed."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise ServerFailed(f"{self._command[0]} is not running.")
        return self._process.pid

    def start(self) -> None:
        """Start the server and return once it answers."""
        if self._process is not None:
            raise ServerFailed(f"{self._command[0]} is running already.")
        with self._log.open("ab") as log:
            self._process = process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self._log.parent
            )
        try:
            wait_until(lambda: process.poll() is not None or self._ready(), f"{self._command[0]} to answer", 60.0)
        except TimeoutError as exc:
            self.kill()
            raise ServerFailed(f"{exc}\n{self._tail()}") from exc
        if process.poll() is not None:
            self._process = None
            raise ServerFailed(f"{self._command[0]} ended with {process.returncode}.\n{self._tail()}")

    def stop(self) -> None:
        """Ask the server to end, and kill it if it does not; nothing to do if it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the server as a power cut would (SIGKILL)."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


def unavailable(reason: str) -> NoReturn:
    """Skip the test, or fail it in CI, where every service must be there."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def find_program(name: str, package: str) -> str:
    """Return the path of a program, looked for beside Python, on the PATH and in the system's sbin."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        unavailable(f"{name} is not installed: {package}; `make test` installs it.")
    return found
