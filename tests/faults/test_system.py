"""infra/system/run: from Debian's packages to a slide that arrives by C-STORE and comes back as annotations."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.services.ports import accepts, free_port, wait_until
from tests.services.process import find_program
from tests.services.slides import SlideOnDisk

_RUN = Path(__file__).parents[2] / "infra" / "system" / "run"
_NAMES = {"postgresql", "redis", "orthanc", "worker", "watch", "prometheus"}
_QUIET_S = 2
_TIMEOUT_S = 30.0

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class System:
    """The running system.

    Parameters
    ----------
    folder : Path
        What it was started with.
    process : Popen
        infra/system/run.
    """

    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def ports(self) -> dict[str, int]:
        """Its ports, as ports.env has them."""
        lines = (self.folder / "ports.env").read_text().split()
        return {name: int(port) for name, port in (line.split("=") for line in lines)}

    @property
    def dicomweb(self) -> str:
        """Base of Orthanc's DICOMweb."""
        return f"http://127.0.0.1:{self.ports['ORTHANC_PORT']}/dicom-web"

    def pid(self, name: str) -> int:
        """Process id of a part; 0 while it is not running."""
        file = self.folder / "pids" / name
        return int(file.read_text() or 0) if file.exists() else 0

    def said(self) -> str:
        """All its logs, for a test that fails."""
        logs = [self.folder / "out", *sorted((self.folder / "logs").glob("*.log"))]
        return "\n".join(f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs)

    def wait_for(self, condition: Any, what: str, timeout_s: float = 120.0) -> None:
        """Wait for a condition; the logs are shown if it does not come true."""
        try:
            wait_until(lambda: bool(condition()) or self.process.poll() is not None, what, timeout_s)
        except TimeoutError as exc:
            raise AssertionError(f"{exc}\n{self.said()}") from exc
        assert self.process.poll() is None, self.said()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Ask Prometheus; one dict a series."""
        url = f"http://127.0.0.1:{self.ports['PROMETHEUS_PORT']}/api/v1/query"
        answer = requests.get(url, params={"query": expression}, timeout=_TIMEOUT_S)
        return list(answer.json()["data"]["result"])

    def objects(self, sop_class: str, study_uid: str) -> list[dict[str, Any]]:
        """Ask Orthanc (QIDO-RS) for a study's instances of a class."""
        answer = requests.get(
            f"{self.dicomweb}/studies/{study_uid}/instances", params={"SOPClassUID": sop_class}, timeout=_TIMEOUT_S
        )
        return list(answer.json()) if answer.status_code == 200 else []


_ANNOTATIONS = "1.2.840.10008.5.1.4.1.1.91.1"  # Microscopy Bulk Simple Annotations (PS3.4 B.5)


@contextmanager
def _running(folder: Path) -> Iterator[System]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLIDEWIRE_")}
    path = f"{Path(sys.executable).parent}:{inherited['PATH']}"
    wanted = {"PATH": path, "SLIDEWIRE_WATCH__QUIET_S": str(_QUIET_S), "SLIDEWIRE_CHECKPOINT_S": "2"}
    with (folder / "out").open("ab") as out:
        process = subprocess.Popen(
            [_RUN, "--free-ports", folder], env=inherited | wanted, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    system = System(folder, process)
    try:
        system.wait_for((folder / "ready").exists, "the system to be ready", 240.0)
        yield system
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(150.0)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that the user postgres may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="slidewire-system-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def _store(slide: SlideOnDisk, port: int) -> None:
    """Send a slide as a scanner does: C-STORE, its JPEG frames as they are."""
    program = find_program("storescu", "apt-get install dcmtk")
    done = subprocess.run(
        [program, "-R", "-xy", "127.0.0.1", str(port), *map(str, slide.levels)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_from_a_script_to_annotations_in_the_archive(folder: Path, cmu_slide: SlideOnDisk) -> None:
    """One script starts it; a slide sent by storescu comes back as annotations; metrics tell; SIGTERM ends it all."""
    with _running(folder) as system:
        assert {file.name for file in (folder / "pids").iterdir()} == _NAMES
        _store(cmu_slide, system.ports["DICOM_PORT"])
        system.wait_for(lambda: system.objects(_ANNOTATIONS, cmu_slide.study_uid), "annotations in Orthanc")
        assert len(system.objects(_ANNOTATIONS, cmu_slide.study_uid)) == 1

        def scraped(expression: str) -> bool:
            found = system.query(expression)
            return bool(found) and all(float(series["value"][1]) > 0 for series in found)

        system.wait_for(lambda: scraped("slidewire_patches_total"), "Prometheus to count patches")
        for job in ("worker", "watch"):
            system.wait_for(lambda job=job: scraped(f'up{{job=~".*{job}.*"}}'), f"Prometheus to see the {job}")

        # What dies comes back: SIGKILL, as of a machine that is out of memory.
        first = system.pid("worker")
        os.kill(first, signal.SIGKILL)
        system.wait_for(lambda: system.pid("worker") not in {0, first}, "another worker")
        worker = f"http://127.0.0.1:{system.ports['WORKER_PORT']}/readyz"
        system.wait_for(lambda: _ready(worker), "the other worker to be ready")
        pids = [system.pid(name) for name in _NAMES]
        ports = system.ports

    assert system.process.returncode == 0, system.said()
    assert not (folder / "ready").exists()
    assert not any((folder / "pids").iterdir())
    for pid in pids:
        assert not Path(f"/proc/{pid}").exists(), pid
    assert not any(accepts(port) for port in ports.values())
    assert len(list((folder / "slidewire").glob("**/*.sqlite"))) == 0


def _ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=5.0).ok
    except requests.RequestException:
        return False


def _refused(*arguments: object, **environment: str) -> str:
    """Run the script, which must refuse; return what it says."""
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [_RUN, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    return done.stderr


def test_a_port_that_is_taken(folder: Path) -> None:
    """A port that something listens on is named, with where to change it, and nothing is started."""
    names = ["ORTHANC", "DICOM", "POSTGRES", "REDIS", "PROMETHEUS", "WORKER", "WATCH"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        chosen = {name: free_port() for name in names} | {"REDIS": taken}
        (folder / "ports.env").write_text("".join(f"{name}_PORT={port}\n" for name, port in chosen.items()))
        said = _refused(folder)
    assert f"REDIS_PORT={taken} is taken: edit {folder}/ports.env" in said
    assert not any((folder / "pids").iterdir())


def test_a_wrong_setting(folder: Path) -> None:
    """A setting that cannot be used ends the start with its name, and what was started already with it."""
    (folder / "slidewire.toml").write_text("[watch]\nquiet_s = -1\n")
    said = _refused("--free-ports", folder)
    assert "SETTINGS_INVALID" in said
    assert "watch.quiet_s" in said
    assert not (folder / "ready").exists()
    assert not any((folder / "pids").iterdir())
    ports = [int(line.partition("=")[2]) for line in (folder / "ports.env").read_text().split()]
    assert not any(accepts(port) for port in ports)


def test_a_folder_that_is_in_use(folder: Path) -> None:
    """A second system in the same folder is refused while the first one holds its lock."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "it runs already in" in _refused(folder)
    assert not (folder / "ports.env").exists()


@pytest.mark.parametrize("arguments", [[], ["--nonsense"], ["a", "b"]])
def test_wrong_arguments(arguments: list[str]) -> None:
    """Anything but one folder is refused with what is wanted."""
    assert "give the folder" in _refused(*arguments)
