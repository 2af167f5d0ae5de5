"""Reads the patches of a slide and says how much memory that took: a process of its own, so that nothing else counts.

``python -m tests.bench.feed_memory SERIES_URL [FIRST_PATCH LAST_PATCH]`` prints one line of JSON a second with the
patches read so far and the resident memory, and a last line with the peak.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.endpoints import Endpoints
from connectors.registry import open_source
from models.domain.patch import Rows
from models.domain.request import PatchSpec
from worker.pipeline import Cancellation, Limits, Part, embed_part
from worker.stages.plan import plan_patches

_SHARD = 4096  # patches, as `Settings.shard_patches` has it: what a worker takes on at a time


class _Mean:
    """An encoder that takes the mean colour."""

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return float32 (B, 3)."""
        return Rows(pixels[:, ::16, ::16].mean(axis=(1, 2), dtype=np.float32))


def memory_mb(field: str) -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (peak) of this process in MB (Linux)."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) / 1024


def main() -> None:
    """Read, and say."""
    source = open_source(Endpoints().locate(sys.argv[1]), Endpoints())
    plan = plan_patches(source.slide, PatchSpec(tissue_fraction=None), None, 64)
    first, last = (int(number) for number in sys.argv[2:4]) if len(sys.argv) > 3 else (0, len(plan.grid))
    before_mb, done, said = memory_mb("VmRSS"), 0, 0.0
    started = time.perf_counter()
    for start in range(first, last, _SHARD):
        part = Part(start, min(start + _SHARD, last))
        for batch in embed_part(source, plan, part, (_Mean(), 3), Limits(), Cancellation()):
            done += len(batch.rows)
            if time.perf_counter() - said >= 1:
                said = time.perf_counter()
                line = {"patches": done, "s": round(said - started, 1), "rss_mb": round(memory_mb("VmRSS"))}
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
    traffic = source.close()
    whole = {
        "patches": done,
        "planned": len(plan.grid),
        "s": round(time.perf_counter() - started, 1),
        "before_mb": round(before_mb),
        "peak_mb": round(memory_mb("VmHWM")),
        "requests": traffic.requests,
    }
    sys.stdout.write(json.dumps(whole) + "\n")


if __name__ == "__main__":
    main()
