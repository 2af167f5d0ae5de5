"""Named places where a test may end or stop the process as a power cut would; in production nothing is ever armed.

Every write to the ledger has two (``NAME.before_commit``, ``NAME.after_commit``), and so has what touches a disk, a
broker or a PACS. A test arms one and then runs the worker; no setting and no variable of the environment can.
"""

import os
import signal

_armed: dict[str, tuple[int, signal.Signals]] = {}


def arm(name: str, visit: int = 1, number: signal.Signals = signal.SIGKILL) -> None:
    """Send this process a signal when it comes to a place for the `visit`-th time."""
    _armed[name] = (visit, number)


def reach(name: str) -> None:
    """Pass a place; nothing happens unless a test has armed it."""
    if not _armed or name not in _armed:
        return
    visits, number = _armed[name]
    _armed[name] = (visits - 1, number)
    if visits == 1:
        os.kill(os.getpid(), number)
