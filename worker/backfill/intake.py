"""The threads that make jobs of slides: each takes a series, opens it over the network, and puts it into the ledger."""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from models.domain.errors import SlidewireError
from worker.ledger import JobRecord
from worker.ledger.backfills import Item

_CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a series: a job or an error."""

    item: Item
    job: JobRecord | None
    error: SlidewireError | None


class Intake:
    """A few threads; nothing is lost with them, as a series waits in the ledger until its outcome is recorded there.

    Parameters
    ----------
    submit : callable
        Makes a job of a series; from several threads.
    threads : int
    """

    def __init__(self, submit: Callable[[Item], JobRecord], threads: int) -> None:
        self._submit = submit
        self._items: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self.under_way: set[int] = set()
        self._closed = threading.Event()
        # Daemons: a server that does not answer must not hold up the end of the program.
        self._threads = [threading.Thread(target=self._work, name="intake", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def put(self, item: Item) -> None:
        """Hand out a series; it is under way until its outcome is taken."""
        self.under_way.add(item.serial)
        self._items.put(item)

    def outcomes(self, wait_s: float) -> list[Outcome]:
        """Take the outcomes that are there; if there are none, wait for one as long as is said."""
        said: list[Outcome | None] = []
        with suppress(queue.Empty):
            said.append(self._outcomes.get(timeout=wait_s))
            while True:
                said.append(self._outcomes.get_nowait())
        taken = [outcome for outcome in said if outcome is not None]
        self.under_way -= {outcome.item.serial for outcome in taken}
        return taken

    def wake(self) -> None:
        """End the wait for an outcome, as something else has happened."""
        self._outcomes.put(None)

    def close(self) -> None:
        """Begin nothing more; wait a few seconds for what is under way."""
        self._closed.set()
        for _ in self._threads:
            self._items.put(None)
        deadline = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while (item := self._items.get()) is not None and not self._closed.is_set():
            self._outcomes.put(self._outcome(item))

    def _outcome(self, item: Item) -> Outcome:
        try:
            return Outcome(item, self._submit(item), None)
        except SlidewireError as exc:
            return Outcome(item, None, exc)
        except Exception as exc:  # noqa: BLE001 - a bug of ours, that must not end the others; its text may hold anything
            error = SlidewireError(f"Slidewire itself failed ({type(exc).__name__}): please report it.")
            return Outcome(item, None, error)
