"""The doorbell's message: a shard id and nothing else gets through; what does wakes the worker until all is done."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from celery import Celery, signals
from celery.exceptions import Reject
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import LedgerUnavailable
from worker.doorbell import TASK
from worker.engine import Engine
from worker.pipeline import Cancellation
from worker.tasks import register, shard_of

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


_MESSAGE = {"v": 1, "shard": _SHARD, "n": 1}


class _Work:
    """So many shards, and what happens as the last one is asked for."""

    def __init__(self, shards: int) -> None:
        self.left, self.asked = shards, 0
        self.cancellation = Cancellation()
        self.then: Exception | None = None

    def run_next(self) -> bool:
        self.asked += 1
        if self.left:
            self.left -= 1
            return True
        if self.then:
            raise self.then
        return False


@pytest.fixture
def app() -> Iterator[Celery]:
    """Give an application without a broker; it leaves no handler behind."""
    before = list(signals.worker_shutting_down.receivers)
    with Celery("test", broker="memory://") as opened:
        yield opened
    signals.worker_shutting_down.receivers[:] = before


def _ring(app: Celery, work: _Work, turn_s: float = 60.0, message: object = _MESSAGE) -> None:
    register(app, cast("Engine", work), work.cancellation, turn_s)
    app.tasks[TASK](message)


def test_one_message_does_for_all_shards(app: Celery) -> None:
    """The worker goes on until there is nothing to claim."""
    work = _Work(7)
    _ring(app, work)
    assert (work.left, work.asked) == (0, 8)


def test_a_message_that_is_none_of_ours_wakes_nobody(app: Celery) -> None:
    """The ledger is not even asked."""
    work = _Work(1)
    _ring(app, work, message={"v": 1, "shard": "x"})
    assert work.asked == 0


def test_a_message_goes_back_when_the_turn_is_over(app: Celery) -> None:
    """There may be more: whoever is free gets it."""
    work = _Work(7)
    with pytest.raises(Reject) as raised:
        _ring(app, work, turn_s=0.0)
    assert raised.value.requeue
    assert work.asked == 1, "a shard first, however short the turn"


def test_a_message_goes_back_when_the_worker_stops(app: Celery) -> None:
    """Another worker is woken by it; no further shard is begun."""
    work = _Work(7)
    register(app, cast("Engine", work), work.cancellation, 60.0)
    signals.worker_shutting_down.send(sender=None)
    with pytest.raises(Reject) as raised:
        app.tasks[TASK](_MESSAGE)
    assert raised.value.requeue
    assert work.asked == 0


def test_a_ledger_that_does_not_answer_is_not_asked_in_a_loop(app: Celery) -> None:
    """The message is over; the sweeper rings again."""
    work = _Work(2)
    work.then = LedgerUnavailable("The ledger does not answer.")
    _ring(app, work)
    assert work.asked == 3
