"""Large slides: memory bounded by what is in hand, and a server that is learnt once."""

import json
import subprocess
import sys

from connectors.endpoints import Endpoints
from connectors.registry import open_source
from models.domain.request import PatchSpec
from tests.services.command import Slidewire
from tests.services.virtual_slide import virtual_slide
from worker.pipeline import Limits, memory_bound
from worker.stages.plan import plan_patches

_SIDE_PX = 100_000
_FIRST, _LAST = 65_536, 77_824  # three shards from the middle of the slide


def test_a_slide_of_100000_px_is_read_in_bounded_memory() -> None:
    """199,000 patches at 30 GB of pixels: what is read takes less than the bound that the pipeline states."""
    with virtual_slide(_SIDE_PX) as server:
        source = open_source(Endpoints().locate(server.series), Endpoints())
        plan = plan_patches(source.slide, PatchSpec(tissue_fraction=None), None, 64)
        source.close()
        bound_mb = memory_bound(plan, Limits()) / 2**20
        command = [sys.executable, "-m", "tests.bench.feed_memory", server.series, str(_FIRST), str(_LAST)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        asked, requests = server.frames_given, server.requests
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["patches"] == _LAST - _FIRST
    assert said["peak_mb"] - said["before_mb"] < bound_mb
    assert bound_mb < 400
    # A shard shares its first row of tiles with the one before it; nothing else is asked for twice.
    assert asked < (_LAST - _FIRST) * (224 / 256) ** 2 * 1.1
    assert asked / requests > 300


def test_a_server_is_learnt_once_a_slide(slidewire: Slidewire) -> None:
    """Of a job's shards only the first begins with the small requests by which the server is measured."""
    slidewire.environment["SLIDEWIRE_SHARD_PATCHES"] = "1024"
    with virtual_slide(16_000) as server:
        done = slidewire.done("embed", server.series, "--encoder", "pixel-grid", "--all-patches", "--out", "out")
        read = [size for size in server.sizes if size > 1]  # single frames tell the transfer syntax
    assert done.json["patches"] == (16_000 // 224) ** 2  # five shards
    assert read.count(read[0]) == 2  # one a connection
    assert max(read) > 4 * read[0]
