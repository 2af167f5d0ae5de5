"""One session an endpoint: every way a server can fail becomes an error of ours, retried if that can help."""

import gzip
import json
import threading
import tracemalloc
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import stamina

from connectors import http
from connectors.endpoints import Credentials, Endpoint, Timeouts
from connectors.http import HttpSession, error_of, json_of, retry_after_s
from connectors.protocols import Traffic
from models.domain.errors import (
    AccessDenied,
    CredentialsMissing,
    EndpointBusy,
    EndpointError,
    EndpointFailed,
    EndpointNotAllowed,
    EndpointUnreachable,
    ResponseInvalid,
    SettingsInvalid,
    SlidewireError,
)
from tests.services.http import Asked, Reply, StrictServer
from tests.services.ports import free_port

_TOKEN = "s3cr3t-t0ken"
_UID = "1.2.826.0.1.3680043.9.7433.1"
_PATH = f"/dicom-web/studies/{_UID}/series/{_UID}.1/metadata?token=query-secret"
_QUICK = Timeouts(connect_s=2.0, read_s=2.0, total_s=5.0, pool_s=5.0)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Let retries follow one another at once, as many as there are in earnest."""
    with stamina.set_testing(True, attempts=http._ATTEMPTS, cap=True):
        yield


def _session(url: str, monkeypatch: pytest.MonkeyPatch, timeouts: Timeouts = _QUICK, **more: Any) -> HttpSession:
    monkeypatch.setenv("SLIDEWIRE_TEST_TOKEN", _TOKEN)
    credentials = Credentials("bearer", secret="env:SLIDEWIRE_TEST_TOKEN")
    return HttpSession(Endpoint(url, "pacs", credentials, timeouts=timeouts, **more))


def _fails_somehow(session: HttpSession) -> SlidewireError:
    with pytest.raises(SlidewireError) as caught:
        session.fetch(session.endpoint.url + _PATH, "application/dicom+json")
    return caught.value


@pytest.fixture
def session(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpSession]:
    """Open a session with the server, with a token."""
    with _session(server.url, monkeypatch) as one:
        yield one


def _fails(session: HttpSession, kind: type[SlidewireError], path: str = _PATH) -> SlidewireError:
    """Fetch, and return the error; it must be of that very kind and tell nothing it should not."""
    with pytest.raises(SlidewireError) as caught:
        session.fetch(session.endpoint.url + path, "application/dicom+json")
    error = caught.value
    assert type(error) is kind
    text = f"{error} {error!r} {error.args}"
    for secret in (_TOKEN, _UID, "query-secret", "dicom-web", "127.0.0.1"):
        assert secret not in text
    assert "pacs" in str(error)
    chain = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert chain is None or isinstance(chain, SlidewireError)
    return error


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [
        (400, ResponseInvalid, 1),
        (401, AccessDenied, 1),
        (403, AccessDenied, 1),
        (404, ResponseInvalid, 1),
        (408, EndpointBusy, 4),
        (425, EndpointBusy, 4),
        (429, EndpointBusy, 4),
        (500, EndpointFailed, 4),
        (502, EndpointFailed, 4),
        (503, EndpointBusy, 4),
        (504, EndpointFailed, 4),
    ],
)
def test_failing_statuses(
    server: StrictServer, session: HttpSession, status: int, kind: type[SlidewireError], attempts: int
) -> None:
    """Each status is its own error, tried again only where that can help; the body is not repeated."""
    server.replies = [Reply(status, f"patient {_UID} {_TOKEN}".encode())]
    error = _fails(session, kind)
    assert len(server.asked) == attempts
    assert error.retryable == (attempts > 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused(server: StrictServer, session: HttpSession, status: int) -> None:
    """A token never follows a redirect to another place, not even on the same server."""
    server.replies = [Reply(status, headers={"Location": f"{server.url}/elsewhere"})]
    assert "redirects" in str(_fails(session, ResponseInvalid))
    assert [asked.path for asked in server.asked] == [_PATH]


def test_it_succeeds_after_failures(server: StrictServer, session: HttpSession) -> None:
    """What fails thrice and then works has worked."""
    server.replies = [Reply(503), Reply(reset=True), Reply(200, b"12345", cut=2), Reply(200, b"12345")]
    answer = session.fetch(server.url + _PATH, "*/*")
    assert (answer.status, answer.body) == (200, b"12345")
    assert len(server.asked) == 4


@pytest.mark.parametrize("header", ["7", "7.0", " 7 "])
def test_retry_after_in_seconds(server: StrictServer, session: HttpSession, header: str) -> None:
    """The wait a server asks for travels with the error."""
    server.replies = [Reply(429, headers={"Retry-After": header})]
    assert _fails(session, EndpointBusy).retry_after_s == 7


def test_retry_after_as_a_date(server: StrictServer, session: HttpSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """A date is turned into seconds from now, one that has passed into none."""
    monkeypatch.setattr(http.time, "time", lambda: 1_000_000.0)
    server.replies = [Reply(503, headers={"Retry-After": formatdate(1_000_012, usegmt=True)})]
    assert _fails(session, EndpointBusy).retry_after_s == 12
    server.replies = [Reply(503, headers={"Retry-After": formatdate(999_000, usegmt=True)})]
    assert _fails(session, EndpointBusy).retry_after_s == 0


def test_long_waits_are_left_to_the_ledger(server: StrictServer, session: HttpSession) -> None:
    """Who asks for an hour is not asked again meanwhile: the shard goes back with that wait."""
    server.replies = [Reply(503, headers={"Retry-After": "3600"})]
    assert _fails(session, EndpointBusy).retry_after_s == 3600
    assert len(server.asked) == 1


@pytest.mark.parametrize("header", [None, "", "soon", "Mon, 99 Nov", "-5", "nan"])
def test_senseless_retry_after(header: str | None) -> None:
    """Nonsense in the header is no wait, and never a negative or an endless one."""
    found = retry_after_s(header)
    assert found is None or found == 0


def test_reset_connection(server: StrictServer, session: HttpSession) -> None:
    """A connection that breaks is worth another try."""
    server.replies = [Reply(reset=True)]
    _fails(session, EndpointUnreachable)
    assert len(server.asked) == 4


@pytest.mark.parametrize("cut", [1, 500])
def test_body_that_is_cut_off(server: StrictServer, session: HttpSession, cut: int) -> None:
    """Fewer bytes than announced are an error, not a shorter body."""
    server.replies = [Reply(200, bytes(1000), cut=cut)]
    _fails(session, EndpointUnreachable)


def test_chunked_body_that_is_cut_off(server: StrictServer, session: HttpSession) -> None:
    """A chunked body without its end is an error too."""
    server.replies = [Reply(200, b"5\r\nhello\r\nxx", {"Transfer-Encoding": "chunked"}, cut=2)]
    _fails(session, EndpointUnreachable)


def test_compressed_body_that_is_damaged(server: StrictServer, session: HttpSession) -> None:
    """A body that does not unpack is an invalid answer."""
    server.replies = [Reply(200, b"no gzip at all", {"Content-Encoding": "gzip"})]
    _fails(session, ResponseInvalid)


def test_silent_server(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and says nothing is given up after the time to read."""
    server.replies = [Reply(silent=True)]
    with _session(server.url, monkeypatch, Timeouts(2.0, 0.05, 5.0, 5.0)) as session:
        assert "in time" in str(_fails(session, EndpointUnreachable))
    assert len(server.asked) == 4


def test_dripping_server(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that never ends, a few bytes at a time, is given up when the total time is over."""
    server.replies = [Reply(body=b"drop", headers={"Content-Length": "1000000"}, drip=True)]
    with _session(server.url, monkeypatch, Timeouts(2.0, 2.0, 0.1, 5.0)) as session:
        assert "0.1 s" in str(_fails(session, EndpointUnreachable))


def test_overlong_body(server: StrictServer, session: HttpSession) -> None:
    """A body beyond what the caller can use is given up before it fills the memory, also one that unpacks to that."""
    server.replies = [Reply(200, bytes(1001)), Reply(200, bytes(1000))]
    with pytest.raises(ResponseInvalid, match="more than"):
        session.fetch(server.url + _PATH, "*/*", most_bytes=1000)
    assert session.fetch(server.url + _PATH, "*/*", most_bytes=1000).body == bytes(1000)
    assert len(server.asked) == 2, "what is too large once is too large again"


def test_a_bomb_does_not_go_off(server: StrictServer, session: HttpSession) -> None:
    """A body of 200 kB that unpacks to 200 MB is given up after a few of them."""
    server.replies = [Reply(200, gzip.compress(bytes(200_000_000), 9), {"Content-Encoding": "gzip"})]
    tracemalloc.start()
    try:
        with pytest.raises(ResponseInvalid, match="more than"):
            session.fetch(server.url + _PATH, "*/*", most_bytes=5_000_000)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"torn" * 1000)[:-9], "gzip"),
        (gzip.compress(b"whole") + b"junk", "gzip"),
        (b"", "gzip"),
        (b"whatever", "br"),
        (b"whatever", "gzip, gzip"),
    ],
)
def test_bodies_that_cannot_be_unpacked(server: StrictServer, session: HttpSession, body: bytes, encoding: str) -> None:
    """A packed body that is torn, followed by junk, empty, or packed in another way than was asked for is refused."""
    server.replies = [Reply(200, body, {"Content-Encoding": encoding})]
    _fails(session, ResponseInvalid)


def test_packed_in_several_members(server: StrictServer, session: HttpSession) -> None:
    """A gzip body may be several, one after the other (RFC 1952 2.2)."""
    body = gzip.compress(b"one, ") + gzip.compress(b"two")
    server.replies = [Reply(200, body, {"Content-Encoding": "x-gzip"})]
    assert session.fetch(server.url + _PATH, "*/*").body == b"one, two"


def test_a_trickle_is_given_up(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends a few bytes now and then is given up after a window, long before the total time."""
    server.replies = [Reply(body=b"d", headers={"Content-Length": "1000000"}, drip=True)]
    limits = Timeouts(2.0, 2.0, 600.0, 5.0, least_bytes_s=10_000, window_s=0.2)
    with _session(server.url, monkeypatch, limits) as session:
        assert "bytes a second" in str(_fails(session, EndpointUnreachable))
    assert len(server.asked) == 4


def test_a_trickle_inside_a_gzip_header_is_given_up(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come and unpack to nothing (a file name without an end) do not hold a worker either."""
    endless_name = b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x03"
    server.replies = [
        Reply(body=endless_name, headers={"Content-Length": "1000000", "Content-Encoding": "gzip"}, drip=True)
    ]
    limits = Timeouts(2.0, 2.0, 0.3, 5.0, least_bytes_s=0)
    with _session(server.url, monkeypatch, limits) as session:
        assert isinstance(_fails_somehow(session), EndpointUnreachable | ResponseInvalid)


def test_a_slow_line_is_no_trickle(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that takes many windows, each with enough in it, arrives whole."""
    body = bytes(range(256)) * 400
    server.replies = [Reply(200, body, pieces=50)]
    limits = Timeouts(2.0, 2.0, 60.0, 5.0, least_bytes_s=1000, window_s=0.1)
    with _session(server.url, monkeypatch, limits) as session:
        assert session.fetch(server.url + _PATH, "*/*").body == body
    assert len(server.asked) == 1


def test_the_defaults_give_a_trickle_up_within_a_minute() -> None:
    """One byte a second is over within a minute, all tries included; a hospital's line of 100 kB/s is far above it."""
    limits = Timeouts()
    assert http._ATTEMPTS * limits.window_s <= 40
    assert 1 < limits.least_bytes_s <= 10_000


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused connection is unreachable."""
    with _session(f"http://127.0.0.1:{free_port()}", monkeypatch) as session:
        _fails(session, EndpointUnreachable)


@pytest.mark.parametrize("url", ["http://h h", "http://127.0.0.1:99999", "ftp://127.0.0.1", "http://\udc80"])
def test_address_that_is_none(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """An address that cannot be one fails as an endpoint, without repeating it."""
    with _session(url, monkeypatch) as session, pytest.raises(EndpointError) as caught:
        session.fetch(url + _PATH, "*/*")
    assert _UID not in str(caught.value)


def test_login_page_instead_of_json(server: StrictServer, session: HttpSession) -> None:
    """HTML with status 200 is no metadata, and its text is not repeated."""
    server.replies = [Reply(200, b"<html>Dr Who, please log in</html>", {"Content-Type": "text/html; charset=utf-8"})]
    answer = session.fetch(server.url + _PATH, "application/dicom+json")
    with pytest.raises(ResponseInvalid, match="text/html") as caught:
        json_of(answer, "PACS", json.loads)
    assert "Who" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"[{", b"\xff\xfe", b"[" * 100_000, b"NaN]"])
def test_broken_json(body: bytes) -> None:
    """Text that is no JSON, however deep, is an invalid answer."""
    answer = http.Answer(200, "application/dicom+json", body)
    with pytest.raises(ResponseInvalid, match="broken JSON"):
        json_of(answer, "PACS", json.loads)


def test_statuses_the_caller_judges(server: StrictServer, session: HttpSession) -> None:
    """A 404 that the caller asked to see is an answer, after one request."""
    server.replies = [Reply(404, b"no")]
    assert session.fetch(server.url + _PATH, "*/*", frozenset({404})).status == 404
    assert len(server.asked) == 1


def test_token_goes_to_the_server_and_netrc_does_not(
    server: StrictServer, session: HttpSession, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each request carries the configured token, and nothing out of the user's ~/.netrc."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    session.fetch(server.url + _PATH, "application/dicom+json")
    headers = {name.lower(): value for name, value in server.asked[0].headers.items()}
    assert headers["authorization"] == f"Bearer {_TOKEN}"
    assert headers["accept"] == "application/dicom+json"


def test_missing_bundle(tmp_path: Path) -> None:
    """A ca_bundle that is not there is said at once, not as a broken connection."""
    with pytest.raises(SettingsInvalid, match="ca_bundle"):
        HttpSession(Endpoint("https://127.0.0.1", ca_bundle=tmp_path / "nothing.pem"))


def test_nobody_else_is_asked(server: StrictServer) -> None:
    """An address of another server, such as a BulkDataURI may hold, is not followed, with or without a token."""
    session = HttpSession(Endpoint("http://127.0.0.1:1/dicom-web", name="pacs"))
    with pytest.raises(EndpointNotAllowed, match="another address"):
        session.fetch(f"{server.url}/bulk/1", "*/*")
    assert server.asked == []
    session.close()


def test_bodies_come_whole_over_one_connection(server: StrictServer, session: HttpSession) -> None:
    """Large, empty, chunked and compressed bodies arrive as they were sent, over a connection that is kept open."""
    large = bytes(range(256)) * 20_000
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (large[:70_000], large[70_000:])) + b"0\r\n\r\n"
    server.replies = [
        Reply(200, large),
        Reply(200, b""),
        Reply(200, gzip.compress(large), {"Content-Encoding": "gzip"}),
        Reply(200, chunked, {"Transfer-Encoding": "chunked"}),
        Reply(200, b"last"),
    ]
    found = [session.fetch(server.url + _PATH, "*/*").body for _ in range(5)]
    assert found == [large, b"", large, large, b"last"]
    assert server.connections == 1


def test_traffic_is_counted(server: StrictServer, session: HttpSession) -> None:
    """Every request counts, retries too, and every byte as it came over the line."""
    packed = gzip.compress(bytes(100_000))
    server.replies = [Reply(503), Reply(200, bytes(5000)), Reply(200, packed, {"Content-Encoding": "gzip"})]
    assert session.traffic == Traffic(0, 0)
    session.fetch(server.url + _PATH, "*/*")
    assert session.traffic == Traffic(2, 5000)
    session.fetch(server.url + _PATH, "*/*")
    assert session.traffic == Traffic(3, 5000 + len(packed))
    server.replies = [Reply(200, b"stored")]
    session.post(server.url + _PATH, data=b"x")
    assert session.traffic == Traffic(4, 5006 + len(packed))


def test_no_more_connections_than_allowed(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds all connections taken waits for one, and gives up after the configured time."""
    entered, release = threading.Event(), threading.Event()

    def hold(asked: Asked) -> Reply:
        del asked
        entered.set()
        release.wait(10)
        return Reply(200, b"held")

    server.replies = [hold]
    with _session(server.url, monkeypatch, Timeouts(2.0, 10.0, 10.0, 0.05), connections=1) as session:
        holder = threading.Thread(target=session.fetch, args=(server.url, "*/*"))
        holder.start()
        assert entered.wait(10)
        assert "came free" in str(_fails(session, EndpointUnreachable))
        release.set()
        holder.join()
        assert session.fetch(server.url, "*/*").body == b"held"  # the slot is free again


def test_slots_come_back_after_failures(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that fails gives its connection back, however it fails."""
    failures = [Reply(500), Reply(reset=True), Reply(200, bytes(9), cut=3), Reply(404)]
    server.replies = [*failures, *failures, Reply(200, b"fine")]
    with _session(server.url, monkeypatch, Timeouts(2.0, 2.0, 5.0, 0.05), connections=1) as session:
        for _ in range(2):
            _fails(session, ResponseInvalid)
        assert session.fetch(server.url, "*/*").body == b"fine"


def test_google_credentials_that_are_not_there(server: StrictServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing application default credentials deny access; their path is not told."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/key.json")
    with HttpSession(Endpoint(server.url, "pacs", Credentials("google"))) as session:
        assert "key.json" not in str(_fails(session, CredentialsMissing))
    assert server.asked == []


def test_secret_that_is_not_there(server: StrictServer) -> None:
    """A credential that refers to nothing is found when the session is opened, before anything is asked."""
    with pytest.raises(SettingsInvalid):
        HttpSession(Endpoint(server.url, "pacs", Credentials("bearer", secret="env:SLIDEWIRE_NO_SUCH_TOKEN")))


@pytest.mark.parametrize("status", range(300, 600))
def test_every_failing_status_is_an_endpoints_error(status: int) -> None:
    """There is no status that gets through, and only 408, 425, 429 and 5xx are worth a retry."""
    error = error_of(status, "PACS")
    assert isinstance(error, EndpointError)
    assert error.retryable == (status in {408, 425, 429} or status >= 500)
    assert str(status) in str(error)
