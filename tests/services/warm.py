"""A process that has done the imports of slidewire, and forks a process of its own for each command.

Starting Python and importing takes longer than most commands do. A command that is run so has its own process,
environment, folder and streams, and ends as the installed program does. PyTorch is not among the imports.
"""

import atexit
import gc
import importlib
import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_IMPORTS = (
    "worker.cli",
    "worker.app",
    "worker.tasks",
    "worker.embedding",
    "worker.process",
    "worker.patch_request",
    "worker.telemetry",
    "connectors.export",
    "connectors.sinks.files",
    "connectors.sinks.stow",
    "connectors.sources.dicom_files",
    "connectors.sources.dicomweb",
    "connectors.sources.gcs",
    "connectors.sources.image",
    "models.encoders.pixel_grid",
    "highdicom.ann",
    "highdicom.sr",
    "psycopg",
    "gcsfs",
)


class WarmProcess:
    """The test session's end: runs one command at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        armed: Sequence[str] = (),
    ) -> int:
        """Run a command with its streams in ``log.out`` and ``log.err``; return its exit status."""
        self.begin(arguments, environment, folder, log, armed)
        return self.end()

    def begin(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        armed: Sequence[str] = (),
    ) -> int:
        """Begin a command as `run` does; return its process id."""
        if self._process is None:
            root = Path(__file__).parents[2]
            command = [sys.executable, "-m", "tests.services.warm"]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
            )
        order = {"arguments": arguments, "environment": environment, "folder": str(folder), "log": str(log)}
        order["armed"] = armed
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> int:
        """Wait for the end of the command that was begun; return its exit status."""
        return self._answer()

    def _answer(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, "the warm process ended"
        return int(answer)

    def stop(self) -> None:
        """End it, with a command that may still run."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _serve() -> None:
    for name in _IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # what is imported stays shared
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            _become(order)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(order: Mapping[str, Any]) -> NoReturn:
    """Be the command: what the installed program does, from here on."""
    from tests.services.armed import arm
    from worker.cli import main

    streams = (os.devnull, f"{order['log']}.out", f"{order['log']}.err")
    for number, name in enumerate(streams):
        opened = os.open(name, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    sys.argv = ["slidewire", *order["arguments"]]
    arm(order["armed"])
    try:
        code = main()
    except SystemExit as exc:
        code = exc.code
    except BaseException:  # noqa: BLE001 - what the interpreter itself would do
        traceback.print_exc()
        code = 1
    # All of Python's way out but for the taking apart of every object.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    _serve()
