"""The doorbell's message: a shard id and nothing else gets through."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.tasks import shard_of

_SHARD = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    "message",
    [
        None,
        _SHARD,
        [],
        [_SHARD],
        {},
        {"shard": _SHARD},
        {"v": 2, "shard": _SHARD},
        {"v": "1", "shard": _SHARD},
        {"v": None, "shard": _SHARD},
        {"v": 1},
        {"v": 1, "shard": None},
        {"v": 1, "shard": 7},
        {"v": 1, "shard": [_SHARD]},
        {"v": 1, "shard": {"id": _SHARD}},
        {"v": 1, "shard": ""},
        {"v": 1, "shard": _SHARD[1:]},
        {"v": 1, "shard": _SHARD + "0"},
        {"v": 1, "shard": _SHARD.upper()},
        {"v": 1, "shard": _SHARD[1:] + "\n"},
        {"v": 1, "shard": _SHARD[1:] + "g"},
        {"v": 1, "shard": "' OR 1=1 --".ljust(32, "0")},
    ],
)
def test_garbage_is_refused(message: Any) -> None:
    """Whatever else lies in the queue is dropped before it reaches the ledger."""
    assert shard_of(message) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["v", "shard", "n"]), inner),
    max_leaves=6,
)


@given(_JSON)
def test_nothing_raises(message: Any) -> None:
    """Any JSON gets an answer, and that is no shard unless it looks like one."""
    shard = shard_of(message)
    assert shard is None or (len(shard) == 32 and int(shard, 16) >= 0)


def test_our_own_message_is_understood() -> None:
    """What the doorbell sends is a shard, whatever else a later version may add."""
    assert shard_of({"v": 1, "shard": _SHARD, "n": 3}) == _SHARD
    assert shard_of({"v": 1, "shard": _SHARD, "n": 3, "hint": {}}) == _SHARD
