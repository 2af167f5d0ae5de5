"""What is missing or wrong is refused when the chart is rendered: with the value's name and an example."""

import re

import helm_python
import pytest

from tests.services.chart import changed, render, values_of

_CANARY = "canary-hunter2"
_POOL = {"workers": {"min": 1}, "resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}


def _refusal(example: str, path: str, value: object) -> str:
    with pytest.raises(helm_python.HelmError) as caught:
        render(changed(values_of(example), path, value))
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("image.repository", "", "image.repository"),
        ("ledger.existingSecret", "", "ledger.existingSecret"),
        ("pools", {}, "pools"),
        ("pools.cpu.resources", {"requests": {"cpu": 1}}, "pools.cpu.resources.requests.memory"),
        ("pools.cpu.resources", {"limits": {"cpu": 1}}, "pools.cpu.resources.requests.cpu"),
        ("pools.cpu.workers", {"min": 3, "max": 2}, "pools.cpu.workers.max"),
        ("pools.cpu.gpu", {"count": 2}, "pools.cpu.gpu.count"),
        ("pools.cpu.workers", {"min": 0, "max": 2}, "scaling.postgresql.existingSecret"),
        ("scaling.postgresql.username", "", "scaling.postgresql.username"),
        ("scaling.postgresql.host", "", "scaling.postgresql.host"),
        ("scaling.trigger", "prometheus", "scaling.prometheus.serverAddress"),
        ("weights.fetch", ["uni"], "networkPolicy.weights"),
        ("watch.endpoints", ["elsewhere"], "watch.endpoints"),
        ("config.rules", [], "config.rules"),
        ("networkPolicy.ledger", [], "networkPolicy.ledger"),
        ("networkPolicy.endpoints", [], "networkPolicy.endpoints"),
        ("networkPolicy.broker", [], "networkPolicy.broker"),
        ("networkPolicy.webhook", [], "networkPolicy.webhook"),
        ("networkPolicy.weights", [], "networkPolicy.weights"),
        ("networkPolicy.extra", [{"ports": [443]}], "networkPolicy.extra[0]"),
        ("results.existingClaim", "", "config.rules[1].out"),
        ("checkpoints.storageClassName", "nfs", "checkpoints.existingClaim"),
        ("files.pacs-tls", {}, "files.pacs-tls"),
        ("files", {}, "config.deidentify_key"),
        ("secrets", {}, "config.endpoints.pacs.secret"),
        ("config.webhook.ca_bundle", "/etc/ssl/hospital.pem", "config.webhook.ca_bundle"),
    ],
)
def test_refused_with_name_and_example(path: str, value: object, named: str) -> None:
    """A value that is missing or cannot be is named, and what it may look like is shown."""
    of_minimal = path.partition(".")[0] in {"image", "ledger", "pools"} or path == "weights.fetch"
    message = _refusal("minimal" if of_minimal else "everything", path, value)
    assert named in message
    assert "for example" in message.lower()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("config.endpoints.pacs.secret", _CANARY, "config.endpoints.pacs.secret"),
        ("config.webhook.secret", _CANARY, "config.webhook.secret"),
        ("config.deidentify_key", _CANARY, "config.deidentify_key"),
        ("config.encoders.house-model.server", {"url": "https://a", "secret": _CANARY}, "house-model.server.secret"),
        ("config.ledger_url", f"postgresql://slidewire:{_CANARY}@db/slidewire", "config.ledger_url"),
        ("config.broker_url", f"redis://:{_CANARY}@redis", "config.broker_url"),
        ("config.hub_token", _CANARY, "config.hub_token"),
        ("env.PACS_PASSWORD_TOO", _CANARY, "env.PACS_PASSWORD_TOO"),
        ("env.HF_TOKEN", _CANARY, "env.HF_TOKEN"),
        ("env.SLIDEWIRE_LEDGER_URL", _CANARY, "env.SLIDEWIRE_LEDGER_URL"),
    ],
)
def test_no_secret_as_a_value(path: str, value: object, named: str) -> None:
    """A secret that is written down is refused with what to do instead, and is not in the message."""
    message = _refusal("everything", path, value)
    assert named in message
    assert "for example" in message
    assert _CANARY not in message


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("replicas", 3, "replicas"),
        ("ledger.url", "postgresql://db/slidewire", "url"),
        ("ledger.password", _CANARY, "password"),
        ("scaling.postgresql.password", _CANARY, "password"),
        ("secrets.PACS_PASSWORD", _CANARY, "/secrets/PACS_PASSWORD"),
        ("secrets.PACS_PASSWORD", {"value": _CANARY}, "/secrets/PACS_PASSWORD"),
        ("config.endpoints.pacs.password", _CANARY, "password"),
        ("config.endpoint", {}, "endpoint"),
        ("config.watch.quiet", 60, "quiet"),
        ("config.endpoints.pacs.quiet_hours", "9 to 5", "/config/endpoints/pacs/quiet_hours"),
        ("config.endpoints.PACS", {"url": "https://pacs"}, "PACS"),
        ("image.tag", "latest", "/image/tag"),
        ("pools.cpu.workers", {"minimum": 1}, "minimum"),
        ("pools.cpu.lanes", ["urgent"], "/pools/cpu/lanes"),
        ("pools.cpu.encoders", ["uni'; DROP TABLE job"], "/pools/cpu/encoders"),
        ("pools.cpu.settings", {"ledger_url": "x"}, "ledger_url"),
        ("pools.CPU", _POOL, "CPU"),
        ("pools.a-name-that-is-too-long", _POOL, "a-name-that-is-too-long"),
        ("scaling.trigger", "cpu", "/scaling/trigger"),
        ("networkPolicy.ledger", [{"cidr": "db.example.org"}], "/networkPolicy/ledger/0/cidr"),
        ("checkpoints.accessModes", ["ReadOnlyMany"], "/checkpoints/accessModes"),
        ("watch.endpoints", "pacs", "/watch/endpoints"),
        ("migrations.deadlineSeconds", 0, "/migrations/deadlineSeconds"),
    ],
)
def test_schema_names_the_value(path: str, value: object, named: str) -> None:
    """What the schema refuses it names, down to the key that nothing knows; a secret there is not shown."""
    message = _refusal("everything", path, value)
    assert named in message
    assert _CANARY not in message


def test_the_defaults_alone_are_no_installation() -> None:
    """Installed without values, the chart says first what it needs."""
    with pytest.raises(helm_python.HelmError, match=re.escape("image.repository is not set")):
        render({})


def test_a_pool_may_come_from_the_defaults() -> None:
    """What all pools have is checked in each of them."""
    values = changed(values_of("minimal"), "pools", {"one": {"workers": {"min": 1}}})
    with pytest.raises(helm_python.HelmError, match=re.escape("pools.one.resources.requests")):
        render(values)
    assert render(changed(values, "poolDefaults.resources", {"requests": {"cpu": 1, "memory": "1Gi"}}))
