"""Named places where a test may end the process as a power cut would; in production nothing is ever armed.

Every write to the ledger has two (``NAME.before_commit``, ``NAME.after_commit``), and so has what touches a disk, a
broker or a PACS. A test arms one and then runs the worker; no setting and no variable of the environment can.
"""

import os
import signal

_armed: dict[str, int] = {}


def arm(name: str, visit: int = 1) -> None:
    """End this process with SIGKILL when it comes to a place for the `visit`-th time."""
    _armed[name] = visit


def reach(name: str) -> None:
    """Pass a place; nothing happens unless a test has armed it."""
    if not _armed or name not in _armed:
        return
    _armed[name] -= 1
    if _armed[name] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
