"""S3 for real enough: moto's server on a free port, in memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.services.ports import free_port
from tests.services.process import ServerProcess, find_program

_TIMEOUT_S = 30.0


class S3Server(ServerProcess):
    """One server; speaks S3's own API to s3fs and botocore.

    Parameters
    ----------
    program : str
    folder : Path
        Receives the log.
    """

    def __init__(self, program: str, folder: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__([program, "-H", "127.0.0.1", "-p", str(port)], folder / "s3.log", self._answers)

    def upload(self, bucket: str, name: str, data: bytes) -> str:
        """Store an object that anybody may read, creating its bucket; return its ``s3://`` URI."""
        requests.put(f"{self.url}/{bucket}", timeout=_TIMEOUT_S)  # a conflict if it is there
        public = {"x-amz-acl": "public-read"}
        requests.put(f"{self.url}/{bucket}/{name}", data=data, headers=public, timeout=_TIMEOUT_S).raise_for_status()
        return f"s3://{bucket}/{name}"

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/moto-api/", timeout=2.0).ok
        except requests.RequestException:
            return False


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Run one server for the whole session; AWS's clients do not know of it yet."""
    program = find_program("moto_server", "pip install 'moto[server]'")
    server = S3Server(program, tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Send AWS's clients to the server for the length of one test, with credentials of no worth."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return s3_server
