"""TLS: which servers are trusted, and how we make ourselves known to those that ask."""

from pathlib import Path
from typing import Any

import pytest
import requests
import stamina

from connectors.endpoints import Endpoint, Timeouts
from connectors.http import HttpSession
from models.domain.errors import EndpointError, SettingsInvalid
from tests.services.certificates import Authority
from tests.services.http import Reply, StrictServer

_QUICK = Timeouts(connect_s=2.0, read_s=2.0, total_s=5.0, pool_s=5.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Make an authority that nobody knows yet."""
    return Authority(tmp_path)


def _fetch(url: str, **more: Any) -> bytes:
    with HttpSession(Endpoint(url, "pacs", timeouts=_QUICK, **more)) as session, stamina.set_testing(True, attempts=1):
        return session.fetch(f"{url}/studies", "*/*").body


def _secure(server: StrictServer, authority: Authority, *, client_wanted: bool = False) -> str:
    context = authority.server_context(client_wanted=client_wanted)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.replies = [Reply(200, b"inside")]
    return server.url.replace("http:", "https:")


def test_untrusted_certificate(server: StrictServer, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of nobody known is refused with what to do; as ca_bundle it is trusted, whatever the env."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    url = _secure(server, authority)
    with pytest.raises(EndpointError, match="ca_bundle") as caught:
        _fetch(url)
    assert type(caught.value) is EndpointError
    assert "127.0.0.1" not in str(caught.value)
    assert server.asked == []
    assert _fetch(url, ca_bundle=authority.bundle) == b"inside"


def test_a_server_that_wants_a_certificate(server: StrictServer, authority: Authority, tmp_path: Path) -> None:
    """It is given ours, from two files or one; without one, or with a stranger's, nothing is asked, and why is said."""
    url = _secure(server, authority, client_wanted=True)
    ours = authority.issue("client")
    (tmp_path / "strange").mkdir()
    strange = Authority(tmp_path / "strange").issue("client")
    for wrong in ({}, {"client_certificate": strange.both}):
        with pytest.raises(EndpointError) as caught:
            _fetch(url, ca_bundle=authority.bundle, **wrong)
        assert "client.pem" not in str(caught.value)
    assert server.asked == []
    two = {"client_certificate": ours.certificate, "client_key": ours.key}
    assert _fetch(url, ca_bundle=authority.bundle, **two) == b"inside"
    assert _fetch(url, ca_bundle=authority.bundle, client_certificate=ours.both) == b"inside"


def test_certificates_that_cannot_be_used(authority: Authority, tmp_path: Path) -> None:
    """Missing files, no PEM, a key of another certificate, a locked key, a key alone: settings, found at once."""
    ours, other = authority.issue("ours"), authority.issue("other")
    locked = authority.issue("locked", b"password")
    (tmp_path / "text.pem").write_text("no certificate")
    wrong: tuple[tuple[Path | None, Path | None], ...] = (
        (tmp_path / "none.pem", None),
        (ours.certificate, tmp_path / "none.pem"),
        (tmp_path / "text.pem", None),
        (ours.certificate, None),
        (ours.certificate, other.key),
        (locked.certificate, locked.key),
        (tmp_path, None),
        (None, ours.key),
    )
    for certificate, key in wrong:
        with pytest.raises(SettingsInvalid, match="'pacs'"):
            HttpSession(Endpoint("https://h.test", "pacs", client_certificate=certificate, client_key=key))


def test_no_tls_where_tls_is_asked_for(server: StrictServer) -> None:
    """A server that speaks plain HTTP on a port that is asked for TLS is an error that says so."""
    with pytest.raises(EndpointError, match="TLS"):
        _fetch(server.url.replace("http:", "https:"))
