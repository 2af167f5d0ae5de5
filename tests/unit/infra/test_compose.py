"""infra/compose.yaml agrees with itself, with the Dockerfile, and with the servers that the tests run against."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.services.orthanc import CONFIGURATION, DICOMWEB_ROOT
from worker.settings import load_settings

_INFRA = Path(__file__).parents[3] / "infra"
_DOCKERFILE = _INFRA / "docker" / "Dockerfile.worker-cpu"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """Parse the services of compose.yaml."""
    return dict(yaml.safe_load((_INFRA / "compose.yaml").read_text())["services"])


def test_the_four_services(services: dict[str, Any]) -> None:
    """The composition is a PACS, a doorbell, a ledger and a worker."""
    assert set(services) == {"orthanc", "redis", "postgresql", "worker"}


def test_images_are_pinned(services: dict[str, Any]) -> None:
    """Every image names a version, in the composition and in the Dockerfile."""
    images = [service["image"] for service in services.values() if "image" in service]
    images += re.findall(r"^FROM (\S+)", _DOCKERFILE.read_text(), flags=re.MULTILINE)
    assert len(images) == 5
    for image in images:
        assert re.search(r":\d+\.\d+|:17-", image), image


def test_ports_are_on_loopback(services: dict[str, Any]) -> None:
    """No port is published beyond the machine."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_endpoint_is_the_pacs(services: dict[str, Any]) -> None:
    """The endpoint `pacs` is Orthanc under its service's name, on its port, at the DICOMweb root that tests use."""
    url = urlsplit(tomllib.loads((_INFRA / "slidewire.toml").read_text())["endpoints"]["pacs"]["url"])
    orthanc = json.loads(CONFIGURATION.read_text())
    assert url.hostname in services
    assert url.port == orthanc["HttpPort"]
    assert url.path.rstrip("/") == orthanc["DicomWeb"]["Root"].rstrip("/") == DICOMWEB_ROOT.rstrip("/")
    assert services["orthanc"]["ports"] == [f"127.0.0.1:{url.port}:{url.port}"]


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
    assert set(services["worker"]["depends_on"]) == {"postgresql", "redis", "orthanc"}


def test_settings_accept_what_the_worker_is_given(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Slidewire reads the worker's environment and slidewire.toml without complaint, and finds the endpoint."""
    for name, value in services["worker"]["environment"].items():
        assert name.startswith("SLIDEWIRE_")
        monkeypatch.setenv(name, re.sub(r"\$\{.*\}", "password", value))
    monkeypatch.setenv("SLIDEWIRE_CONFIG", str(_INFRA / "slidewire.toml"))
    settings = load_settings()
    assert settings.ledger == "postgresql+psycopg://slidewire:password@postgresql:5432/slidewire"
    assert settings.broker_url == "redis://redis:6379/0"
    assert settings.checkpoint_folder == Path("/srv/slidewire/checkpoints")
    assert settings.endpoints["pacs"].url == "http://orthanc:8042/dicom-web"


def test_no_password_is_written_down(services: dict[str, Any]) -> None:
    """The one password comes from outside, and nothing starts without it."""
    assert services["postgresql"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert not re.search(r"(PASSWORD|TOKEN|SECRET)\s*=", _DOCKERFILE.read_text())


def test_mounts_fit_the_image(services: dict[str, Any]) -> None:
    """Checkpoints and weights are volumes of the image, and the mounted files exist."""
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in services["worker"]["volumes"])
    dockerfile = _DOCKERFILE.read_text()
    declared = re.search(r"^VOLUME (\[.*\])", dockerfile, flags=re.MULTILINE)
    assert declared is not None
    assert json.loads(declared[1]) == [mounts["checkpoints"], mounts["weights"]]
    assert services["worker"]["environment"]["SLIDEWIRE_CHECKPOINTS"] == mounts["checkpoints"]
    workdir = re.findall(r"^WORKDIR (\S+)", dockerfile, flags=re.MULTILINE)[-1]
    assert mounts["./slidewire.toml"] == f"{workdir}/slidewire.toml"
    assert (services["worker"]["build"]["context"], services["worker"]["build"]["dockerfile"]) == (
        "..",
        _DOCKERFILE.relative_to(_INFRA.parent).as_posix(),
    )
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume.startswith("./"):
                assert (_INFRA / volume.split(":")[0]).is_file()


def test_image_does_not_run_as_root() -> None:
    """The last user of the Dockerfile is a number other than 0, which Kubernetes can check."""
    users = re.findall(r"^USER (\S+)", _DOCKERFILE.read_text(), flags=re.MULTILINE)
    assert users
    assert int(users[-1]) > 0
