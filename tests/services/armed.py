"""The slidewire command in a process that a test has armed: killed at a named place, or with a misbehaving encoder.

    python -m tests.services.armed kill=checkpoint.after_file:2 encoder=hang -- worker --drain

``kill=POINT:VISIT`` and ``stop=POINT:VISIT`` send SIGKILL and SIGSTOP, ``slow=:SECONDS`` makes each batch take so long,
``encoder=NAME:CALL`` and ``decoder=NAME`` misbehave as `MISBEHAVIOUR` says, the encoder from that call on (else 2:
the first, which ``slow`` spares too, is its trial at loading). ``fsync=ENOSPC:FILE`` lets every flush to disk fail so
while a file is there, ``busy=:SECONDS`` shortens the ledger's patience with other writers.

The product knows nothing of this: kill points are no-ops that only `worker.killpoint.arm` changes, and the encoder is
pixel-grid with its one method replaced in this process.
"""

import ctypes
import errno
import itertools
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import DeviceLost
from models.domain.patch import Rows

Encode = Callable[[Any, NDArray[np.uint8]], Rows]
_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
_LEFT_BYTES = 64 << 20


def _hang(*_: Any) -> NoReturn:
    threading.Event().wait()
    raise AssertionError


def _segfault(*_: Any) -> NoReturn:
    ctypes.string_at(0)
    raise AssertionError


def _bug(*_: Any) -> NoReturn:
    raise ZeroDivisionError("a foreign text with PATIENT^NAME in it")


def _exhaust(*_: Any) -> NoReturn:
    """Take more memory than the process may have: the kernel refuses it."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path, but the kernel's word
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _LEFT_BYTES, limits[1]))
    try:
        np.ones(_LEFT_BYTES * 4, np.uint8)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    raise AssertionError


def _outgrow(*_: Any) -> NoReturn:
    """End as a process does that the kernel's out-of-memory killer has chosen: no word, no clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _nan(self: Any, pixels: NDArray[np.uint8]) -> Rows:
    del self
    return Rows(np.full((len(pixels), 192), np.nan, np.float32))


def _lost(*_: Any) -> NoReturn:
    raise DeviceLost("The GPU failed: this process cannot use it any more.")


MISBEHAVIOUR: dict[str, Encode] = {
    "hang": _hang, "segfault": _segfault, "bug": _bug, "exhaust": _exhaust, "outgrow": _outgrow, "nan": _nan,
    "lost": _lost,
}  # fmt: skip


def _slow(seconds: float, encode: Encode) -> Encode:
    def slowly(self: Any, pixels: NDArray[np.uint8]) -> Rows:
        time.sleep(seconds)  # the fault itself: an encoder that takes its time
        return encode(self, pixels)

    return slowly


def _from_call(number: int, misbehave: Encode, encode: Encode) -> Encode:
    calls = itertools.count(1)

    def encode_until_then(self: Any, pixels: NDArray[np.uint8]) -> Rows:
        return (misbehave if next(calls) >= number else encode)(self, pixels)

    return encode_until_then


def _failing(fsync: Callable[[int], None], number: int, sign: str) -> Callable[[int], None]:
    def fsync_or_fail(descriptor: int) -> None:
        if os.path.exists(sign):  # noqa: PTH110 - a path object costs more than the flush
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    return fsync_or_fail


def arm(orders: Sequence[str]) -> None:
    """Arm this process."""
    for order in orders:
        what, _, how = order.partition("=")
        name, _, number = how.partition(":")
        if what in _SIGNALS:
            from worker import killpoint

            killpoint.arm(name, int(number or 1), _SIGNALS[what])
        elif what == "visibility":  # seconds after which a Redis message that is worked on is given to another
            from worker import app

            app._REDIS["visibility_timeout"] = float(name)
        elif what == "fsync":
            os.fsync = _failing(os.fsync, getattr(errno, name), number)
        elif what == "busy":
            from worker.ledger import database

            database._BUSY_S = float(number)
        elif what == "decoder":
            from worker.stages import transform

            transform.decode_frame = MISBEHAVIOUR[name]  # type: ignore[assignment]
        else:
            from models.encoders.pixel_grid import _PixelGrid

            encode, call = _PixelGrid.encode, 2
            if what == "slow":
                changed = _slow(float(number), encode)
            else:
                changed, call = MISBEHAVIOUR[name], int(number or call)
            _PixelGrid.encode = _from_call(call, changed, encode)  # type: ignore[method-assign]


def main(arguments: list[str]) -> None:
    """Arm this process, then be the command."""
    edge = arguments.index("--")
    from worker.cli import main as command

    arm(arguments[:edge])
    sys.argv = ["slidewire", *arguments[edge + 1 :]]
    command()


if __name__ == "__main__":
    main(sys.argv[1:])
