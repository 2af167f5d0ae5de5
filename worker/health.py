"""The small HTTP server of a process: /metrics for Prometheus, /livez and /readyz for whoever starts and stops it.

It answers from a thread of its own while a batch runs for minutes. Only native code that keeps Python's global lock
holds it up; a probe that gets no answer in time then says the same as the heartbeat does in the end.
"""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from models.domain.errors import SettingsInvalid
from worker.metrics.ledger import LedgerMetrics
from worker.pipeline import Cancellation
from worker.readiness import Readiness
from worker.settings import Settings
from worker.wiring import Installation

LIVEZ, READYZ, METRICS = "/livez", "/readyz", "/metrics"
_MOST_CONNECTIONS: Final = 16
_CONNECTION_S: Final = 10.0
_REQUEST_BYTES: Final = 8192
_LOOK_S: Final = 0.1
_log = structlog.get_logger(__name__)

Complaints = Callable[[], tuple[str, ...]]
"""Says what is wrong; nothing if all is well."""


class HealthServer(ThreadingHTTPServer):
    """Answers GET and HEAD of a few paths, on few connections, each for a few seconds.

    Parameters
    ----------
    address : (str, int)
        Host and port; port 0 is a free one.
    registry : CollectorRegistry
    probes : mapping of str to Complaints
        By path.

    Raises
    ------
    SettingsInvalid
        Nothing can listen there.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], registry: CollectorRegistry, probes: Mapping[str, Complaints]) -> None:
        self.registry, self.probes = registry, dict(probes)
        self._lock = threading.Lock()
        self._since: dict[socket.socket, float] = {}
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        try:
            super().__init__(address, _Handler)
        except socket.gaierror:
            raise SettingsInvalid(
                "The setting metrics_host is no address of this machine: give 127.0.0.1, or 0.0.0.0 for all."
            ) from None
        except OSError as exc:
            raise SettingsInvalid(
                f"The settings metrics_host and metrics_port cannot be used, port {address[1]} ({exc.strerror}): "
                "give each process of a machine a port of its own, for example 9102, or 0 for a free one."
            ) from None
        self._thread = threading.Thread(target=self.serve_forever, args=(_LOOK_S,), name="health", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def server_bind(self) -> None:
        """Bind, without asking the name service what this machine is called."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread; where there are too many the oldest goes."""
        with self._lock:
            self._since[request] = time.monotonic()
            if len(self._since) > _MOST_CONNECTIONS:
                oldest = next(iter(self._since))
                del self._since[oldest]
                _cut(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Let go of a connection."""
        with self._lock:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections that take too long; called ten times a second."""
        before = time.monotonic() - _CONNECTION_S
        with self._lock:
            for request, since in self._since.items():
                if since < before:
                    _cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that broke: nothing was asked of us."""


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has ended


class _Handler(BaseHTTPRequestHandler):
    server: HealthServer
    timeout = _CONNECTION_S
    server_version, sys_version = "slidewire", ""

    def setup(self) -> None:
        super().setup()
        self.rfile = _Bounded(self.rfile)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == METRICS:
            self._answer(HTTPStatus.OK, generate_latest(self.server.registry), CONTENT_TYPE_PLAIN_0_0_4)
        elif path in self.server.probes:
            complaints = self.server.probes[path]()
            status = HTTPStatus.SERVICE_UNAVAILABLE if complaints else HTTPStatus.OK
            said = {"status": "unavailable" if complaints else "ok", "reasons": complaints}
            self._answer(status, json.dumps(said).encode() + b"\n", "application/json")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815 - the names that http.server looks for

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Say no more than the status; nothing of what was asked is repeated."""
        del message, explain
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.close_connection = True
        self._answer(status, f"{status.phrase}\n".encode(), "text/plain; charset=utf-8")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: probes come every few seconds."""


class _Bounded(BufferedIOBase):
    """A request's lines, as long as they are not too many bytes in all."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._left = stream, _REQUEST_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the next line; too much in all is the end of the connection."""
        asked = self._left + 1 if size is None or size < 0 else min(size, self._left + 1)
        line: bytes = self._stream.readline(asked)
        self._left -= len(line)
        if self._left < 0:
            raise ConnectionResetError("the request is too long")
        return line

    def close(self) -> None:
        """Close the connection's side of it."""
        self._stream.close()
        super().close()


@contextmanager
def serving(settings: Settings, registry: CollectorRegistry, probes: Mapping[str, Complaints]) -> Iterator[None]:
    """Answer on `metrics_host` and `metrics_port` for the length of a block; not at all if no port is set.

    Raises
    ------
    SettingsInvalid
        Nothing can listen there.
    """
    if settings.metrics_port is None:
        yield
        return
    server = HealthServer((settings.metrics_host, settings.metrics_port), registry, probes)
    server.start()
    _log.info("metrics are served", port=server.server_port)
    try:
        yield
    finally:
        server.stop()


@contextmanager
def watched_over(
    installation: Installation, cancellation: Cancellation, *, broker_url: str = "", of_ledger: bool = False
) -> Iterator[None]:
    """Serve /metrics, /livez and /readyz of a worker or a watch for the length of a block, if a port is set.

    Parameters
    ----------
    installation : Installation
        Its `activity` decides about /livez.
    cancellation : Cancellation
        Of the process.
    broker_url : str
        The broker that it needs; "": none.
    of_ledger : bool
        With what the ledger knows, as one process of a fleet tells it.
    """
    settings = installation.settings
    if settings.metrics_port is None:
        yield
        return
    registry = installation.metrics.registry()
    if of_ledger:
        registry.register(LedgerMetrics.of(installation.ledger, settings))
    with Readiness(installation.ledger, broker_url, cancellation) as readiness:
        probes = {LIVEZ: installation.activity.complaints, READYZ: readiness.complaints}
        with serving(settings, registry, probes):
            yield
