"""Takes the time that named calls spend, by wrapping them from outside: the product knows nothing of it."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch


class Stopwatch:
    """Seconds and calls by label, of the thread that made it; what others spend is kept apart, as ``aside``.

    Of calls inside one another only the outermost counts, so that the labels add up.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._mine = threading.get_ident()
        self._inside = threading.local()
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._patches.close()

    def watch(self, owner: Any, name: str, label: str) -> None:
        """Time a function of a class or a module."""
        original = getattr(owner, name)

        def timed(*args: Any, **named: Any) -> Any:
            with self.timing(label):
                return original(*args, **named)

        self._patches.enter_context(patch.object(owner, name, timed))

    def watch_block(self, owner: Any, name: str, label: str) -> None:
        """Time a context manager, from entering to having left it."""
        original = getattr(owner, name)

        @contextmanager
        def timed(*args: Any, **named: Any) -> Iterator[Any]:
            with self.timing(label), original(*args, **named) as value:
                yield value

        self._patches.enter_context(patch.object(owner, name, timed))

    @contextmanager
    def timing(self, label: str) -> Iterator[None]:
        """Time a block."""
        if getattr(self._inside, "now", False):
            yield
            return
        self._inside.now = True
        started = time.perf_counter()
        try:
            yield
        finally:
            self._inside.now = False
            where = label if threading.get_ident() == self._mine else "aside"
            self.seconds[where] += time.perf_counter() - started
            self.calls[where] += 1
