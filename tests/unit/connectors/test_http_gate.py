"""What connectors.http tells the gate of its endpoint, and that nothing is sent past one that is closed."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import stamina

from connectors.endpoints import Credentials, Endpoint, Endpoints, Timeouts
from connectors.http import HttpSession
from connectors.ranges.http import HttpFile
from models.domain.errors import (
    AccessDenied,
    EndpointBusy,
    EndpointError,
    EndpointFailed,
    EndpointNotAllowed,
    EndpointPaused,
    EndpointUnreachable,
    ResponseInvalid,
    SlidewireError,
    SourceUnreadable,
)
from models.domain.slide import SlideRef
from tests.services.http import Reply, StrictServer
from tests.services.ports import free_port

_QUICK = Timeouts(connect_s=2.0, read_s=0.5, total_s=2.0, pool_s=0.2, window_s=0.2)


class _Log:
    """A gate that writes down what happens, and may be closed."""

    def __init__(self, *, closed: bool = False) -> None:
        self.closed = closed
        self.admitted = self.refused = 0
        self.reported: list[SlidewireError | None] = []

    def admit(self) -> None:
        """Let it through, or not."""
        if self.closed:
            self.refused += 1
            raise EndpointPaused("The server is left alone.")
        self.admitted += 1

    def report(self, error: SlidewireError | None) -> None:
        """Write it down."""
        self.reported.append(error)


@pytest.fixture(autouse=True)
def once() -> Iterator[None]:
    """Try everything once."""
    with stamina.set_testing(True, attempts=1):
        yield


@pytest.fixture
def gate() -> _Log:
    """Give an open gate."""
    return _Log()


@pytest.fixture
def session(server: StrictServer, gate: _Log) -> Iterator[HttpSession]:
    """Open a session through the gate."""
    with HttpSession(Endpoint(server.url, "pacs", timeouts=_QUICK, gate=gate)) as opened:
        yield opened


def _fetch(session: HttpSession) -> None:
    session.fetch(f"{session.endpoint.url}/x", "*/*", frozenset({406}))


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(500), EndpointFailed),
        (Reply(503, headers={"Retry-After": "77"}), EndpointBusy),
        (Reply(429), EndpointBusy),
        (Reply(401), AccessDenied),
        (Reply(403), AccessDenied),
        (Reply(body=b"x" * 100, cut=50), EndpointUnreachable),
        (Reply(reset=True), EndpointUnreachable),
        (Reply(silent=True), EndpointUnreachable),
        (Reply(body=b"x", drip=True), EndpointUnreachable),
    ],
)
def test_failures_are_reported_as_they_are_raised(
    session: HttpSession, server: StrictServer, gate: _Log, reply: Reply, error: type[EndpointError]
) -> None:
    """Statuses, broken and trickling bodies, broken connections: one report a request, of the error itself."""
    server.replies = [reply]
    with pytest.raises(error) as caught:
        _fetch(session)
    assert gate.reported == [caught.value]
    assert gate.admitted == len(server.asked) == 1


def test_a_server_that_is_not_there_is_reported(gate: _Log) -> None:
    """A connection that is refused is a failure as well."""
    endpoint = Endpoint(f"http://127.0.0.1:{free_port()}", "pacs", timeouts=_QUICK, gate=gate)
    with HttpSession(endpoint) as session, pytest.raises(EndpointUnreachable) as caught:
        _fetch(session)
    assert gate.reported == [caught.value]


@pytest.mark.parametrize("status", [200, 204, 406])
def test_what_the_caller_takes_is_a_success(
    session: HttpSession, server: StrictServer, gate: _Log, status: int
) -> None:
    """An answer that is handed over has nothing wrong with it."""
    server.replies = [Reply(status, b"" if status == 204 else b"x")]
    _fetch(session)
    assert gate.reported == [None]


@pytest.mark.parametrize("status", [302, 400, 404, 409])
def test_what_a_living_server_refuses_is_told_as_that(
    session: HttpSession, server: StrictServer, gate: _Log, status: int
) -> None:
    """The gate gets the error that it is, and can tell it from an outage."""
    server.replies = [Reply(status)]
    with pytest.raises(ResponseInvalid) as caught:
        _fetch(session)
    assert gate.reported == [caught.value]


@pytest.mark.parametrize(
    ("status", "error"),
    [(200, type(None)), (409, ResponseInvalid), (503, EndpointBusy), (500, EndpointFailed), (403, AccessDenied)],
)
def test_a_post_passes_the_gate_and_is_reported(
    session: HttpSession, server: StrictServer, gate: _Log, status: int, error: type[object]
) -> None:
    """STOW goes through the session's post, whose answer others judge: the gate hears what its status means."""
    server.replies = [Reply(status, headers={"Retry-After": "77"})]
    session.post(f"{server.url}/studies", data=b"x")
    assert gate.admitted == 1
    [said] = gate.reported
    assert isinstance(said, error)
    assert getattr(said, "retry_after_s", 77.0) == (77.0 if status >= 500 or status == 200 else None)


def test_a_post_that_breaks_is_reported(session: HttpSession, server: StrictServer, gate: _Log) -> None:
    """The same for one that gets no answer."""
    server.replies = [Reply(reset=True)]
    with pytest.raises(EndpointUnreachable) as caught:
        session.post(f"{server.url}/studies", data=b"x")
    assert gate.reported == [caught.value]


def test_nothing_is_sent_through_a_closed_gate(session: HttpSession, server: StrictServer, gate: _Log) -> None:
    """Neither a GET nor a POST; nor is it tried again, nor reported, nor counted as traffic."""
    gate.closed = True
    with stamina.set_testing(True, attempts=4), pytest.raises(EndpointPaused):
        _fetch(session)
    assert gate.refused == 1, "the ledger says when, not a retry"
    with pytest.raises(EndpointPaused):
        session.post(f"{server.url}/studies", data=b"x")
    assert (server.asked, gate.reported, session.traffic.requests) == ([], [], 0)


def test_a_slot_comes_free_when_the_gate_refuses(session: HttpSession, gate: _Log) -> None:
    """More refusals than the endpoint has connections, and the next request still finds one."""
    gate.closed = True
    for _ in range(5):
        with pytest.raises(EndpointPaused):
            _fetch(session)
    gate.closed = False
    _fetch(session)


def test_another_address_is_nothing_of_this_server(session: HttpSession, gate: _Log) -> None:
    """What is refused before it is sent says nothing of the server."""
    with pytest.raises(EndpointNotAllowed):
        session.fetch("http://127.0.0.1:1/x", "*/*")
    assert (gate.admitted, gate.reported) == (0, [])


def test_no_free_connection_is_no_fault_of_the_server(session: HttpSession, server: StrictServer, gate: _Log) -> None:
    """Who waits for one of our own connections in vain reports nothing."""
    over = threading.Event()
    with session.opened(f"{server.url}/a", {}), session.opened(f"{server.url}/b", {}):
        with pytest.raises(EndpointUnreachable, match="came free"):
            _fetch(session)
        assert gate.reported == []
        over.set()
    assert gate.reported == [None, None]


def test_a_token_that_is_renewed_is_a_second_request(
    server: StrictServer, gate: _Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passes the gate as well; only how it ended in the end is reported."""
    token = Reply(200, b'{"access_token": "t", "token_type": "bearer"}', {"Content-Type": "application/json"})
    monkeypatch.setenv("CLIENT_SECRET", "s")
    credentials = Credentials("oidc", secret="env:CLIENT_SECRET", token_url=f"{server.url}/token", client_id="c")
    server.replies = [token, Reply(401), token, Reply(200)]
    with HttpSession(Endpoint(server.url, "pacs", credentials, timeouts=_QUICK, gate=gate)) as session:
        _fetch(session)
    assert [asked.path for asked in server.asked] == ["/token", "/x", "/token", "/x"]
    assert (gate.admitted, gate.reported) == (2, [None])


def test_a_file_read_by_ranges_passes_the_gate(server: StrictServer, gate: _Log) -> None:
    """TIFF files on a web server: each part, and a file that is not there is the answer of a living server."""
    server.replies = [Reply(200, b"x" * 10), Reply(404), Reply(500)]
    HttpFile(Endpoint(f"{server.url}/a.svs", timeouts=_QUICK, gate=gate)).close()
    for error in (SourceUnreadable, EndpointFailed):
        with pytest.raises(error):
            HttpFile(Endpoint(f"{server.url}/a.svs", timeouts=_QUICK, gate=gate))
    assert gate.admitted == 3
    assert [type(said) for said in gate.reported] == [type(None), SourceUnreadable, EndpointFailed]


def test_a_slide_s_endpoint_has_its_gate() -> None:
    """By name and by URL; an endpoint is the same with another gate."""
    gates: dict[str, _Log] = {}
    pacs = Endpoint("https://pacs.test/wado", "pacs")
    endpoints = Endpoints([pacs], gates=lambda endpoint: gates.setdefault(endpoint.key, _Log()))
    refs = {
        "pacs": SlideRef("dicomweb", "https://pacs.test/wado", "pacs", "1.2", "1.3"),
        "https://raw.test": SlideRef("dicomweb", "https://raw.test/wado", "", "1.2", "1.3"),
        "http://files.test:81": SlideRef("tiff", "http://files.test:81/a.svs"),
    }
    for key, ref in refs.items():
        assert endpoints.of_ref(ref).gate is gates[key]
    assert endpoints.of_ref(refs["pacs"]) == Endpoints([pacs]).of_ref(refs["pacs"]) == pacs


def test_without_gates_nothing_stands_in_the_way(server: StrictServer) -> None:
    """Plain use of the library: the server's failures do not add up."""
    server.replies = [Reply(500)]
    with HttpSession(Endpoint(server.url, timeouts=_QUICK)) as session:
        for _ in range(30):
            with pytest.raises(EndpointFailed):
                _fetch(session)
        server.replies = [Reply(200, b"x")]
        _fetch(session)
    assert requests.get(server.url, timeout=5).ok


def test_a_worker_without_credentials_says_nothing_of_the_server(
    server: StrictServer, gate: _Log, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing was sent, and the other workers, which may have some, are not held up."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    endpoint = Endpoint(server.url, "pacs", Credentials("google"), timeouts=_QUICK, gate=gate)
    with HttpSession(endpoint) as session, pytest.raises(AccessDenied, match="no credentials"):
        _fetch(session)
    assert gate.reported == []
