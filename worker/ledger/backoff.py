"""How long a shard waits before it is tried again."""

import math
import random

ATTEMPTS = 12  # failures after which a shard is given up, even if another try could help
_FLOOR_S = 5.0
_CEILING_S = 30.0 * 60
_LONGEST_S = 24.0 * 3600  # no server's Retry-After holds a shard up for longer


def delay_s(failures: int, retry_after_s: float | None) -> float:
    """Return the wait after failure number `failures` (1-based), in seconds.

    Full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter") between 5 s and a limit that doubles from
    10 s to 30 min, so that shards which failed together do not come back together; never less than the server
    asked for, up to a day.
    """
    limit = min(_CEILING_S, _FLOOR_S * 2.0 ** min(failures, 32))
    wait = random.uniform(_FLOOR_S, limit)  # noqa: S311 - spreads load, keeps no secret
    if retry_after_s is not None and math.isfinite(retry_after_s):
        wait = max(wait, min(retry_after_s, _LONGEST_S))
    return wait
