"""Tokens by client credentials (RFC 6749 4.4) of an OpenID Connect provider, kept until shortly before expiry."""

import json
import threading
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlsplit

import google.auth.credentials
import requests
import urllib3

from connectors.body import read_body
from connectors.endpoints import Credentials, Timeouts
from connectors.secret import resolve_secret
from models.domain.errors import AccessDenied, EndpointError, EndpointFailed, EndpointUnreachable, SettingsInvalid

_EARLY_S = 30.0
_UNSTATED_LIFE_S = 60.0  # RFC 6749 5.1: expires_in is only recommended
_LIMITS = Timeouts(connect_s=5.0, read_s=30.0, total_s=60.0)
_MAX_ANSWER_BYTES = 1 << 20


class OidcCredentials(google.auth.credentials.Credentials):  # type: ignore[misc]
    """A bearer token that is fetched when it is needed; safe to use from several threads.

    Parameters
    ----------
    credentials : Credentials
        Of kind ``oidc``. The secret is read anew for each token: it may be renewed while a worker runs.
    ca_bundle : Path or None
        Certificates to trust at the token's server.

    Raises
    ------
    SettingsInvalid
        Token URL, client or secret are missing.
    """

    def __init__(self, credentials: Credentials, ca_bundle: Path | None = None) -> None:
        super().__init__()
        if not credentials.client_id or urlsplit(credentials.token_url).scheme not in {"http", "https"}:
            raise SettingsInvalid("Credentials of kind oidc need token_url, client_id and secret.")
        resolve_secret(credentials.secret)
        self._credentials, self._ca_bundle = credentials, ca_bundle
        self._lock = threading.Lock()
        self._token, self._until = "", 0.0
        self._label = f"token server {urlsplit(credentials.token_url).hostname}"

    @property
    def expired(self) -> bool:
        """Whether the token is none any more."""
        return not self.valid

    @property
    def valid(self) -> bool:
        """Whether there is a token that will do for a while."""
        return bool(self._token) and time.monotonic() < self._until

    def refresh(self, request: object) -> None:
        """Fetch a token."""
        del request
        with self._lock:
            self._fetch()

    def discard(self, headers: Mapping[str, str]) -> None:
        """Forget the token of a request that was refused, unless another thread has a newer one already."""
        with self._lock:
            if headers.get("Authorization") == f"Bearer {self._token}":
                self._token = ""

    def apply(self, headers: MutableMapping[str, str], token: str | None = None) -> None:
        """Put the Authorization header in place, fetching a token first if there is none.

        Raises
        ------
        AccessDenied
            The token's server refuses the client, or gives no token.
        EndpointUnreachable, EndpointFailed
            It does not answer, or fails.
        """
        del token
        with self._lock:
            if not self.valid:
                self._fetch()
            headers["Authorization"] = f"Bearer {self._token}"

    def _fetch(self) -> None:
        given = self._credentials
        form = {"grant_type": "client_credentials", "scope": given.scope, "audience": given.audience}
        asked_at = time.monotonic()
        answer = self._post({name: value for name, value in form.items() if value})
        token, life = answer.get("access_token"), answer.get("expires_in", _UNSTATED_LIFE_S)
        kind = answer.get("token_type")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise AccessDenied(f"The {self._label} gives no token.")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise AccessDenied(f"The {self._label} gives a token of another kind than bearer.")
        try:
            seconds = float(life)
        except (TypeError, ValueError):
            seconds = _UNSTATED_LIFE_S
        self._token = token
        # At least once: a token that lives for seconds is used for the request it was fetched for.
        self._until = asked_at + max(seconds - _EARLY_S, min(seconds / 2, _EARLY_S))

    def _post(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Ask for a token; what is answered, and requests' own errors, are told nobody: they may hold anything."""
        given = self._credentials
        # RFC 6749 2.3.1: encoded as in a form, then as RFC 7617 does. Given here, ~/.netrc is not looked into.
        client = (quote_plus(given.client_id), quote_plus(resolve_secret(given.secret)))
        verify = None if self._ca_bundle is None else str(self._ca_bundle)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        limits = (_LIMITS.connect_s, _LIMITS.read_s)
        try:
            with requests.post(
                given.token_url, form, auth=client, headers=headers, verify=verify, timeout=limits,
                allow_redirects=False, stream=True,
            ) as response:  # fmt: skip
                return self._judged(response.status_code, read_body(response, _LIMITS, self._label, _MAX_ANSWER_BYTES))
        except requests.exceptions.SSLError:
            raise EndpointError(
                f"The certificate of the {self._label} is not trusted: give the authority's certificates as ca_bundle."
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError):
            raise EndpointUnreachable(f"The {self._label} cannot be reached, or does not answer in time.") from None

    def _judged(self, status: int, body: bytes) -> Mapping[str, Any]:
        if status >= 500 or status == 429:
            raise EndpointFailed(f"The {self._label} failed ({status}).")
        if status != 200:
            raise AccessDenied(f"The {self._label} refuses a token ({status}): check client_id, secret and scope.")
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise AccessDenied(f"The {self._label} answered with something that is no token: check token_url.")
        return found
