"""Alerts, dashboard and runbook agree with each other, with the metrics that exist, and with the error codes."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

from connectors.intake.protocol import Place
from models.domain.codes import ErrorCode
from tests.services.prometheus import FOLDER, promtool
from worker.activity import Activity
from worker.ledger import Ledger
from worker.metrics.ledger import LedgerMetrics
from worker.metrics.work import WorkMetrics

_ROOT = Path(__file__).parents[3]
_RUNBOOK = (_ROOT / "docs" / "runbook.md").read_text()
_DASHBOARD = json.loads((_ROOT / "infra" / "grafana" / "dashboards" / "slidewire.json").read_text())
_PROMETHEUS_OWN = {"up"}
_FUNCTIONS = {
    "sum", "max", "by", "rate", "increase", "delta", "changes", "absent", "avg_over_time", "vector", "or", "and",
    "unless", "on",
}  # fmt: skip


def _alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _expressions() -> Iterator[str]:
    for panel in _DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for rule in _alerts().values():
        yield rule["expr"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the names of all samples that exist, with their labels."""
    folder = tmp_path_factory.mktemp("ledger")
    work = WorkMetrics(Activity())
    work.embedded("uni", 1, 1)
    with Ledger(f"sqlite:///{folder / 'ledger.db'}", folder) as ledger:
        ledger.arrivals.open("pacs", Place())
        registry = work.registry()
        registry.register(LedgerMetrics(ledger, {"pacs": True}, webhook=True))
        text = generate_latest(registry).decode()
    declared = {f"slidewire_{name}": set(labels) for name, labels in {
        "due_shards": {"lane", "encoder"}, "leased_shards": {"encoder"}, "endpoint_open": {"endpoint"},
    }.items()}  # fmt: skip
    found: dict[str, set[str]] = {name: labels for name, labels in declared.items() if f"# TYPE {name} " in text}
    assert found.keys() == declared.keys()
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


def _promtool(*arguments: str) -> None:
    done = subprocess.run([promtool(), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_one() -> None:
    """Prometheus itself takes it, the rules too."""
    _promtool("check", "config", str(FOLDER / "prometheus.yml"))


def test_alerts_fire_and_do_not() -> None:
    """Each has unit tests, which Prometheus itself runs: once it fires, once it comes near."""
    files = sorted(FOLDER.glob("*_test.yml"))
    _promtool("test", "rules", *map(str, files))
    tested: dict[str, set[bool]] = {}
    for test in (one for file in files for one in yaml.safe_load(file.read_text())["tests"]):
        for case in test["alert_rule_test"]:
            tested.setdefault(case["alertname"], set()).add(bool(case["exp_alerts"]))
    assert tested == {name: {True, False} for name in _alerts()}


@pytest.mark.parametrize("name", sorted(_alerts()))
def test_an_alert_says_what_who_and_where(name: str) -> None:
    """A severity, a sentence, and an entry of its own in the runbook."""
    rule = _alerts()[name]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
    entry = _RUNBOOK.split(f"\n### {name}\n", 1)[1].split("\n##", 1)[0]
    assert all(f"**{part}**" in entry for part in ("Means", "Look", "Do"))


def test_the_runbook_has_no_entry_for_nothing() -> None:
    """Every heading is an alert or a group, every link leads somewhere, every code is a code, once."""
    headings = re.findall(r"^### (\w+)$", _RUNBOOK, re.MULTILINE)
    groups = {"Slidewire"}
    assert {*headings} - groups == set(_alerts())
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", _RUNBOOK, re.MULTILINE)}
    assert {*re.findall(r"\]\(#([\w-]+)\)", _RUNBOOK)} <= anchors
    for file in re.findall(r"\]\((\w+\.md)", _RUNBOOK):
        assert (_ROOT / "docs" / file).is_file()


def test_every_error_code_has_a_remedy() -> None:
    """In one of the tables, once."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+) \|$", _RUNBOOK, re.MULTILINE)
    assert sorted(code for code, _ in rows) == sorted(ErrorCode)
    assert all(remedy.strip() for _, remedy in rows)


@pytest.mark.parametrize("expression", sorted({*_expressions()}))
def test_every_query_asks_for_what_exists(expression: str, exported: dict[str, set[str]]) -> None:
    """Each name is a metric's, each label one that it has; Prometheus can read it."""
    bare = re.sub(r'"[^"]*"|\[\w+\]', "", expression)
    names = set(re.findall(r"\b(?:slidewire|process)_\w+|\bup\b", bare))
    assert names
    assert names - exported.keys() <= _PROMETHEUS_OWN, names
    labels = {"job", "instance"}.union(*(exported.get(name, set()) for name in names))
    used = set(re.findall(r"(\w+)(?:=~?|!=)", bare)) | {
        label for group in re.findall(r"(?:by|on) \(([\w, ]+)\)", bare) for label in group.split(", ")
    }
    assert used <= labels, used - labels
    assert set(re.findall(r"\b([a-z_]+) ?\(", bare)) <= _FUNCTIONS


def test_panels_do_not_overlap() -> None:
    """Each has a place of its own in the 24 columns, a title, and says what it shows."""
    taken: set[tuple[int, int]] = set()
    for panel in _DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        assert panel["type"] == "row" or panel["description"]
        taken |= cells
    assert len({panel["id"] for panel in _DASHBOARD["panels"]}) == len(_DASHBOARD["panels"])


def test_the_dashboard_finds_its_datasource() -> None:
    """The provisioned datasource has the uid that the panels name, and compose mounts what the provider reads."""
    folder = _ROOT / "infra" / "grafana" / "provisioning"
    [source] = yaml.safe_load((folder / "datasources" / "prometheus.yaml").read_text())["datasources"]
    named = {target["datasource"]["uid"] for panel in _DASHBOARD["panels"] for target in panel.get("targets", ())}
    assert named == {source["uid"]}
    services = yaml.safe_load((_ROOT / "infra" / "compose.yaml").read_text())["services"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    [provider] = yaml.safe_load((folder / "dashboards" / "slidewire.yaml").read_text())["providers"]
    assert any(volume.split(":")[1] == provider["options"]["path"] for volume in services["grafana"]["volumes"])


def test_what_is_scraped_is_there() -> None:
    """Each target is a service of compose.yaml, at the port that its image serves."""
    services = yaml.safe_load((_ROOT / "infra" / "compose.yaml").read_text())["services"]
    port = re.search(
        r"SLIDEWIRE_METRICS_PORT=(\d+)", (_ROOT / "infra" / "docker" / "Dockerfile.worker-cpu").read_text()
    )
    assert port is not None
    for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]:
        for target in job["static_configs"][0]["targets"]:
            assert target.split(":")[0] in services
            assert target.split(":")[1] == port[1]
