"""The configuration that the chart writes is the one that Slidewire reads."""

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.services.chart import CHART, FILES, changed, kinds, pods, render, rendered, values_of
from tests.services.ports import free_port
from tests.services.process import find_program
from worker.intake_settings import PatchSettings, RuleSettings, WatchSettings, WebhookSettings
from worker.settings import (
    EncoderSettings,
    EndpointSettings,
    ServerSettings,
    Settings,
    TimeoutSettings,
    load_settings,
)

# Named by another tool's variable, which goes into `env`.
_FROM_ELSEWHERE = {"storage_emulator", "hub_url"}


def _configuration(name: str) -> str:
    maps = [one for one in kinds(rendered(name), "ConfigMap") if "slidewire.toml" in one["data"]]
    texts = {one["data"]["slidewire.toml"] for one in maps}
    assert len(maps) == 2, "the migration's, and everybody else's"
    assert len(texts) == 1
    return str(texts.pop())


def _equal(written: Any, meant: Any) -> bool:
    """Whether two values mean the same; Helm knows no whole numbers."""
    if isinstance(meant, dict):
        return written.keys() == meant.keys() and all(_equal(written[key], meant[key]) for key in meant)
    if isinstance(meant, list):
        return len(written) == len(meant) and all(map(_equal, written, meant))
    return bool(written == meant)


@pytest.mark.parametrize("name", FILES)
def test_toml_says_what_the_values_say(name: str) -> None:
    """Nothing is lost or changed on the way from YAML to TOML."""
    assert _equal(tomllib.loads(_configuration(name)), values_of(name).get("config", {}))


@pytest.mark.parametrize("name", FILES)
def test_settings_accept_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of every example starts with its file and its environment, and reads there what was meant."""
    file = tmp_path / "slidewire.toml"
    file.write_text(_configuration(name))
    for pod in pods(rendered(name)):
        with monkeypatch.context() as environment:
            for entry in pod.spec["containers"][0]["env"]:
                by_reference = {"SLIDEWIRE_LEDGER_URL": "postgresql://a@b/c", "SLIDEWIRE_DECODERS": "4"}
                environment.setenv(entry["name"], entry.get("value", by_reference.get(entry["name"], "x")))
            environment.setenv("SLIDEWIRE_CONFIG", str(file))
            settings = load_settings()
        assert settings.ledger == "postgresql://a@b/c"
        assert settings.metrics_port == 9102
        assert settings.checkpoint_folder == Path("/srv/slidewire/checkpoints")
        meant = values_of(name).get("config", {})
        assert {key: endpoint.url for key, endpoint in settings.endpoints.items()} == {
            key: endpoint["url"] for key, endpoint in meant.get("endpoints", {}).items()
        }
        assert [rule.name for rule in settings.rules] == [rule["name"] for rule in meant.get("rules", [])]


def test_whole_numbers_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Helm writes as 6.0 is 6 again."""
    file = tmp_path / "slidewire.toml"
    file.write_text(_configuration("everything"))
    monkeypatch.setenv("SLIDEWIRE_CONFIG", str(file))
    settings = load_settings()
    pacs = settings.endpoints["pacs"]
    assert (pacs.workers, pacs.connections, settings.batch_size, settings.watch.reconcile_days) == (6, 4, 128, 7)
    assert {type(value) for value in (pacs.workers, pacs.connections, settings.batch_size)} == {int}
    assert (settings.checkpoint_s, settings.watch.events_s, pacs.timeouts.read_s) == (12.5, 0.25, 30.0)


@pytest.mark.parametrize(
    ("place", "model"),
    [
        ("definitions/endpoint", EndpointSettings),
        ("definitions/endpoint/properties/timeouts", TimeoutSettings),
        ("definitions/encoder", EncoderSettings),
        ("definitions/encoder/properties/server", ServerSettings),
        ("definitions/encoder/properties/server/properties/timeouts", TimeoutSettings),
        ("definitions/rule", RuleSettings),
        ("definitions/rule/properties/patches", PatchSettings),
        ("properties/config/properties/watch", WatchSettings),
        ("properties/config/properties/webhook", WebhookSettings),
    ],
)
def test_schema_knows_the_settings(place: str, model: type[BaseModel]) -> None:
    """The schema has the names that the settings have, and no others."""
    node = json.loads((CHART / "values.schema.json").read_text())
    for part in place.split("/"):
        node = node[part]
    assert set(node["properties"]) == set(model.model_fields)
    assert node["additionalProperties"] is False


def test_schema_knows_all_settings() -> None:
    """Every setting can be written, or is the chart's and is refused with what to say instead."""
    schema = json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]
    assert set(schema["properties"]) - {"HF_TOKEN"} == set(Settings.model_fields) - _FROM_ELSEWHERE
    assert schema["additionalProperties"] is False


@pytest.mark.faults
def test_the_commands_run(postgresql_url: str, tmp_path: Path) -> None:
    """As the chart starts them, the migration sets the ledger up, and a worker that finds nothing to do leaves."""
    values = changed(values_of("minimal"), "pools.cpu.workers", {"max": 1, "leaveAfterSeconds": 10})
    values["scaling"] = {"postgresql": {"host": "db", "username": "scaler", "existingSecret": "scaler"}}
    manifests = render(values)
    file = tmp_path / "slidewire.toml"
    file.write_text(kinds(manifests, "ConfigMap")[0]["data"]["slidewire.toml"])
    here = {
        "PATH": os.environ["PATH"], "SLIDEWIRE_CONFIG": str(file), "SLIDEWIRE_LEDGER_URL": postgresql_url,
        "SLIDEWIRE_DECODERS": "2", "SLIDEWIRE_METRICS_PORT": str(free_port()), "SLIDEWIRE_METRICS_HOST": "127.0.0.1",
    }  # fmt: skip
    here |= {f"SLIDEWIRE_{name}": str(tmp_path / name) for name in ("STATE_FOLDER", "CHECKPOINTS", "WEIGHTS")}
    containers = {pod.manifest["kind"]: pod.containers[0] for pod in pods(manifests)}
    for kind in ("Job", "ScaledJob"):
        given = {entry["name"]: entry.get("value", "") for entry in containers[kind]["env"]}
        program = [find_program("slidewire", "pip install slidewire"), *containers[kind]["args"]]
        done = subprocess.run(
            program, env=given | here, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
        )
        assert done.returncode == 0, done.stdout + done.stderr
