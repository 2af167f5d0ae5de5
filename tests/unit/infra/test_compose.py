"""infra/compose.yaml agrees with itself, with the image, and with the servers that the tests run against."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from tests.services.orthanc import CONFIGURATION, DICOMWEB_ROOT
from worker.cli import app
from worker.settings import Settings, load_settings

_INFRA = Path(__file__).parents[3] / "infra"
_DOCKERFILE = _INFRA / "docker" / "Dockerfile.worker-cpu"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Parse the services of compose.yaml."""
    return dict(yaml.safe_load((_INFRA / "compose.yaml").read_text())["services"])


def test_the_services(services: dict[str, Any]) -> None:
    """The composition is a PACS, ledger, doorbell, what works with them, a sample, and what looks on."""
    servers = {"orthanc", "redis", "postgresql", "prometheus", "grafana"}
    assert set(services) == servers | {"migrate", "worker", "watch", "sample"}


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """Every image names a version, or is the one that `migrate` builds."""
    for name, service in services.items():
        image = service["image"]
        assert image == "slidewire-worker-cpu" or re.search(r":v?\d+\.\d+|:17-", image), name
    assert services["migrate"]["build"] == {
        "context": "..",
        "dockerfile": _DOCKERFILE.relative_to(_INFRA.parent).as_posix(),
    }
    assert [name for name, service in services.items() if "build" in service] == ["migrate"]


def test_ports_are_on_loopback(services: dict[str, Any]) -> None:
    """No port is published beyond the machine, and none twice."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports)


def test_every_container_is_confined(services: dict[str, Any]) -> None:
    """None has a capability, can get one, writes to its own root, or takes more than it is given."""
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "/tmp" in service["tmpfs"], name
        assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service), name
        limits = service["deploy"]["resources"]["limits"]
        assert {"memory", "pids"} <= set(limits), name


def test_what_ends_stays_ended_and_the_rest_comes_back(services: dict[str, Any]) -> None:
    """Migration and sample run once; all others are started again whatever their exit status, 75 among them."""
    once = {name for name, service in services.items() if service["restart"] == "no"}
    assert once == {"migrate", "sample"}
    assert {service["restart"] for name, service in services.items() if name not in once} == {"unless-stopped"}


def test_nothing_starts_before_what_it_needs(services: dict[str, Any]) -> None:
    """Whoever waits, waits until the other is healthy, or has done its one task; and that can be told of it."""
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if services[other]["restart"] == "no":
                assert how["condition"] == "service_completed_successfully", name
                continue
            assert how["condition"] == "service_healthy", name
            healthy = services[other].get("healthcheck", {})
            assert healthy.get("test") or services[other]["image"] == "slidewire-worker-cpu", other
    assert "postgresql" in services["migrate"]["depends_on"]
    assert set(services["worker"]["depends_on"]) == {"migrate", "postgresql", "redis", "orthanc"}
    assert {"migrate", "orthanc"} <= set(services["watch"]["depends_on"])


def test_commands_exist(services: dict[str, Any]) -> None:
    """Slidewire's services run subcommands that it has, with options that it has; a shard has time to be given back."""
    commands = {
        name: service["command"] for name, service in services.items() if service["image"] == "slidewire-worker-cpu"
    }
    assert set(commands) == {"migrate", "worker", "watch", "sample"}
    for command in commands.values():
        assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0, command
    endpoints = tomllib.loads((_INFRA / "slidewire.toml").read_text())["endpoints"]
    assert commands["watch"][1] in endpoints
    assert commands["sample"][-2:] == ["--send", commands["watch"][1]]
    assert services["worker"]["stop_grace_period"] == "130s"


def test_endpoint_is_the_pacs(services: dict[str, Any]) -> None:
    """The endpoint `pacs` is Orthanc under its service's name, on its port, at the DICOMweb root that tests use."""
    pacs = tomllib.loads((_INFRA / "slidewire.toml").read_text())["endpoints"]["pacs"]
    url, orthanc = urlsplit(pacs["url"]), json.loads(CONFIGURATION.read_text())
    assert url.hostname in services
    assert url.port == orthanc["HttpPort"]
    assert url.path.rstrip("/") == orthanc["DicomWeb"]["Root"].rstrip("/") == DICOMWEB_ROOT.rstrip("/")
    assert pacs["orthanc_url"] == f"{url.scheme}://{url.netloc}"
    assert services["orthanc"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in (url.port, orthanc["DicomPort"])]
    assert orthanc["DicomServerEnabled"] is True


def test_redis_keeps_its_queue(services: dict[str, Any]) -> None:
    """Redis writes its queue to disk every second and never evicts a message."""
    command = services["redis"]["command"]
    settings = dict(zip(command[1::2], command[2::2], strict=True))
    assert settings == {"--appendonly": "yes", "--appendfsync": "everysec", "--maxmemory-policy": "noeviction"}


def test_worker_reaches_ledger_and_broker(services: dict[str, Any]) -> None:
    """The worker's URLs lead to the other services, and the ledger's names are those that PostgreSQL is given."""
    environment, database = services["worker"]["environment"], services["postgresql"]["environment"]
    password = database["POSTGRES_PASSWORD"]
    ledger = urlsplit(environment["SLIDEWIRE_LEDGER_URL"].replace(password, "password"))
    assert ledger.scheme == "postgresql+psycopg"
    assert (ledger.hostname, ledger.port, ledger.path) == ("postgresql", 5432, f"/{database['POSTGRES_DB']}")
    assert ledger.username == database["POSTGRES_USER"]
    broker = urlsplit(environment["SLIDEWIRE_BROKER_URL"])
    assert (broker.scheme, broker.hostname, broker.port) == ("redis", "redis", 6379)


def test_settings_accept_what_the_worker_is_given(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Slidewire reads the worker's environment and slidewire.toml without complaint, and finds endpoint and rule."""
    for name, value in services["worker"]["environment"].items():
        assert name.removeprefix("SLIDEWIRE_").lower() in Settings.model_fields
        monkeypatch.setenv(name, re.sub(r"\$\{.*\}", "password", value))
    monkeypatch.setenv("SLIDEWIRE_CONFIG", str(_INFRA / "slidewire.toml"))
    settings = load_settings()
    assert settings.ledger == "postgresql+psycopg://slidewire:password@postgresql:5432/slidewire"
    assert settings.broker_url == "redis://redis:6379/0"
    assert settings.checkpoint_folder == Path("/srv/slidewire/checkpoints")
    assert settings.endpoints["pacs"].url == "http://orthanc:8042/dicom-web"
    assert [rule.write_back for rule in settings.rules] == [True]


def test_passwords_come_from_outside(services: dict[str, Any]) -> None:
    """Nothing starts without the two passwords, and the refusal says where to put one."""
    text = (_INFRA / "compose.yaml").read_text()
    asked = re.findall(r"\$\{(\w+)(:\?[^}]*)?\}", text)
    assert {name for name, _ in asked} == {"POSTGRES_PASSWORD", "GRAFANA_PASSWORD"}
    assert {message for _, message in asked} == {":?choose one, for example in infra/.env"}
    assert services["worker"]["environment"] == services["watch"]["environment"] == services["migrate"]["environment"]


def test_mounts_fit_the_image(services: dict[str, Any]) -> None:
    """The image's volumes are mounted, and so are its settings, where it looks for them."""
    dockerfile = _DOCKERFILE.read_text()
    declared = re.search(r"^VOLUME (\[.*\])", dockerfile, flags=re.MULTILINE)
    workdir = re.findall(r"^WORKDIR (\S+)", dockerfile, flags=re.MULTILINE)[-1]
    assert declared is not None
    for name in ("migrate", "worker", "watch", "sample"):
        mounts = dict(volume.removesuffix(":ro").split(":") for volume in services[name]["volumes"])
        assert mounts.pop("./slidewire.toml") == f"{workdir}/slidewire.toml"
        assert sorted(mounts.values()) == json.loads(declared[1])
        assert services[name]["environment"]["SLIDEWIRE_CHECKPOINTS"] == mounts["checkpoints"]


def test_mounted_files_exist(services: dict[str, Any]) -> None:
    """Whatever is mounted from here is there, and read only; volumes are declared."""
    volumes = yaml.safe_load((_INFRA / "compose.yaml").read_text())["volumes"]
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (_INFRA / source).exists(), volume
                assert volume.endswith(":ro"), volume
            else:
                assert source in volumes, volume


def test_prometheus_asks_the_services(services: dict[str, Any]) -> None:
    """What Prometheus scrapes are services of the composition, on the port that the image serves metrics on."""
    jobs = yaml.safe_load((_INFRA / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    port = re.search(r"SLIDEWIRE_METRICS_PORT=(\d+)", _DOCKERFILE.read_text())
    assert port is not None
    targets = {target for job in jobs for config in job["static_configs"] for target in config["targets"]}
    assert {"worker", "watch"} <= {target.split(":")[0] for target in targets} <= set(services)
    assert {f"{name}:{port[1]}" for name in ("worker", "watch")} <= targets


def test_grafana_finds_what_it_shows(services: dict[str, Any]) -> None:
    """Grafana's source is the composition's Prometheus, and its dashboards lie where they are mounted."""
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in services["grafana"]["volumes"])
    provisioning = _INFRA / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards" / "slidewire.yaml").read_text())["providers"]
    assert services["prometheus"]["ports"][0].endswith(f":{urlsplit(source['url']).port}")
    assert urlsplit(source["url"]).hostname == "prometheus"
    assert provider["options"]["path"] == mounts["./grafana/dashboards"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
