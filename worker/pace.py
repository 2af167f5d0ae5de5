"""Pace: how many frames to ask for at a time, learnt from how long the answers take.

Some servers pay for each request (Orthanc parses the whole instance again), some for each byte; the time of a request
is taken to be a fixed part and a part for each frame, both fitted to what was measured.
"""

import threading
from dataclasses import dataclass

_FIRST = 128  # small: the first patch is not kept waiting
_STEP = 8  # at most so many times larger than the largest that was measured
_OVERHEAD = 0.1  # share of a request's time that its fixed part may have
_KEPT = 64


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """Bounds of a request.

    Parameters
    ----------
    most_frames : int
    most_bytes : int
        Of encoded frames.
    target_s : float
        A request that is not dominated by its fixed part takes about so long.
    """

    most_frames: int = 900
    most_bytes: int = 32 << 20
    target_s: float = 1.5


class Pace:
    """Learns the size of the next request; safe to use from several threads.

    Parameters
    ----------
    limits : PaceLimits
    """

    def __init__(self, limits: PaceLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._measured: list[tuple[int, float]] = []
        self._bytes = self._frames = 0
        self._next = min(_FIRST, limits.most_frames)

    @property
    def frames(self) -> int:
        """Frames to ask for next."""
        return self._next

    def measured(self, frames: int, bytes_read: int, seconds: float) -> None:
        """Take note of an answer."""
        if not frames:
            return
        with self._lock:
            self._measured = [*self._measured, (frames, seconds)][-_KEPT:]
            self._frames += frames
            self._bytes += bytes_read
            self._next = self._size()

    def _size(self) -> int:
        fixed_s, frame_s = self._fit()
        largest = max(frames for frames, _ in self._measured)
        wanted = max(self._limits.target_s - fixed_s, fixed_s * (1 / _OVERHEAD - 1)) / max(frame_s, 1e-9)
        room = self._limits.most_bytes * self._frames // max(1, self._bytes)
        return max(1, int(min(wanted, _STEP * largest, self._limits.most_frames, room)))

    def _fit(self) -> tuple[float, float]:
        """Return the seconds of a request and of a frame, by least squares; neither below zero."""
        count = len(self._measured)
        mean_n = sum(frames for frames, _ in self._measured) / count
        mean_s = sum(seconds for _, seconds in self._measured) / count
        spread = sum((frames - mean_n) ** 2 for frames, _ in self._measured)
        if spread < 1e-9:
            return 0.0, mean_s / mean_n
        slope = sum((frames - mean_n) * (seconds - mean_s) for frames, seconds in self._measured) / spread
        frame_s = min(max(slope, 0.0), mean_s / mean_n)
        return max(0.0, mean_s - frame_s * mean_n), frame_s
