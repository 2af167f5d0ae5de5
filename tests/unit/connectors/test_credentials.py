"""Credentials in EZ-WSI's terms, of each kind."""

import pytest

from connectors.credentials import factory_of
from connectors.endpoints import Credentials
from models.domain.errors import SettingsInvalid


def test_unknown_kind() -> None:
    """A kind of credentials that nobody knows is refused."""
    with pytest.raises(SettingsInvalid, match="kerberos"):
        factory_of(Credentials("kerberos"))


def _headers(credentials: Credentials) -> dict[str, str]:
    headers: dict[str, str] = {}
    factory_of(credentials).get_credentials().apply(headers)
    return headers


def test_each_kind_gives_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """None, basic (RFC 7617's own example) and bearer put the right Authorization in place."""
    monkeypatch.setenv("SLIDEWIRE_TEST_SECRET", "open sesame")
    assert _headers(Credentials()) == {}
    basic = _headers(Credentials("basic", "Aladdin", "env:SLIDEWIRE_TEST_SECRET"))
    assert basic == {"authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}
    bearer = _headers(Credentials("bearer", secret="env:SLIDEWIRE_TEST_SECRET"))
    assert [*bearer.values()] == ["Bearer open sesame"]
