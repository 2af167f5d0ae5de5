"""Signs of life: what counts while there is work in hand, and what while there is none."""

import pytest

from worker import activity
from worker.activity import Activity


class _Clock:
    """Stands for the clock, which no test can move."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    """Give a clock that is moved by hand."""
    made = _Clock()
    monkeypatch.setattr(activity, "time", made)
    return made


def test_who_expects_nothing_complains_of_nothing(clock: _Clock) -> None:
    """A process that has not begun, or waits for its broker, is alive."""
    process = Activity()
    process.turned("poll")
    clock.now_s += 1e6
    assert process.complaints() == ()
    assert not process.busy
    assert process.still_s == 0.0


def test_a_loop_that_stands_still_is_told(clock: _Clock) -> None:
    """After its bound, by name; as soon as it turns all is well."""
    process = Activity()
    process.expect("poll", 10.0)
    process.expect("other", 1000.0)
    clock.now_s += 10.0
    assert process.complaints() == ()
    clock.now_s += 1.0
    [said] = process.complaints()
    assert "'poll'" in said
    assert "11 s" in said
    process.turned("poll")
    assert process.complaints() == ()
    clock.now_s += 11.0
    process.forget("poll")
    assert process.complaints() == ()


def test_while_there_is_work_only_that_counts(clock: _Clock) -> None:
    """The loop cannot turn meanwhile; the work must move."""
    process, still_s = Activity(), 5.0
    process.expect("poll", 10.0)
    with process.working(lambda: still_s, 60.0):
        clock.now_s += 500.0
        assert process.busy
        assert process.still_s == 5.0
        assert process.complaints() == ()
        still_s = 61.0
        [said] = process.complaints()
        assert "61 s" in said
    assert not process.busy
    assert process.complaints() == (), "the loop has its time anew"
    clock.now_s += 11.0
    assert process.complaints()


def test_work_that_fails_is_over(clock: _Clock) -> None:
    """An error leaves no work in hand."""
    process = Activity()
    with pytest.raises(ValueError, match="bad"), process.working(lambda: 1e9, 1.0):
        raise ValueError("bad")
    assert process.complaints() == ()
