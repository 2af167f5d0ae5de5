"""Google Cloud Storage for real enough: gcp-storage-emulator on a free port, in memory."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.services.ports import free_port
from tests.services.process import ServerProcess, find_program

PROJECT = "slidewire-tests"
_TIMEOUT_S = 30.0


class GcsServer(ServerProcess):
    """One emulator; speaks the JSON API that google-cloud-storage, gcsfs and EZ-WSI use.

    Parameters
    ----------
    program : str
    folder : Path
        Receives the log.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        command = [program, "start", "--host", "127.0.0.1", "--port", str(self._port), "--in-memory"]
        super().__init__(command, folder / "gcs.log", self._answers)

    def create_bucket(self, bucket: str) -> None:
        """Create a bucket; nothing happens if it is there."""
        answer = requests.post(
            f"{self.url}/storage/v1/b", params={"project": PROJECT}, json={"name": bucket}, timeout=_TIMEOUT_S
        )
        if answer.status_code != requests.codes.conflict:
            answer.raise_for_status()

    def upload(self, bucket: str, name: str, data: bytes) -> str:
        """Store an object, creating its bucket; return its ``gs://`` URI."""
        self.create_bucket(bucket)
        answer = requests.post(
            f"{self.url}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": name},
            data=data,
            headers={"Content-Type": "application/octet-stream"},
            timeout=_TIMEOUT_S,
        )
        answer.raise_for_status()
        return f"gs://{bucket}/{name}"

    def download(self, bucket: str, name: str) -> bytes:
        """Return an object's bytes; requests.HTTPError if there is none."""
        answer = requests.get(
            f"{self.url}/storage/v1/b/{bucket}/o/{quote(name, safe='')}", params={"alt": "media"}, timeout=_TIMEOUT_S
        )
        answer.raise_for_status()
        return answer.content

    def names(self, bucket: str) -> list[str]:
        """Return the names of a bucket's objects, sorted."""
        answer = requests.get(f"{self.url}/storage/v1/b/{bucket}/o", timeout=_TIMEOUT_S)
        answer.raise_for_status()
        return sorted(item["name"] for item in answer.json().get("items", []))

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/storage/v1/b", params={"project": PROJECT}, timeout=2.0).ok
        except requests.RequestException:
            return False


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsServer]:
    """Run one emulator for the whole session; Google's clients do not know of it yet."""
    program = find_program("gcp-storage-emulator", "pip install gcp-storage-emulator")
    server = GcsServer(program, tmp_path_factory.mktemp("gcs"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def gcs(gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> GcsServer:
    """Send Google's clients to the emulator for the length of one test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    return gcs_server
