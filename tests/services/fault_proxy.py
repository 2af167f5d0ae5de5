"""A proxy between a worker and a real server (PACS, bucket) that spoils some answers, on the wire or in what they say.

Which answers, a `Schedule` decides by their number among those that match, so that a run can be repeated exactly.
Requests always reach the server: what is spoiled is what comes back, as if the line, a balancer or the server did it.
"""

import re
import select
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

import requests

from tests.services.hostile import Answer, Asked, body_of

Manner = Literal["whole", "reset", "reset midway", "cut", "stall", "drip", "late"]
"""How an answer goes over the line; `cut` closes in good order, before the length that was promised."""

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_LATE_S = 0.3
_TIMEOUT_S = 30.0
_OF_A_CONNECTION = {
    "Host", "Connection", "Keep-Alive", "Content-Length", "Transfer-Encoding", "Accept-Encoding", "Expect", "Date",
    "Server",
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What becomes of an answer: first what it says is changed, then it is sent in some manner."""

    change: Callable[[Answer], Answer] = lambda answer: answer
    manner: Manner = "whole"


@dataclass
class Schedule:
    """Which answers are spoiled.

    Parameters
    ----------
    fault : Fault or None
    strikes : collection of int
        Numbers of the requests, from 1 on, among those whose method and path match; empty: all of them.
    method : str
    path : str
        Regular expression that is looked for in the path.
    struck : int
        How often it was applied so far.
    """

    fault: Fault | None = None
    strikes: Collection[int] = ()
    method: str = "GET"
    path: str = "/frames/"
    struck: int = 0
    seen: int = 0

    def take(self, asked: Asked) -> Fault | None:
        """Return the fault of a request, if there is one."""
        if self.fault is None or asked.method != self.method or not re.search(self.path, asked.path):
            return None
        self.seen += 1
        if self.strikes and self.seen not in self.strikes:
            return None
        self.struck += 1
        return self.fault


class FaultProxy:
    """A proxy on a free port.

    Parameters
    ----------
    upstream : str
        Base of the real server, without a slash at the end.

    Attributes
    ----------
    schedule : Schedule
        May be replaced at any time; at first nothing is spoiled.
    asked : list of Asked
        Every request, in order.
    before, after : callable
        Called with each request before it is passed on, and after the real server has answered it; what `before`
        returns, if anything, is said in its place.
    """

    def __init__(self, upstream: str) -> None:
        self.schedule = Schedule()
        self.asked: list[Asked] = []
        self.before: Callable[[Asked], Answer | None] = lambda _: None
        self.after: Callable[[Asked], object] = lambda _: None
        self.over = threading.Event()
        self._upstream = urlsplit(upstream)
        self._lock = threading.Lock()
        self._port = 0
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """What to use in place of the real server's base."""
        return f"http://127.0.0.1:{self._port}{self._upstream.path}"

    @property
    def stored(self) -> list[Asked]:
        """The STOW requests."""
        return [asked for asked in self.asked if asked.method == "POST"]

    def start(self) -> None:
        """Listen; after a `stop`, on the same port."""
        self.over.clear()
        self._server = _Server(self._port, self)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Close the port: connections are refused."""
        self.over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def spoil(self, fault: Fault, strikes: Collection[int] = (), method: str = "GET", path: str = "/frames/") -> None:
        """Spoil answers from now on; see `Schedule`."""
        self.schedule = Schedule(fault, strikes, method, path)

    def answer(self, asked: Asked) -> tuple[Answer, Manner]:
        """Return what is said to a request, and how."""
        with self._lock:
            self.asked.append(asked)
            fault = self.schedule.take(asked)
        given = self.before(asked) or _passed_on(asked, f"http://{self._upstream.netloc}")
        self.after(asked)
        return (given, "whole") if fault is None else (fault.change(given), fault.manner)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: workers that are killed are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        """Answer, well or badly."""
        headers = {name.title(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body_of(self))
        if self.server.proxy.over.is_set():  # a connection that was kept open while the port was closed
            self._reset()
            return
        said, manner = self.server.proxy.answer(asked)
        if manner == "reset":
            self._reset()
            return
        if manner == "late":
            self.server.proxy.over.wait(_LATE_S)
        self.send_response(said.status)
        for name, value in {"Content-Length": str(len(said.body)), **said.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self._send(said.body, manner)

    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET  # noqa: N815 - the names that http.server looks for

    def _send(self, body: bytes, manner: Manner) -> None:
        if manner in {"whole", "late"}:
            self.wfile.write(body)
            return
        self.close_connection = True
        if manner in {"reset midway", "cut"}:
            self.wfile.write(body[: len(body) // 2])
        if manner == "reset midway":
            self._reset()
        if manner in {"stall", "drip"}:
            self._linger(body if manner == "drip" else b"")

    def _linger(self, body: bytes) -> None:
        """Send a byte a second, or nothing, until the other side has gone."""
        at = 0
        while not self.server.proxy.over.is_set() and not select.select([self.connection], [], [], 1.0)[0]:
            self.wfile.write(body[at : at + 1])
            at += 1

    def _reset(self) -> None:
        # Linger of zero: close() sends RST.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _passed_on(asked: Asked, origin: str) -> Answer:
    """Return what the real server says, with all that belongs to the content and not to the connection."""
    headers = {name: value for name, value in asked.headers.items() if name not in _OF_A_CONNECTION}
    given = requests.request(
        asked.method, origin + asked.path, data=asked.body, headers=headers, timeout=_TIMEOUT_S, allow_redirects=False
    )
    about = {name.title(): value for name, value in given.headers.items()}
    gone = _OF_A_CONNECTION - ({"Content-Length"} if asked.method == "HEAD" else set()) | {"Content-Encoding"}
    return Answer(given.status_code, given.content, {name: about[name] for name in about.keys() - gone})


def says(status: int, body: bytes = b"", **headers: str) -> Fault:
    """Return the fault of an answer of this status; ``Retry_After="5"`` becomes a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(lambda _: Answer(status, body, named))


def on_the_line(manner: Manner) -> Fault:
    """Return the fault of an answer that is right, and sent so."""
    return Fault(manner=manner)


def in_its_parts(change: Callable[[list[bytes]], list[bytes]]) -> Fault:
    """Return the fault of a multipart answer whose parts (head, empty line, content) are changed."""

    def changed(answer: Answer) -> Answer:
        found = _BOUNDARY.search(answer.headers.get("Content-Type", ""))
        if found is None:
            return answer
        delimiter = b"--" + found[1].encode()
        parts = [part[2:-2] for part in answer.body.split(delimiter)[1:-1]]
        body = b"".join(delimiter + b"\r\n" + part + b"\r\n" for part in change(parts)) + delimiter + b"--\r\n"
        return replace(answer, body=body)

    return Fault(changed)


def in_each_content(change: Callable[[bytes], bytes]) -> Fault:
    """Return the fault of a multipart answer whose parts keep their heads, without their length, and change content."""

    def part_of(part: bytes) -> bytes:
        head, _, content = part.partition(b"\r\n\r\n")
        lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
        return b"\r\n".join(lines) + b"\r\n\r\n" + change(content)

    return in_its_parts(lambda parts: [part_of(part) for part in parts])


def in_its_headers(change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> Fault:
    """Return the fault of an answer with other headers."""
    return Fault(lambda answer: replace(answer, headers=change(answer.headers)))


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """Run a proxy for the length of a block."""
    proxy = FaultProxy(upstream)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
