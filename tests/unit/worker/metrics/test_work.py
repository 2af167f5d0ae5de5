"""What a worker counts, read back with Prometheus' own parser."""

from collections.abc import Mapping

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from connectors.protocols import Traffic
from tests.unit.worker.ledger.sample import together
from worker.activity import Activity
from worker.metrics.work import ShardEvent, WorkMetrics


def samples(metrics: WorkMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return each sample by name and sorted labels."""
    text = generate_latest(metrics.registry()).decode()
    families = text_string_to_metric_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


@pytest.fixture
def metrics() -> WorkMetrics:
    """Give metrics of a process that has done nothing."""
    return WorkMetrics(Activity())


def _value(metrics: WorkMetrics, name: str, labels: Mapping[str, str] | None = None) -> float:
    return samples(metrics)[f"slidewire_{name}", tuple(sorted((labels or {}).items()))]


def test_everything_is_there_from_the_first_scrape(metrics: WorkMetrics) -> None:
    """Rates begin at nought: who waits for a first crash sees it."""
    for kind in ("embed", "publish"):
        for event in ("completed", "released", "failed", "crashed", "lost"):
            assert _value(metrics, "shards_total", {"kind": kind, "event": event}) == 0
    for name in ("fetched_bytes_total", "requests_total", "batch_fill_count", "busy", "progress_age_seconds"):
        assert _value(metrics, name) == 0
    assert samples(metrics)["process_resident_memory_bytes", ()] > 1e6


def test_batches_are_counted_by_encoder_and_fill(metrics: WorkMetrics) -> None:
    """A full batch and a quarter of one."""
    metrics.embedded("uni", 64, 64)
    metrics.embedded("uni", 16, 64)
    metrics.embedded("phikon", 64, 64)
    assert _value(metrics, "patches_total", {"encoder": "uni"}) == 80
    assert _value(metrics, "patches_total", {"encoder": "phikon"}) == 64
    assert _value(metrics, "batch_fill_bucket", {"le": "0.1"}) == 0
    assert _value(metrics, "batch_fill_bucket", {"le": "0.25"}) == 1
    assert _value(metrics, "batch_fill_bucket", {"le": "0.9"}) == 1
    assert _value(metrics, "batch_fill_bucket", {"le": "1.0"}) == 3
    assert _value(metrics, "batch_fill_bucket", {"le": "+Inf"}) == _value(metrics, "batch_fill_count") == 3
    assert _value(metrics, "batch_fill_sum") == 2.25


def test_shards_and_traffic_are_counted(metrics: WorkMetrics) -> None:
    """By what became of the shard."""
    metrics.ended("embed", ShardEvent.COMPLETED)
    metrics.ended("embed", ShardEvent.COMPLETED)
    metrics.ended("publish", ShardEvent.LOST)
    metrics.read(Traffic(3, 1000))
    metrics.read(Traffic(1, 24))
    assert _value(metrics, "shards_total", {"kind": "embed", "event": "completed"}) == 2
    assert _value(metrics, "shards_total", {"kind": "publish", "event": "lost"}) == 1
    assert _value(metrics, "shards_total", {"kind": "publish", "event": "completed"}) == 0
    assert (_value(metrics, "requests_total"), _value(metrics, "fetched_bytes_total")) == (4, 1024)


def test_what_is_in_hand_is_told() -> None:
    """Whether, and since when it stands still."""
    activity = Activity()
    metrics = WorkMetrics(activity)
    with activity.working(lambda: 42.0, 60.0):
        assert (_value(metrics, "busy"), _value(metrics, "progress_age_seconds")) == (1, 42)
    assert (_value(metrics, "busy"), _value(metrics, "progress_age_seconds")) == (0, 0)


def test_no_count_is_lost_between_threads(metrics: WorkMetrics) -> None:
    """Several threads count at once, while somebody looks."""

    def count() -> None:
        for _ in range(500):
            metrics.embedded("uni", 1, 2)
            metrics.read(Traffic(1, 1))

    together(count, count, count, lambda: [samples(metrics) for _ in range(3)])
    assert _value(metrics, "patches_total", {"encoder": "uni"}) == 1500
    assert _value(metrics, "requests_total") == 1500


def test_two_processes_share_nothing(metrics: WorkMetrics) -> None:
    """Numbers are of one installation: no global registry."""
    metrics.embedded("uni", 1, 1)
    assert ("slidewire_patches_total", (("encoder", "uni"),)) not in samples(WorkMetrics(Activity()))
