"""Prometheus on a free port, with a configuration of the test's own, and what it can be asked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
import yaml

from tests.services.ports import free_port
from tests.services.process import ServerProcess, find_program

FOLDER = Path(__file__).parents[2] / "infra" / "prometheus"
_LIMIT_S = 10.0


def promtool() -> str:
    """Return the path of Prometheus' own checker."""
    return find_program("promtool", "apt-get install prometheus")


class Prometheus(ServerProcess):
    """One Prometheus that scrapes every second, with the alert rules of infra/.

    Parameters
    ----------
    folder : Path
        Receives configuration, data and log.
    targets : mapping of str to int
        Ports on this machine by the target's name in infra/prometheus/prometheus.yml.
    """

    def __init__(self, folder: Path, targets: Mapping[str, int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        text = (FOLDER / "prometheus.yml").read_text()
        for name, port in targets.items():
            assert name in text
            text = text.replace(name, f"127.0.0.1:{port}")
        configuration = yaml.safe_load(text)
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        (folder / "alerts.yml").write_text((FOLDER / "alerts.yml").read_text())
        self._url = f"http://127.0.0.1:{free_port()}"
        command = [
            find_program("prometheus", "apt-get install prometheus"), f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={self._url.removeprefix('http://')}",
        ]  # fmt: skip
        super().__init__(command, folder / "prometheus.log", self._answers)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression, now."""
        said = requests.get(f"{self._url}/api/v1/query", {"query": expression}, timeout=_LIMIT_S).json()
        assert said["status"] == "success", said
        return list(said["data"]["result"])

    def alerts(self) -> dict[str, str]:
        """Return the alerts that fire or are about to, by name."""
        said = requests.get(f"{self._url}/api/v1/alerts", timeout=_LIMIT_S).json()
        return {one["labels"]["alertname"]: one["state"] for one in said["data"]["alerts"]}

    def rules(self) -> dict[str, str]:
        """Return the health of each rule by name."""
        said = requests.get(f"{self._url}/api/v1/rules", timeout=_LIMIT_S).json()
        return {rule["name"]: rule["health"] for group in said["data"]["groups"] for rule in group["rules"]}

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self._url}/-/ready", timeout=2.0).status_code == 200
        except requests.RequestException:
            return False
