"""What one worker has done, in numbers for Prometheus."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from itertools import accumulate, product
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from connectors.protocols import Traffic
from worker.activity import Activity

_FILLS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
_KINDS: Final = ("embed", "publish")


class ShardEvent(StrEnum):
    """How work on a shard ended: done, given back, with an error, with a bug of ours, or with the lease gone."""

    COMPLETED = "completed"
    RELEASED = "released"
    FAILED = "failed"
    CRASHED = "crashed"
    LOST = "lost"


class WorkMetrics(Collector):
    """Counts what a process does; safe to use from several threads, and costs less than a microsecond a call.

    Parameters
    ----------
    activity : Activity
        Says whether there is work in hand, and when it moved last.
    """

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._lock = threading.Lock()
        self._patches: Counter[str] = Counter()
        self._traffic = Traffic()
        self._fills = [0] * (len(_FILLS) + 1)
        self._fill_sum = 0.0
        self._shards: Counter[tuple[str, str]] = Counter()

    def embedded(self, encoder: str, patches: int, batch_size: int) -> None:
        """Count a batch that was embedded: patches, and the rows that the encoder was given."""
        share = patches / batch_size
        with self._lock:
            self._patches[encoder] += patches
            self._fills[bisect_left(_FILLS, share)] += 1
            self._fill_sum += share

    def read(self, traffic: Traffic) -> None:
        """Count what was read of slides."""
        with self._lock:
            self._traffic += traffic

    def ended(self, kind: str, event: ShardEvent) -> None:
        """Count a shard that is out of hand."""
        with self._lock:
            self._shards[kind, event] += 1

    def registry(self) -> CollectorRegistry:
        """Return a registry of these numbers and of what the process takes (memory, processor time, open files)."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        return registry

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers as they are now."""
        with self._lock:
            patches, shards, traffic = self._patches.copy(), self._shards.copy(), self._traffic
            fills, fill_sum = list(self._fills), self._fill_sum
        embedded = CounterMetricFamily("slidewire_patches", "Patches embedded.", labels=["encoder"])
        for encoder, count in sorted(patches.items()):
            embedded.add_metric([encoder], count)
        yield embedded
        yield CounterMetricFamily("slidewire_fetched_bytes", "Bytes read of slides.", value=traffic.bytes_read)
        yield CounterMetricFamily("slidewire_requests", "Requests or reads of slides.", value=traffic.requests)
        edges = [*map(str, _FILLS), "+Inf"]
        buckets = [*zip(edges, map(float, accumulate(fills)), strict=True)]
        yield HistogramMetricFamily("slidewire_batch_fill", "Share of a batch that is patches.", buckets, fill_sum)
        ended = CounterMetricFamily("slidewire_shards", "Shards by how work on them ended.", labels=["kind", "event"])
        for kind, event in product(_KINDS, ShardEvent):
            ended.add_metric([kind, event], shards[kind, event])
        yield ended
        yield GaugeMetricFamily("slidewire_busy", "Whether a shard is in hand.", value=float(self._activity.busy))
        yield GaugeMetricFamily(
            "slidewire_progress_age_seconds",
            "Seconds since the shard in hand moved; 0 if there is none.",
            value=self._activity.still_s,
        )
