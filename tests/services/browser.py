"""A real browser without a window: Chromium, told what to do over W3C WebDriver."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.services.ports import free_port
from tests.services.process import ServerProcess, find_program

_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


class Browser:
    """One browser with one page.

    Parameters
    ----------
    session : str
        URL of its WebDriver session.
    """

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        """Open a page, and forget what was logged before."""
        self.logged("browser")
        self.logged("performance")
        self._post("url", {"url": url})

    def run(self, script: str) -> Any:
        """Run a function's body in the page and return what it returns."""
        return self._post("execute/sync", {"script": script, "args": []})

    def logged(self, kind: str) -> list[dict[str, Any]]:
        """Return what was logged since it was last asked for: ``browser`` or ``performance``."""
        found: list[dict[str, Any]] = self._post("se/log", {"type": kind})
        return found

    def requested(self) -> list[str]:
        """Return the URLs that were asked for since the page was opened, but for data."""
        events = [json.loads(entry["message"])["message"] for entry in self.logged("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def look(self, *, width: int = 1400, scheme: str = "light", print_: bool = False) -> None:
        """Have a window of a width, and a system that prefers dark or light."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._devtools("Emulation.setEmulatedMedia", {"media": "print" if print_ else "", "features": features})

    def screenshot(self) -> bytes:
        """Return the whole page as PNG."""
        shot = self._devtools("Page.captureScreenshot", {"captureBeyondViewport": True})
        return base64.b64decode(shot["data"])

    def _devtools(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = requests.post(f"{self._session}/{path}", json=body, timeout=60)
        assert answer.ok, answer.text[:500]
        return answer.json()["value"]


@contextmanager
def browsing(folder: Path) -> Iterator[Browser]:
    """Run a browser for the length of a block."""
    driver = find_program("chromedriver", "apt-get install chromium-driver")
    chromium = find_program("chromium", "apt-get install chromium")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = ServerProcess([driver, f"--port={port}"], folder / "chromedriver.log", lambda: _ready(url))
    server.start()
    try:
        options = {"binary": chromium, "args": [*_ARGUMENTS, f"--user-data-dir={folder / 'profile'}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
        answer = requests.post(f"{url}/session", json={"capabilities": {"alwaysMatch": wanted}}, timeout=60)
        assert answer.ok, answer.text[:500]
        session = f"{url}/session/{answer.json()['value']['sessionId']}"
        yield Browser(session)
        requests.delete(session, timeout=60)
    finally:
        server.stop()


def _ready(url: str) -> bool:
    try:
        return bool(requests.get(f"{url}/status", timeout=2).json()["value"]["ready"])
    except requests.RequestException:
        return False


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Run a browser for the tests of a module."""
    with browsing(tmp_path_factory.mktemp("browser")) as found:
        yield found
