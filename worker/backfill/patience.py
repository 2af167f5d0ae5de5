"""How long a server that fails is left alone, and when it is given up."""

import time

from models.domain.errors import SlidewireError

_ROUNDS = 12  # pauses in a row; half an hour in all
_FAILURES = 20  # slides in a row that fail each by itself
_LONGEST_S = 300.0


class Patience:
    """Pauses that grow as long as nothing succeeds.

    Parameters
    ----------
    pause_s : float
        The first one.
    """

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s
        self._rounds = self._failures = 0
        self._until = 0.0

    @property
    def left_s(self) -> float:
        """Seconds until the server may be asked again; 0 if it may."""
        return max(0.0, self._until - time.monotonic())

    def good(self) -> None:
        """Take note of a success."""
        self._rounds = self._failures = 0

    def wait(self, error: SlidewireError) -> None:
        """Pause without holding it against the server: it asked for that, or the fleet leaves it alone."""
        if not self.left_s:
            self._until = time.monotonic() + min(_LONGEST_S, max(self._pause_s, error.retry_after_s or 0.0))

    def trouble(self, error: SlidewireError) -> None:
        """Pause after a failure that may pass; calls that were under way together count once.

        Raises
        ------
        SlidewireError
            That one, if nothing has succeeded for twelve pauses.
        """
        if self.left_s:
            return
        self._rounds += 1
        if self._rounds > _ROUNDS:
            raise error
        pause_s = max(self._pause_s * 2.0 ** (self._rounds - 1), error.retry_after_s or 0.0)
        self._until = time.monotonic() + min(_LONGEST_S, pause_s)

    def failure(self, error: SlidewireError) -> None:
        """Take note of a slide that failed for good.

        Raises
        ------
        SlidewireError
            That one, if twenty did in a row: it is not the slides.
        """
        self._failures += 1
        if self._failures >= _FAILURES:
            raise error
