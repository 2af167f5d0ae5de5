"""How long and how slowly a body may come, by a clock that the test turns; the rest is in test_http.py."""

import pytest

from connectors import body
from connectors.endpoints import Timeouts
from models.domain.errors import EndpointUnreachable

_LIMITS = Timeouts(total_s=100.0, least_bytes_s=1000.0, window_s=10.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give a clock that stands still until it is turned."""
    now = [5000.0]
    monkeypatch.setattr(body.time, "monotonic", lambda: now[0])
    return now


def _lasts(clock: list[float], arrivals: list[tuple[float, int]]) -> float:
    """Return after how many seconds a body is given up that comes so: (seconds later, bytes)."""
    watch = body._Clock(_LIMITS, "PACS")
    start = clock[0]
    for later_s, arrived in arrivals:
        clock[0] += later_s
        try:
            watch.count(arrived)
        except EndpointUnreachable:
            return clock[0] - start
    return -1.0


def test_a_burst_does_not_pay_for_a_trickle(clock: list[float]) -> None:
    """A hundred megabytes at once and then a byte a second: the next window is judged by itself."""
    assert 10 < _lasts(clock, [(0.5, 100_000_000), *((1.0, 1) for _ in range(90))]) <= 21


def test_a_byte_a_second(clock: list[float]) -> None:
    """A trickle from the start is over after one window."""
    assert _lasts(clock, [(1.0, 1) for _ in range(90)]) == 10


def test_a_slow_line(clock: list[float]) -> None:
    """Twice the least rate, in pieces with pauses, is let through; so is a long wait for one large piece."""
    assert _lasts(clock, [(4.0, 8000) for _ in range(20)]) == -1
    assert _lasts(clock, [(59.0, 1_000_000)]) == -1


def test_the_total_time(clock: list[float]) -> None:
    """However fast it comes, a body that has no end is over with the total time."""
    assert _lasts(clock, [(1.0, 1_000_000) for _ in range(200)]) == 101
