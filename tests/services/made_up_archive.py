"""A made-up archive of any size in a process of its own: what it takes is not measured with what searches it.

python -m tests.services.made_up_archive STUDIES A_DAY FIRST_DAY
"""

import datetime as dt
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests

from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.qido import MadeUp

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class MadeUpArchive:
    """An archive that answers on a port."""

    url: str

    @property
    def requests(self) -> int:
        """Searches so far."""
        return int(requests.get(f"{self.url}/requests", timeout=_TIMEOUT_S).text)


@contextmanager
def made_up_archive(studies: int, a_day: int, first: dt.date) -> Iterator[MadeUpArchive]:
    """Run an archive of studies of one slide each for the length of a block."""
    command = [sys.executable, "-m", __name__, str(studies), str(a_day), first.isoformat()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield MadeUpArchive(process.stdout.readline().strip())
        finally:
            process.kill()


class _Counted(list[Asked]):
    """What was asked is counted, and not kept."""

    count = 0

    def append(self, _: Asked) -> None:
        """Count."""
        self.count += 1


def _serve(holdings: MadeUp) -> None:
    asked_so_far = _Counted()

    def answer(asked: Asked) -> Answer:
        if asked.path.endswith("/requests"):
            asked_so_far.count -= 1
            return Answer(200, str(asked_so_far.count).encode())
        return holdings(asked)

    with hostile_server(answer) as server:
        server.asked = asked_so_far
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    _serve(MadeUp(int(sys.argv[1]), int(sys.argv[2]), dt.date.fromisoformat(sys.argv[3]), modalities=("SM",)))
