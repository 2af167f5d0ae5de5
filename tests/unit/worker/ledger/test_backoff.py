"""worker.ledger.backoff."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.ledger.backoff import delay_s


@given(st.integers(1, 5000))
def test_the_wait_is_between_five_seconds_and_half_an_hour(failures: int) -> None:
    """Whatever the number of failures, the wait stays within bounds that grow with it."""
    assert 5.0 <= delay_s(failures, None) <= min(1800.0, 5.0 * 2.0 ** min(failures, 20))


def test_waits_spread() -> None:
    """Shards that failed together come back at different times, some early, some late."""
    waits = sorted(delay_s(12, None) for _ in range(400))
    assert waits[0] < 100.0
    assert waits[-1] > 1700.0


def test_a_server_that_asks_for_more_time_gets_it() -> None:
    """Retry-After is a lower bound."""
    assert delay_s(1, 900.0) == 900.0
    assert 5.0 <= delay_s(1, 1.0) <= 10.0


@pytest.mark.parametrize("asked", [-5.0, 0.0, math.nan, math.inf])
def test_nonsense_is_ignored(asked: float) -> None:
    """A wait that is none does not change ours."""
    assert 5.0 <= delay_s(1, asked) <= 10.0


def test_nobody_holds_a_shard_up_for_more_than_a_day() -> None:
    """A year is cut to a day."""
    assert delay_s(1, 365 * 86400.0) == 86400.0
