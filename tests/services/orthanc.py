"""Orthanc with its DICOMweb plugin: a real PACS on a free port."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
import requests

from tests.services.ports import free_port
from tests.services.process import ServerProcess, find_program, unavailable

CONFIGURATION = Path(__file__).parents[2] / "infra" / "orthanc.json"
DICOMWEB_ROOT = "/dicom-web/"
_PLUGIN_FOLDERS = (
    Path("/usr/share/orthanc/plugins"),
    Path("/usr/lib/orthanc"),
    Path("/usr/local/share/orthanc/plugins"),
)
_TIMEOUT_S = 60.0


class Orthanc(ServerProcess):
    """One Orthanc; what it stores lies in `folder` and outlives a restart.

    Parameters
    ----------
    program : str
    plugin : Path
        The DICOMweb plugin.
    folder : Path
        Receives configuration, log and storage.
    options : mapping
        That differ from what infra/compose.yaml runs with.
    """

    def __init__(self, program: str, plugin: Path, folder: Path, options: Mapping[str, object]) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "orthanc.json"
        config.write_text(json.dumps(self._configuration(plugin, folder) | dict(options), indent=2))
        super().__init__([program, str(config)], folder / "orthanc.log", self._answers)

    @property
    def dicomweb(self) -> str:
        """Base URL of the DICOMweb service, without a slash at the end."""
        return f"{self.url}{DICOMWEB_ROOT}".rstrip("/")

    def load(self, path: Path) -> str:
        """Store one DICOM file, or every ``.dcm`` of a folder; return Orthanc's id of the last one's series."""
        files = sorted(path.glob("*.dcm")) if path.is_dir() else [path]
        series = ""
        for file in files:
            answer = requests.post(f"{self.url}/instances", data=file.read_bytes(), timeout=_TIMEOUT_S)
            answer.raise_for_status()
            series = str(answer.json()["ParentSeries"])
        return series

    def clear(self) -> None:
        """Delete every patient."""
        for patient in requests.get(f"{self.url}/patients", timeout=_TIMEOUT_S).json():
            requests.delete(f"{self.url}/patients/{patient}", timeout=_TIMEOUT_S).raise_for_status()

    def wipe(self) -> None:
        """Lose all that it stores, its event log too; it must not be running."""
        for name in ("storage", "index"):
            shutil.rmtree(self.folder / name)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.dicomweb}/studies?limit=1", timeout=2.0).ok
        except requests.RequestException:
            return False

    def _configuration(self, plugin: Path, folder: Path) -> dict[str, object]:
        """Return what infra/compose.yaml runs with, but for paths and ports."""
        shipped: dict[str, object] = json.loads(CONFIGURATION.read_text())
        return shipped | {
            "Name": "slidewire-tests",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "HttpPort": int(self.url.rpartition(":")[2]),
            "RemoteAccessAllowed": False,
            "DicomServerEnabled": False,
            "SaveJobs": False,
            "Plugins": [str(plugin)],
        }


def start_orthanc(folder: Path, options: Mapping[str, object] = MappingProxyType({})) -> Orthanc:
    """Start an Orthanc of one's own in `folder`, with options of one's own; the caller stops it."""
    program = find_program("Orthanc", "apt-get install orthanc orthanc-dicomweb")
    plugins = [plugin for place in _PLUGIN_FOLDERS for plugin in sorted(place.glob("libOrthancDicomWeb.so*"))]
    if not plugins:
        unavailable("Orthanc's DICOMweb plugin is not installed: apt-get install orthanc-dicomweb.")
    server = Orthanc(program, plugins[0], folder, options)
    server.start()
    return server


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Run one Orthanc for the whole session: leave it running, and do not count on it being empty."""
    server = start_orthanc(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _spare_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    server = start_orthanc(tmp_path_factory.mktemp("spare-orthanc"))
    yield server
    server.stop()


@pytest.fixture
def cleared_orthanc(_spare_orthanc: Orthanc) -> Orthanc:
    """Give an Orthanc that is empty at first; leave it running. To start one takes seconds."""
    _spare_orthanc.clear()
    return _spare_orthanc


@pytest.fixture
def empty_orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """Run an Orthanc of the test's own: empty at first, to be killed and restarted at will."""
    server = start_orthanc(tmp_path / "orthanc")
    yield server
    server.stop()
