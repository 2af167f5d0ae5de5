"""Tokens by client credentials: fetched once, renewed in time, and told nobody, whatever the token's server does."""

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import stamina

from connectors import http, oidc
from connectors.credentials import factory_of
from connectors.endpoints import Credentials, Endpoint, Timeouts
from connectors.http import HttpSession
from connectors.oidc import OidcCredentials
from connectors.upload import Upload
from models.domain.errors import (
    AccessDenied,
    EndpointError,
    EndpointFailed,
    EndpointUnreachable,
    SettingsInvalid,
    SlidewireError,
)
from tests.services.certificates import Authority
from tests.services.http import Asked, Reply, StrictServer
from tests.services.ports import free_port

_SECRET, _VARIABLE = "cl1ent-s3cret&+%", "SLIDEWIRE_TEST_CLIENT_SECRET"
_JSON = {"Content-Type": "application/json"}
_QUICK = Timeouts(connect_s=2.0, read_s=2.0, total_s=5.0, pool_s=5.0)


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the secret, and let retries follow one another at once."""
    monkeypatch.setenv(_VARIABLE, _SECRET)
    with stamina.set_testing(True, attempts=http._ATTEMPTS, cap=True):
        yield


class TokenServer:
    """Gives numbered tokens to the one client it knows, on a path of a `StrictServer`; everything else it refuses."""

    def __init__(self, server: StrictServer, life: object = 3600) -> None:
        self.life = life
        self.given = 0
        self.revoked: set[str] = set()
        self.forms: list[dict[str, list[str]]] = []
        self._lock = threading.Lock()
        server.replies = [self.reply]

    def reply(self, asked: Asked) -> Reply:
        """Answer a request for a token or for anything that wants one."""
        if asked.path != "/token":
            return self._resource(asked)
        headers = {name.lower(): value for name, value in asked.headers.items()}
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind != "Basic" or base64.b64decode(value) != b"worker+1:cl1ent-s3cret%26%2B%25":
            return Reply(401, b'{"error": "invalid_client"}', _JSON)
        form = parse_qs(asked.body.decode())
        if headers["content-type"] != "application/x-www-form-urlencoded" or form["grant_type"] != [
            "client_credentials"
        ]:
            return Reply(400, b'{"error": "unsupported_grant_type"}', _JSON)
        with self._lock:
            self.given += 1
            self.forms.append(form)
            answer = {"access_token": f"token-{self.given}", "token_type": "Bearer", "expires_in": self.life}
        return Reply(200, json.dumps({k: v for k, v in answer.items() if v is not None}).encode(), _JSON)

    def _resource(self, asked: Asked) -> Reply:
        token = asked.headers.get("authorization", asked.headers.get("Authorization", "")).removeprefix("Bearer ")
        fine = token in {f"token-{n + 1}" for n in range(self.given)} - self.revoked
        return Reply(200, token.encode()) if fine else Reply(401)


def _credentials(server: StrictServer, **more: str) -> Credentials:
    given = {"token_url": f"{server.url}/token", "client_id": "worker 1", "secret": f"env:{_VARIABLE}"}
    return Credentials("oidc", **(given | more))


def _session(server: StrictServer, **more: str) -> HttpSession:
    return HttpSession(Endpoint(server.url, "pacs", _credentials(server, **more), timeouts=_QUICK))


@pytest.mark.parametrize(
    "missing", [{"token_url": ""}, {"client_id": ""}, {"secret": ""}, {"token_url": "ftp://h/token"}, {"secret": "s3"}]
)
def test_incomplete_settings(server: StrictServer, missing: dict[str, str]) -> None:
    """What is missing is found when the session is opened, and nothing is asked."""
    with pytest.raises(SettingsInvalid):
        _session(server, **missing)
    assert server.asked == []


def _refused(server: StrictServer) -> SlidewireError:
    with _session(server) as session, pytest.raises(SlidewireError) as caught:
        session.fetch(f"{server.url}/studies", "*/*")
    text = f"{caught.value} {caught.value.args}"
    for secret in (_SECRET, "s3cret", "canary", "token-", "/token"):
        assert secret not in text
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize(
    ("reply", "kind", "attempts"),
    [
        (Reply(400, b'{"error": "canary"}', _JSON), AccessDenied, 1),
        (Reply(401, b"canary", _JSON), AccessDenied, 1),
        (Reply(403), AccessDenied, 1),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/canary"}), AccessDenied, 1),
        (Reply(500, b"canary"), EndpointFailed, 4),
        (Reply(429), EndpointFailed, 4),
        (Reply(reset=True), EndpointUnreachable, 4),
        (Reply(200, b"<html>canary</html>", {"Content-Type": "text/html"}), AccessDenied, 1),
        (Reply(200, b"[]", _JSON), AccessDenied, 1),
        (Reply(200, b"{}", _JSON), AccessDenied, 1),
        (Reply(200, b'{"access_token": 7, "token_type": "Bearer"}', _JSON), AccessDenied, 1),
        (Reply(200, b'{"access_token": "", "token_type": "Bearer"}', _JSON), AccessDenied, 1),
        (Reply(200, b'{"access_token": "a\\r\\nX: canary", "token_type": "Bearer"}', _JSON), AccessDenied, 1),
        (Reply(200, b'{"access_token": "canary", "token_type": "mac"}', _JSON), AccessDenied, 1),
        (Reply(200, b'{"access_token": "canary"}', _JSON), AccessDenied, 1),
    ],
)
def test_token_servers_that_give_none(
    server: StrictServer, reply: Reply, kind: type[SlidewireError], attempts: int
) -> None:
    """Each way not to give a token is an error of ours without what was answered; only outages are tried again."""
    server.replies = [reply]
    assert type(_refused(server)) is kind
    assert [asked.path for asked in server.asked] == ["/token"] * attempts


def test_an_endless_answer(server: StrictServer) -> None:
    """A token of more than a megabyte is none."""
    server.replies = [Reply(200, b'{"access_token": "' + b"a" * (1 << 21) + b'"}', _JSON)]
    assert isinstance(_refused(server), EndpointError)


def test_nobody_listens(server: StrictServer) -> None:
    """A token server that is away is unreachable, and that is worth another try."""
    away = f"http://127.0.0.1:{free_port()}/token"
    with _session(server, token_url=away) as session, pytest.raises(EndpointUnreachable):
        session.fetch(f"{server.url}/studies", "*/*")
    assert server.asked == []


def test_an_untrusted_token_server(server: StrictServer, tmp_path: Path) -> None:
    """The token's server is trusted by the endpoint's ca_bundle, and not without it."""
    authority = Authority(tmp_path)
    server.socket = authority.server_context().wrap_socket(server.socket, server_side=True)
    tokens = TokenServer(server)
    given = _credentials(server, token_url=f"{server.url.replace('http:', 'https:')}/token")
    headers: dict[str, str] = {}
    with pytest.raises(EndpointError, match="ca_bundle"):
        factory_of(given).get_credentials().apply(headers)
    factory_of(given, authority.bundle).get_credentials().apply(headers)
    assert headers == {"Authorization": "Bearer token-1"}
    assert tokens.given == 1


def test_one_token_for_all(server: StrictServer) -> None:
    """Sessions and threads of a process share one token; scope and audience are sent if they are set."""
    tokens = TokenServer(server)
    one, two = (_session(server, scope="dicom.read", audience="pacs") for _ in range(2))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: (one, two)[n % 2].fetch(f"{server.url}/studies", "*/*").body, range(8)))
    assert found == [b"token-1"] * 8
    assert tokens.forms == [{"grant_type": ["client_credentials"], "scope": ["dicom.read"], "audience": ["pacs"]}]
    one.close()
    two.close()


def test_only_what_is_set_is_sent(server: StrictServer) -> None:
    """Without scope and audience the form holds neither, and the secret is in no form."""
    tokens = TokenServer(server)
    with _session(server) as session:
        session.fetch(f"{server.url}/studies", "*/*")
    assert tokens.forms == [{"grant_type": ["client_credentials"]}]


@pytest.mark.parametrize(
    ("life", "later_s", "fetched"), [(3600, 3500, 1), (3600, 3580, 2), (None, 20, 1), (None, 50, 2), (40, 25, 2),
                                     (4, 1, 1), (4, 3, 2), ("soon", 50, 2), (0, 0.1, 2)],
)  # fmt: skip
def test_renewed_before_it_expires(
    server: StrictServer, monkeypatch: pytest.MonkeyPatch, life: object, later_s: float, fetched: int
) -> None:
    """A token is used until shortly before it expires, a short one for half its life, one of unstated life briefly."""
    clock = [1000.0]
    monkeypatch.setattr(oidc.time, "monotonic", lambda: clock[0])
    tokens = TokenServer(server, life)
    credentials = OidcCredentials(_credentials(server))
    headers: dict[str, str] = {}
    credentials.apply(headers)
    clock[0] += later_s
    credentials.apply(headers)
    assert tokens.given == fetched
    assert headers["Authorization"] == f"Bearer token-{fetched}"


def test_a_token_that_the_server_forgot(server: StrictServer) -> None:
    """A 401 renews the token once and asks again; a second 401 in a row denies access."""
    tokens = TokenServer(server)
    with _session(server) as session:
        assert session.fetch(f"{server.url}/studies", "*/*").body == b"token-1"
        tokens.revoked = {"token-1"}
        assert session.fetch(f"{server.url}/studies", "*/*").body == b"token-2"
        tokens.revoked = {f"token-{n}" for n in range(10)}
        before = tokens.given
        with pytest.raises(AccessDenied):
            session.fetch(f"{server.url}/studies", "*/*")
        assert tokens.given == before + 1


def test_a_body_that_cannot_be_sent_again(server: StrictServer) -> None:
    """A 401 to a stream is not answered with an empty one; the next request has a new token."""
    tokens = TokenServer(server)
    with _session(server) as session:
        session.fetch(f"{server.url}/studies", "*/*")
        tokens.revoked = {"token-1"}
        before = len(server.asked)
        posted = session.post(f"{server.url}/studies", data=b"whole", stream=False)
        assert (posted.status_code, server.asked[-1].body) == (200, b"whole")
        tokens.revoked = {"token-2"}

        def stream() -> Iterator[bytes]:
            yield b"once"

        refused = _post_stream(session, f"{server.url}/studies", stream())
        assert refused == 401
        assert session.fetch(f"{server.url}/studies", "*/*").body == b"token-3"
        assert len(server.asked) > before


def test_an_upload_is_sent_again(server: StrictServer) -> None:
    """A 401 to a body that is made anew each time renews the token and sends it once more, whole."""
    tokens = TokenServer(server)
    with _session(server) as session:
        session.fetch(f"{server.url}/studies", "*/*")
        tokens.revoked = {"token-1"}
        upload = Upload(lambda: [b"whole"], 5, "ab" * 32)
        assert session.post_once(f"{server.url}/studies", upload, "*/*", frozenset()).body == b"token-2"
        assert server.asked[-1].body == b"".join(upload)


def _post_stream(session: HttpSession, url: str, body: Any) -> int:
    # A length, so that the server reads it: the body itself is a stream that is empty afterwards.
    import requests

    prepared = session.prepare_request(requests.Request("POST", url, data=body))
    del prepared.headers["Transfer-Encoding"]
    prepared.headers["Content-Length"] = "4"
    return session.send(prepared).status_code


def test_a_secret_that_changes(server: StrictServer, tmp_path: Path) -> None:
    """The secret is read for each token: a file that is rotated is read again."""
    tokens = TokenServer(server)
    file = tmp_path / "secret"
    file.write_text("old")
    credentials = OidcCredentials(_credentials(server, secret=f"file:{file}"))
    with pytest.raises(AccessDenied):
        credentials.apply({})
    file.write_text(_SECRET)
    credentials.apply({})
    assert tokens.given == 1


@pytest.mark.timeout(30)
def test_a_door_that_is_shut_in_the_middle_keeps_no_connection(server: StrictServer) -> None:
    """Refused by server and token's server alike, again and again: each is said, and the one connection is free."""
    tokens = TokenServer(server)
    session = _session(server)
    assert session.fetch(f"{server.url}/fine", "*/*").body == b"token-1"
    tokens.revoked.add("token-1")
    server.replies = [lambda asked: Reply(403) if asked.path == "/token" else tokens.reply(asked)]
    for _ in range(3):
        with pytest.raises(AccessDenied):
            session.fetch(f"{server.url}/shut", "*/*")
    server.replies = [tokens.reply]
    assert session.fetch(f"{server.url}/fine", "*/*").body == b"token-2"
