"""Credentials, minted when used, in EZ-WSI's own terms; settings hold references, never secrets."""

import base64
from collections.abc import MutableMapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import google.auth.credentials
from ez_wsi_dicomweb import credential_factory

from connectors.endpoints import Credentials
from connectors.oidc import OidcCredentials
from connectors.secret import resolve_secret
from models.domain.errors import SettingsInvalid


class _BasicCredentials(google.auth.credentials.Credentials):  # type: ignore[misc]
    """User name and password (RFC 7617), as EZ-WSI expects credentials to be."""

    expired = False
    valid = True

    def __init__(self, username: str, password: str) -> None:
        super().__init__()
        self._value = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    def refresh(self, request: object) -> None:
        """Do nothing: there is nothing to refresh."""

    def apply(self, headers: MutableMapping[str, str], token: str | None = None) -> None:
        """Put the Authorization header in place."""
        del token
        headers["authorization"] = self._value


class _Fixed(credential_factory.AbstractCredentialFactory):  # type: ignore[misc]
    def __init__(self, credentials: object) -> None:
        self._credentials = credentials

    def get_credentials(self) -> object:
        """Return the credentials it was made with."""
        return self._credentials


@lru_cache(maxsize=64)
def _oidc_factory(credentials: Credentials, ca_bundle: Path | None) -> Any:
    return _Fixed(OidcCredentials(credentials, ca_bundle))


def factory_of(credentials: Credentials, ca_bundle: Path | None = None) -> Any:
    """Return EZ-WSI's credential factory for what is configured.

    Parameters
    ----------
    credentials : Credentials
    ca_bundle : Path or None
        Certificates to trust where a token is fetched. All sessions of a process share one token.

    Raises
    ------
    SettingsInvalid
        The credentials are of an unknown kind, incomplete, or refer to nothing.
    """
    if credentials.kind == "none":
        return credential_factory.NoAuthCredentialsFactory()
    if credentials.kind == "basic":
        return _Fixed(_BasicCredentials(credentials.username, resolve_secret(credentials.secret)))
    if credentials.kind == "bearer":
        return credential_factory.TokenPassthroughCredentialFactory(resolve_secret(credentials.secret))
    if credentials.kind == "oidc":
        return _oidc_factory(credentials, ca_bundle)
    if credentials.kind == "google":
        return credential_factory.DefaultCredentialFactory()
    raise SettingsInvalid(f"Credentials of kind {credentials.kind!r}: give none, basic, bearer, oidc or google.")
