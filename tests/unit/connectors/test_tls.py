"""TLS: a private authority is trusted when it is given, and nothing is trusted otherwise."""

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.endpoints import Endpoint
from connectors.http import HttpSession
from models.domain.errors import EndpointError, SettingsInvalid


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers every GET with two bytes."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Quiet(http.server.ThreadingHTTPServer):
    """A server that does not print why a handshake failed."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that signs itself, and its key."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=pacs"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def url(certificate: tuple[Path, Path]) -> Iterator[str]:
    """Serve over TLS with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = Quiet(("127.0.0.1", 0), Answering)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_given_authority(
    url: str, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A configured ca_bundle is what counts, also where the environment names another."""
    other = tmp_path / "other.pem"
    other.write_text(ssl.DER_cert_to_PEM_cert(b"\x30\x00"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    session = HttpSession(Endpoint(url, ca_bundle=certificate[0]))
    assert session.fetch(f"{url}/x", "*/*").body == b"ok"
    session.close()


def test_unknown_authority(url: str) -> None:
    """A certificate that nobody vouches for ends it at once, with the remedy."""
    session = HttpSession(Endpoint(url))
    with pytest.raises(EndpointError, match="ca_bundle") as caught:
        session.fetch(f"{url}/x", "*/*")
    assert not caught.value.retryable
    session.close()


def test_missing_bundle(tmp_path: Path) -> None:
    """A ca_bundle that is not there is said at once, not as a broken connection."""
    with pytest.raises(SettingsInvalid, match="ca_bundle"):
        HttpSession(Endpoint("https://127.0.0.1", ca_bundle=tmp_path / "nothing.pem"))
