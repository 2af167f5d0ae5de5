"""The small HTTP server: three paths, two methods, nothing repeated, and no way to keep it busy."""

import json
import socket
from collections.abc import Callable, Iterator

import pytest
import requests
from prometheus_client import CollectorRegistry

from models.domain.errors import SettingsInvalid
from tests.services.ports import free_port
from worker import health
from worker.activity import Activity
from worker.health import HealthServer
from worker.metrics.work import WorkMetrics
from worker.settings import Settings

_LIMIT_S = 10.0
Serve = Callable[..., HealthServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that end with the test."""
    running: list[HealthServer] = []

    def start(**probes: tuple[str, ...]) -> HealthServer:
        said = {f"/{name}": lambda found=found: found for name, found in probes.items()}
        registry = WorkMetrics(Activity()).registry()
        running.append(HealthServer(("127.0.0.1", 0), registry, said))
        running[-1].start()
        return running[-1]

    yield start
    for server in running:
        server.stop()


def _ask(server: HealthServer, path: str, method: str = "GET") -> requests.Response:
    return requests.request(method, f"http://127.0.0.1:{server.server_port}{path}", timeout=_LIMIT_S)


def test_probes_say_what_is_wrong(serve: Serve) -> None:
    """200 and nothing, or 503 and why; as JSON, and not to be kept."""
    server = serve(livez=(), readyz=("the ledger does not answer",))
    alive, ready = _ask(server, "/livez"), _ask(server, "/readyz?verbose")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok", "reasons": []})
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["the ledger does not answer"])
    assert ready.headers["Content-Type"] == "application/json"
    assert ready.headers["Cache-Control"] == "no-store"


def test_metrics_are_prometheus_text(serve: Serve) -> None:
    """With the type that every Prometheus reads."""
    said = _ask(serve(), "/metrics")
    assert said.status_code == 200
    assert said.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "slidewire_busy 0.0\n" in said.text


def test_head_has_no_body(serve: Serve) -> None:
    """The same headers, nothing else."""
    said = _ask(serve(livez=()), "/livez", "HEAD")
    assert (said.status_code, said.content) == (200, b"")
    assert int(said.headers["Content-Length"]) > 0


@pytest.mark.parametrize(("method", "path", "status"), [
    ("POST", "/livez", 405), ("DELETE", "/metrics", 405), ("GET", "/", 404), ("GET", "/../etc/passwd", 404),
    ("GET", "/<script>canary", 404), ("GET", "/metrics/", 404),
])  # fmt: skip
def test_nothing_else_is_answered(serve: Serve, method: str, path: str, status: int) -> None:
    """And nothing of what was asked is repeated."""
    said = _ask(serve(livez=()), path, method)
    assert said.status_code == status
    assert "canary" not in said.text
    assert "Python" not in str(said.headers)


@pytest.mark.parametrize("request_", [
    b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n" + b"A: " + b"x" * 100_000 + b"\r\n\r\n",
    b"GET /livez HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    b"GET /livez HTTP/1.1\r\nA: " + b"x" * 9000 + b"\r\n\r\n",
], ids=["line", "header", "headers", "little"])  # fmt: skip
def test_a_request_that_is_too_long_is_cut(serve: Serve, request_: bytes) -> None:
    """Neither is it read to its end nor answered as if it were fine; the next is."""
    server = serve(livez=())
    with socket.create_connection(("127.0.0.1", server.server_port), _LIMIT_S) as client:
        said = b""
        try:
            client.sendall(request_)
            while got := client.recv(4096):
                said += got
        except ConnectionError:
            pass
    assert b" 200 " not in said
    assert _ask(server, "/livez").status_code == 200


def test_who_says_nothing_is_cut(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few seconds in all, however it comes drop by drop."""
    monkeypatch.setattr(health, "_CONNECTION_S", 0.2)
    server = serve(livez=())
    with socket.create_connection(("127.0.0.1", server.server_port), _LIMIT_S) as client:
        client.sendall(b"GET /livez")
        assert client.recv(100) == b""


def test_many_silent_connections_shut_nobody_out(serve: Serve) -> None:
    """The oldest of too many goes, so that a probe is answered."""
    server = serve(livez=())
    silent = [socket.create_connection(("127.0.0.1", server.server_port), _LIMIT_S) for _ in range(24)]
    try:
        assert _ask(server, "/livez").status_code == 200
        silent[0].settimeout(health._CONNECTION_S / 3)
        assert silent[0].recv(1) == b"", "it was cut, and did not end by itself"
        silent[-1].setblocking(False)  # noqa: FBT003 - the socket's own signature
        with pytest.raises(BlockingIOError):
            silent[-1].recv(1)
    finally:
        for client in silent:
            client.close()


def test_a_port_in_use_is_told(serve: Serve) -> None:
    """By the names of the settings, with an example."""
    taken = serve().server_port
    with pytest.raises(SettingsInvalid, match="metrics_port") as caught:
        HealthServer(("127.0.0.1", taken), CollectorRegistry(), {})
    assert "9102" in caught.value.message


def test_an_address_that_is_none_is_told() -> None:
    """By the name of the setting."""
    with pytest.raises(SettingsInvalid, match="metrics_host"):
        HealthServer(("no such host", 0), CollectorRegistry(), {})
    with pytest.raises(SettingsInvalid, match="metrics_host"):
        HealthServer(("192.0.2.1", 0), CollectorRegistry(), {})


def test_without_a_port_nothing_listens() -> None:
    """The default."""
    with health.serving(Settings(metrics_port=None), CollectorRegistry(), {}):
        pass


def test_with_a_port_it_listens_for_the_length_of_a_block() -> None:
    """And no longer."""
    port = free_port()
    with health.serving(Settings(metrics_port=port), CollectorRegistry(), {"/livez": tuple}):
        said = requests.get(f"http://127.0.0.1:{port}/livez", timeout=_LIMIT_S)
        assert json.loads(said.text)["status"] == "ok"
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/livez", timeout=_LIMIT_S)
