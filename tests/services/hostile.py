"""A DICOMweb server that misbehaves as told, and otherwise passes everything on to a real one."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import requests

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Asked:
    """One request; header names are in Title-Case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def objects(self) -> list[bytes]:
        """The DICOM files in the body of a STOW; strict about its form (PS3.18 10.5)."""
        kind = self.headers["Content-Type"]
        whole = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + self.body)
        assert whole.get_content_type() == "multipart/related", kind
        assert whole.get_param("type") == "application/dicom", kind
        parts = whole.get_payload()
        assert isinstance(parts, list)
        files = [part.get_payload(decode=True) for part in parts]  # type: ignore[union-attr]
        assert files
        assert all(isinstance(file, bytes) and file[128:132] == b"DICM" for file in files)
        return files  # type: ignore[return-value]


@dataclass(frozen=True)
class Answer:
    """What the server says."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class HostileServer:
    """A server on a free port.

    Parameters
    ----------
    answer : callable
        Gets what is asked; None passes the request on.
    upstream : str
        Base of the real server, without a slash at the end; "": there is none.

    Attributes
    ----------
    asked : list of Asked
    """

    def __init__(self, answer: Callable[[Asked], Answer | None], upstream: str) -> None:
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, answer, upstream))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """Base URL of the DICOMweb service."""
        return f"http://127.0.0.1:{self._server.server_port}/dicom-web"

    @property
    def stored(self) -> list[Asked]:
        """The STOW requests."""
        return [asked for asked in self.asked if asked.method == "POST"]

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(
    server: HostileServer, answer: Callable[[Asked], Answer | None], upstream: str
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            headers = {name.title(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body_of(self))
            server.asked.append(asked)
            said = answer(asked) or passed_on(asked, upstream)
            self.send_response(said.status)
            for name, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.body)

        do_POST = do_GET  # noqa: N815 - the name that http.server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def body_of(handler: BaseHTTPRequestHandler) -> bytes:
    """Return the body of a request, also one that comes in chunks."""
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    chunks = []
    while size := int(handler.rfile.readline(), 16):
        chunks.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(chunks)


def passed_on(asked: Asked, upstream: str) -> Answer:
    """Return what the real server says."""
    kept = {name: value for name, value in asked.headers.items() if name in {"Accept", "Content-Type"}}
    url = upstream + asked.path.removeprefix("/dicom-web")
    given = requests.request(asked.method, url, data=asked.body, headers=kept, timeout=_TIMEOUT_S)
    headers = {"Content-Type": given.headers["Content-Type"]} if "Content-Type" in given.headers else {}
    return Answer(given.status_code, given.content, headers)


@contextmanager
def hostile_server(answer: Callable[[Asked], Answer | None], upstream: str = "") -> Iterator[HostileServer]:
    """Run a server for the length of a block."""
    server = HostileServer(answer, upstream)
    server.start()
    try:
        yield server
    finally:
        server.stop()
