"""A file that is read in parts: which parts, in how few requests, and what was read."""

import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from connectors.protocols import Traffic
from models.domain.errors import SourceUnreadable

BLOCK_BYTES = 64 << 10  # what is read for a few bytes of structure
_BLOCKS = 64
_GAP_BYTES = 32 << 10  # read and thrown away rather than asked for in a request of its own
_RUN_BYTES = 2 << 20


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file once it is open.

    Parameters
    ----------
    name : str
        How messages call it: without folders, host or bucket.
    size : int
        Bytes.
    version : str
        What changes with the content: ETag, generation, time of change; "" if the place gives none.
    connections : int
        Parts that may be read at the same time; 1: one after the other, in the caller's thread.
    head : bytes
        The first bytes, where opening the file brought them along.
    opening : Traffic
        What opening it took.
    """

    name: str
    size: int
    version: str
    connections: int = 1
    head: bytes = b""
    opening: Traffic = field(default_factory=Traffic)


class RangeFile(Protocol):
    """A file of one content: a part of another content is an error, never given."""

    @property
    def facts(self) -> FileFacts:
        """What is known of it."""

    def read(self, start: int, stop: int) -> bytes:
        """Return exactly the bytes [start, stop), which lie within the file; safe from several threads.

        Raises
        ------
        SourceUnreadable
            The file has changed since it was opened, or is gone.
        EndpointError
            The place that holds it fails.
        """

    def close(self) -> None:
        """Let go of connections and handles."""


@dataclass(slots=True)
class _Run:
    """Neighbouring parts that are read at once."""

    start: int
    stop: int
    left: int  # parts that have not been handed out yet


class ByteRanges:
    """Reads parts of a file: structure through a cache of blocks, tiles in merged runs, several at a time.

    Parameters
    ----------
    file : RangeFile
        Closed with this.
    """

    def __init__(self, file: RangeFile) -> None:
        self._file = file
        self.facts = file.facts
        self._requests, self._bytes = self.facts.opening.requests, self.facts.opening.bytes_read
        self._count = threading.Lock()
        self._block = lru_cache(_BLOCKS)(self._read_block)
        self._pool: ThreadPoolExecutor | None = None
        if self.facts.connections > 1:
            self._pool = ThreadPoolExecutor(self.facts.connections, thread_name_prefix="ranges")

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of the file's structure.

        Raises
        ------
        SourceUnreadable
            They are not within the file.
        """
        if not 0 <= start <= stop <= self.facts.size:
            raise SourceUnreadable(
                f"{self.facts.name} is cut off or damaged: it refers to byte {stop} and has {self.facts.size}."
            )
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        if last - first > 2:  # a long list, read once
            return self._fetch(start, stop)
        whole = b"".join(self._block(number) for number in range(first, last + 1))
        return whole[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def _read_block(self, number: int) -> bytes:
        start = number * BLOCK_BYTES
        stop = min(start + BLOCK_BYTES, self.facts.size)
        if stop <= len(self.facts.head):
            return self.facts.head[start:stop]
        return self._fetch(start, stop)

    def _fetch(self, start: int, stop: int) -> bytes:
        data = self._file.read(start, stop)
        if len(data) != stop - start:  # a promise of the protocol; wrong bytes would become wrong pixels
            raise SourceUnreadable(f"{self.facts.name} gave {len(data)} bytes where it has {stop - start}.")
        with self._count:
            self._requests += 1
            self._bytes += len(data)
        return data

    def many(self, wanted: Sequence[tuple[int, int]]) -> Generator[memoryview, None, None]:
        """Yield parts (start, stop) of the file in the order in which they are asked for.

        Parts that lie next to each other are read at once, and a few such runs are read ahead; what has been
        handed out is not kept.
        """
        runs, run_of = _merge(wanted)
        order = iter(dict.fromkeys(run_of))  # by first use
        read: dict[int, bytes | Future[bytes]] = {}
        started: set[int] = set()
        try:
            for (start, stop), number in zip(wanted, run_of, strict=True):
                while number not in started or len(read) < self.facts.connections:
                    following = next(order, None)
                    if following is None:
                        break
                    started.add(following)
                    read[following] = self._start(runs[following])
                found, run = read[number], runs[number]
                data = found.result() if isinstance(found, Future) else found
                yield memoryview(data)[start - run.start : stop - run.start]
                run.left -= 1
                if not run.left:
                    del read[number]
        finally:
            for one in read.values():
                if isinstance(one, Future):
                    one.cancel()

    def _start(self, run: _Run) -> bytes | Future[bytes]:
        if self._pool is None:
            return self._fetch(run.start, run.stop)
        return self._pool.submit(self._fetch, run.start, run.stop)

    @property
    def traffic(self) -> Traffic:
        """What was read so far."""
        return Traffic(self._requests, self._bytes)

    def close(self) -> Traffic:
        """Let go of the file, and say what was read."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._block.cache_clear()
        self._file.close()
        return self.traffic


def _merge(wanted: Sequence[tuple[int, int]]) -> tuple[list[_Run], list[int]]:
    """Return the runs that cover all parts, and the number of the run that each part lies in."""
    runs: list[_Run] = []
    run_of = [0] * len(wanted)
    for place in sorted(range(len(wanted)), key=wanted.__getitem__):
        start, stop = wanted[place]
        last = runs[-1] if runs else None
        if last and start <= last.stop + _GAP_BYTES and max(stop, last.stop) - last.start <= _RUN_BYTES:
            last.stop = max(last.stop, stop)
            last.left += 1
        else:
            runs.append(_Run(start, stop, 1))
        run_of[place] = len(runs) - 1
    return runs, run_of
