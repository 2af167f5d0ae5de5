"""A strict HTTP server in this process: says to the byte what a test tells it to, and remembers what it was asked."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Asked:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass
class Reply:
    """What to answer.

    Parameters
    ----------
    status : int
    body : bytes
    headers : mapping
        Content-Length is added unless it is given or `chunked`.
    cut : int
        Bytes of the body that are left out before the connection is closed.
    reset : bool
        Break the connection (RST) instead of answering.
    drip : bool
        Send the body over and over in small pieces, until the other side has gone.
    silent : bool
        Accept, and say nothing until the other side has gone.
    pieces : int
        Send the body in so many pieces, 10 ms apart: a slow line.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0
    reset: bool = False
    drip: bool = False
    silent: bool = False
    pieces: int = 1


class StrictServer(ThreadingHTTPServer):
    """Answers with `replies` one after the other, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply | Callable[[Asked], Reply]] = [Reply()]
        self.asked: list[Asked] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Base of the server."""
        return f"http://127.0.0.1:{self.server_port}"

    def reply_to(self, asked: Asked) -> Reply:
        """Take the next reply."""
        with self._lock:
            self.asked.append(asked)
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply if isinstance(reply, Reply) else reply(asked)

    def get_request(self) -> tuple[socket.socket, object]:
        """Count connections."""
        self.connections += 1
        return super().get_request()

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients that go away are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StrictServer

    def do_GET(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        reply = self.server.reply_to(Asked(self.path, dict(self.headers.items()), body))
        if reply.reset:
            # Linger of zero: close() sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if reply.silent:
            self.connection.recv(1)
            self.close_connection = True
            return
        self.send_response(reply.status, HTTPStatus(reply.status).phrase)
        headers = dict(reply.headers)
        if not reply.drip and "Transfer-Encoding" not in headers:
            headers.setdefault("Content-Length", str(len(reply.body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if reply.drip:
            self._drip(reply.body)
            return
        whole = reply.body[: len(reply.body) - reply.cut]
        step = -(-len(whole) // reply.pieces) or 1
        for at in range(0, len(whole), step):
            self.wfile.write(whole[at : at + step])
            if reply.pieces > 1 and self.server.stopping.wait(0.01):
                break
        self.close_connection = bool(reply.cut)

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def _drip(self, piece: bytes) -> None:
        self.close_connection = True
        while not self.server.stopping.wait(0.01):
            try:
                self.wfile.write(piece)
            except OSError:
                return

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[StrictServer]:
    """Start a server that answers 200 and nothing until it is told otherwise."""
    one = StrictServer()
    thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield one
    one.stopping.set()
    one.shutdown()
    one.server_close()
    thread.join()
