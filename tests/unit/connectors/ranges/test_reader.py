"""Which parts of a file are read, in how many requests, in which order, and how far ahead."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.protocols import Traffic
from connectors.ranges.reader import ByteRanges, FileFacts
from models.domain.errors import EndpointUnreachable, SourceUnreadable
from tests.services.ports import wait_until

_CONTENT = np.random.default_rng(3).integers(0, 256, 9_000_000, np.uint8).tobytes()


class _MemoryFile:
    """A `RangeFile` in memory that remembers what was read."""

    def __init__(self, connections: int = 1, fail: Callable[[int], bool] = lambda _: False) -> None:
        self.facts = FileFacts("memory.tif", len(_CONTENT), "1", connections, opening=Traffic(1, 0))
        self.reads: list[tuple[int, int]] = []
        self.closed = False
        self._fail = fail
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> bytes:
        with self._lock:
            self.reads.append((start, stop))
        if self._fail(start):
            raise EndpointUnreachable("The bucket is gone.")
        return _CONTENT[start:stop]

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, len(_CONTENT) + 1), (1 << 40, (1 << 40) + 8)])
def test_outside_the_file(start: int, stop: int) -> None:
    """What lies outside the file is damage, and nothing is read."""
    file = _MemoryFile()
    with pytest.raises(SourceUnreadable):
        ByteRanges(file).read(start, stop)
    assert file.reads == []


@pytest.mark.parametrize("connections", [1, 4])
def test_failure(connections: int) -> None:
    """The place's error comes through, and nothing more is read after it."""
    file = _MemoryFile(connections, lambda start: start >= 2_000_000)
    ranges = ByteRanges(file)
    wanted = [(start, start + 100) for start in range(0, 9_000_000, 200_000)]
    given_out = []
    with pytest.raises(EndpointUnreachable):
        given_out.extend(bytes(part) for part in ranges.many(wanted))
    assert given_out == [_CONTENT[start:stop] for start, stop in wanted[:10]]
    ranges.close()
    assert len(file.reads) <= 11 + 2 * connections
    assert file.closed


def test_short_read() -> None:
    """A file that gives fewer bytes than asked for is an error here, too."""
    file = _MemoryFile()
    file.read = lambda start, stop: _CONTENT[start : stop - 1]  # type: ignore[method-assign]
    with pytest.raises(SourceUnreadable):
        list(ByteRanges(file).many([(0, 10)]))


def test_structure_is_read_in_blocks() -> None:
    """Many small reads in one place are one request; a long list is read by itself; a block is kept."""
    file = _MemoryFile()
    ranges = ByteRanges(file)
    for start in range(0, 5000, 10):
        assert ranges.read(start, start + 10) == _CONTENT[start : start + 10]
    assert file.reads == [(0, 65536)]
    assert ranges.read(100, 1_000_000) == _CONTENT[100:1_000_000]
    assert ranges.read(65530, 65540) == _CONTENT[65530:65540]
    assert file.reads == [(0, 65536), (100, 1_000_000), (65536, 131072)]
    assert ranges.close() == Traffic(4, 65536 + 999_900 + 65536)


def test_first_block_that_came_with_the_opening() -> None:
    """What opening the file brought along is not asked for again."""
    file = _MemoryFile()
    file.facts = FileFacts("memory.tif", len(_CONTENT), "1", head=_CONTENT[:65536])
    assert ByteRanges(file).read(10, 20) == _CONTENT[10:20]
    assert file.reads == []


def test_neighbours_are_read_at_once() -> None:
    """Parts next to each other, or nearly so, are one read; those far apart are not, and no read is too long."""
    file = _MemoryFile()
    ranges = ByteRanges(file)
    wanted = [(0, 1000), (1000, 2000), (3000, 4000), (1_000_000, 1_000_100)]
    assert [bytes(part) for part in ranges.many(wanted)] == [_CONTENT[start:stop] for start, stop in wanted]
    assert file.reads == [(0, 4000), (1_000_000, 1_000_100)]
    file.reads.clear()
    tiles = [(start, start + 100_000) for start in range(0, 8_000_000, 100_000)]
    assert b"".join(bytes(part) for part in ranges.many(tiles)) == _CONTENT[:8_000_000]
    assert 4 <= len(file.reads) <= 5
    assert max(stop - start for start, stop in file.reads) <= 2 << 20


@pytest.mark.parametrize("connections", [1, 3])
def test_reads_ahead_a_little(connections: int) -> None:
    """A consumer that stops is not overrun: at most one run a connection is read before it is needed."""
    file = _MemoryFile(connections)
    ranges = ByteRanges(file)
    wanted = [(start, start + 100) for start in range(0, 9_000_000, 100_000)]
    parts = ranges.many(wanted)
    next(parts)
    wait_until(lambda: len(file.reads) >= connections, "the first runs")
    next(parts)
    parts.close()
    ranges.close()
    assert connections <= len(file.reads) <= connections + 2


def test_several_at_a_time() -> None:
    """With several connections, as many runs are under way at the same time."""
    together = threading.Barrier(3, timeout=20)
    file = _MemoryFile(3)
    plain = file.read

    def read(start: int, stop: int) -> bytes:
        together.wait()
        return plain(start, stop)

    file.read = read  # type: ignore[method-assign]
    ranges = ByteRanges(file)
    wanted = [(start, start + 100) for start in range(0, 600_000, 100_000)]
    assert [bytes(part) for part in ranges.many(wanted)] == [_CONTENT[start:stop] for start, stop in wanted]
    ranges.close()


_PART = st.tuples(st.integers(0, len(_CONTENT) - 1), st.integers(0, 70_000))


@settings(max_examples=60)
@given(parts=st.lists(_PART, max_size=25), connections=st.sampled_from([1, 3]))
def test_any_parts_in_any_order(parts: list[tuple[int, int]], connections: int) -> None:
    """Whatever is asked for, overlapping or repeated, comes back in that order."""
    wanted = [(start, min(start + length, len(_CONTENT))) for start, length in parts]
    ranges = ByteRanges(_MemoryFile(connections))
    assert [bytes(part) for part in ranges.many(wanted)] == [_CONTENT[start:stop] for start, stop in wanted]
    ranges.close()
