"""What is left to do of a shard, given what is in its checkpoints."""

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from worker.engine import missing_parts
from worker.ledger import Lease


def _lease(start: int, stop: int) -> Lease:
    """Return a lease of which only the patches matter."""
    values: dict[str, Any] = dict.fromkeys(Lease.__dataclass_fields__)
    return replace(Lease(**values), start=start, stop=stop)


@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 60), st.sets(st.integers(0, 70)))
def test_parts_are_what_is_in_no_checkpoint(first: int, batch_size: int, count: int, safe: set[int]) -> None:
    """Every batch that is not safe is in exactly one part, with its number and its patches; no part can be longer."""
    start = first * batch_size
    lease = _lease(start, start + count)
    total = -(-count // batch_size)
    wanted = []
    previous = None
    for part in missing_parts(lease, batch_size, safe):
        assert part.start == start + part.first_batch * batch_size
        assert part.start < part.stop <= lease.stop
        assert part.stop == lease.stop or (part.stop - start) % batch_size == 0
        numbers = range(part.first_batch, part.first_batch + -(-(part.stop - part.start) // batch_size))
        assert previous is None or numbers.start > previous
        previous = numbers.stop
        wanted += numbers
    assert wanted == [number for number in range(total) if number not in safe]


def test_nothing_is_left_of_a_safe_shard() -> None:
    """A shard whose batches are all safe is not embedded again; an untouched one is a single part."""
    assert list(missing_parts(_lease(20, 35), 10, {0, 1})) == []
    [part] = missing_parts(_lease(20, 35), 10, set())
    assert (part.start, part.stop, part.first_batch) == (20, 35, 0)
