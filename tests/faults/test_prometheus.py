"""A real Prometheus scrapes a real worker and the ledger's metrics: rules are evaluated, every panel has its data."""

import json
from pathlib import Path

import pytest

from tests.services.command import ROOT, Slidewire
from tests.services.ports import free_port, wait_until
from tests.services.prometheus import Prometheus
from tests.services.slides import SlideOnDisk

pytestmark = pytest.mark.faults

_DASHBOARD = json.loads((ROOT / "infra" / "grafana" / "dashboards" / "slidewire.json").read_text())
_QUERIES = {target["expr"] for panel in _DASHBOARD["panels"] for target in panel.get("targets", ())}
# Only a watched archive, or jobs read from a server, have these; and only a queue with something in it has those.
_INTAKE = ("arrivals", "watch_behind", "reconciled_age", "overdue_slides", "endpoint_open")
_QUEUE = ("due_shards", "leased_shards")


def test_prometheus_sees_a_fleet_at_work(slidewire: Slidewire, cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """A job is done while it looks: queries have data, all rules are healthy, and a dead worker is an alert."""
    work, told = free_port(), free_port()
    slidewire.environment["SLIDEWIRE_METRICS_PORT"] = str(work)
    worker = slidewire.start("worker")
    same = {"SLIDEWIRE_STATE_FOLDER": slidewire.environment["SLIDEWIRE_STATE_FOLDER"]}
    slidewire.beside("told", **same, SLIDEWIRE_METRICS_PORT=str(told)).start("metrics", "--serve")
    prometheus = Prometheus(tmp_path / "prometheus", {"worker:9102": work, "watch:9102": told})
    prometheus.start()
    try:
        up = 'up{job=~".*slidewire.*"} == 1'
        wait_until(lambda: len(prometheus.query(up)) == 2, "both to be scraped", 90.0)
        for number in range(3):
            out = ("--encoder", "pixel-grid", "--out", f"out-{number}")
            slidewire.wait_for(slidewire.done("submit", cmu_slide.folder, *out).json["job"])
        total = 'slidewire_shards_total{kind="publish", event="completed"} == 3'
        wait_until(lambda: bool(prometheus.query(total)), "the jobs to be scraped", 60.0)
        _have_data(prometheus, {one for one in _QUERIES if not any(name in one for name in (*_INTAKE, *_QUEUE))})
        wait_until(lambda: set(prometheus.rules().values()) == {"ok"}, "all rules to be evaluated", 60.0)
        assert prometheus.alerts() == {}
        worker.kill()
        slidewire.done("submit", cmu_slide.folder, "--encoder", "pixel-grid", "--out", "out-late")
        wait_until(lambda: {"TargetDown", "NoWorker"} <= set(prometheus.alerts()), "the alerts to be pending", 90.0)
        _have_data(prometheus, {one for one in _QUERIES if any(name in one for name in _QUEUE)})
    finally:
        prometheus.stop()


def _have_data(prometheus: Prometheus, expressions: set[str]) -> None:
    assert expressions
    for expression in sorted(expressions):
        wait_until(lambda expression=expression: bool(prometheus.query(expression)), expression, 30.0)
