"""How long a thread of the watch leaves a server, or a ledger, alone that failed."""

import random

from models.domain.errors import SlidewireError


def pause_s(failures: int, exc: Exception, longest_s: float) -> float:
    """Return how long to wait after so many failures in a row; some watches must not come back together.

    Parameters
    ----------
    failures : int
        At least 1.
    exc : Exception
        The last one; what a server asked for is heeded.
    longest_s : float
        Never more than this.
    """
    limit = min(longest_s, 2.0 ** min(failures, 10))
    asked_s = exc.retry_after_s if isinstance(exc, SlidewireError) else None
    return max(random.uniform(limit / 2, limit), min(asked_s or 0.0, longest_s))  # noqa: S311 - keeps no secret
