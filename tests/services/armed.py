"""The slidewire command in a process that a test has armed: killed at a named place, or with a misbehaving encoder.

    python -m tests.services.armed kill=checkpoint.after_file:2 encoder=hang -- worker --drain

The product knows nothing of this: kill points are no-ops that only `worker.killpoint.arm` changes, and the encoder is
pixel-grid with its one method replaced in this process.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Any, NDArray[np.uint8]], NDArray[np.float32]]


def _hang(self: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    del self, pixels
    threading.Event().wait()
    raise AssertionError


def _segfault(self: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    del self, pixels
    ctypes.string_at(0)
    raise AssertionError


def _bug(self: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    del self
    raise ZeroDivisionError(f"a foreign text with PATIENT^NAME in it, and {len(pixels)} patches")


def _exhaust(self: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    del self, pixels
    raise MemoryError


def _nan(self: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    del self
    return np.full((len(pixels), 192), np.nan, np.float32)


MISBEHAVIOUR: dict[str, Encode] = {
    "hang": _hang, "segfault": _segfault, "bug": _bug, "exhaust": _exhaust, "nan": _nan,
}  # fmt: skip


def _slow(seconds: float, encode: Encode) -> Encode:
    def slowly(self: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(seconds)  # the fault itself: an encoder that takes its time
        return encode(self, pixels)

    return slowly


def main(arguments: list[str]) -> None:
    """Arm this process, then be the command."""
    edge = arguments.index("--")
    from models.encoders.pixel_grid import _PixelGrid
    from worker import killpoint
    from worker.cli import main as command

    for order in arguments[:edge]:
        what, _, how = order.partition("=")
        name, _, number = how.partition(":")
        if what == "kill":
            killpoint.arm(name, int(number or 1))
        elif name == "slow":
            _PixelGrid.encode = _slow(float(number), _PixelGrid.encode)  # type: ignore[method-assign]
        else:
            _PixelGrid.encode = MISBEHAVIOUR[name]  # type: ignore[assignment,method-assign]
    sys.argv = ["slidewire", *arguments[edge + 1 :]]
    command()


if __name__ == "__main__":
    main(sys.argv[1:])
