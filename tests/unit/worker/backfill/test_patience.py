"""Pauses grow, end, and run out."""

import pytest

from models.domain.errors import EndpointBusy, EndpointFailed, ResponseInvalid
from tests.services.ports import wait_until
from worker.backfill.patience import Patience

_FAILED = EndpointFailed("no")


def pauses(patience: Patience, most: int) -> list[float]:
    """Return the pauses after failures one after the other."""
    found = []
    for _ in range(most):
        patience.trouble(_FAILED)
        found.append(patience.left_s)
        patience._until = 0.0  # over: nobody waits for minutes here
    return found


def test_pauses_double_up_to_five_minutes() -> None:
    """Five seconds at first, five minutes at last."""
    found = pauses(Patience(5.0), 12)
    assert found == pytest.approx([5, 10, 20, 40, 80, 160, 300, 300, 300, 300, 300, 300], abs=0.5)


def test_twelve_pauses_in_a_row_are_enough() -> None:
    """The thirteenth failure is raised; a success in between begins anew."""
    patience = Patience(1.0)
    pauses(patience, 12)
    patience.good()
    pauses(patience, 12)
    with pytest.raises(EndpointFailed):
        patience.trouble(_FAILED)


def test_failures_of_a_pause_count_once() -> None:
    """What was under way together when the server went down is one failure."""
    patience = Patience(100.0)
    for _ in range(50):
        patience.trouble(_FAILED)
    assert 99 < patience.left_s <= 100


def test_pause_ends() -> None:
    """After it, the server may be asked."""
    patience = Patience(0.05)
    patience.trouble(_FAILED)
    wait_until(lambda: not patience.left_s, "the pause to end", 5.0)


def test_server_says_how_long() -> None:
    """Retry-After is honoured, up to five minutes."""
    patience = Patience(1.0)
    patience.trouble(EndpointBusy("later", 60.0))
    assert 59 < patience.left_s <= 60
    patience = Patience(1.0)
    patience.wait(EndpointBusy("later", 86400.0))
    assert 299 < patience.left_s <= 300


def test_waiting_is_held_against_nobody() -> None:
    """A server that the fleet leaves alone may do so for ever."""
    patience = Patience(0.0)
    for _ in range(100):
        patience.wait(_FAILED)
    patience.trouble(_FAILED)


def test_twenty_slides_that_fail_in_a_row_are_enough() -> None:
    """Not one bad slide, but whatever makes all bad, ends the run."""
    patience, error = Patience(1.0), ResponseInvalid("no")
    for _ in range(19):
        patience.failure(error)
    patience.good()
    for _ in range(19):
        patience.failure(error)
    with pytest.raises(ResponseInvalid):
        patience.failure(error)
