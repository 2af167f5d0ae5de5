"""Posts signed notices to one address, as Standard Webhooks 1.0 has it (standardwebhooks.com)."""

import base64
import binascii
import hashlib
import hmac

from connectors.endpoints import Endpoint
from connectors.http import HttpSession, error_of
from models.domain.errors import SettingsInvalid

_PREFIX = "whsec_"
_LEAST_KEY_BYTES, _MOST_KEY_BYTES = 24, 64  # Standard Webhooks, "Signature scheme"
_OPENSSL = 'echo "whsec_$(openssl rand -base64 32)"'


def signing_key(secret: str) -> bytes:
    """Return the key that a secret stands for: ``whsec_`` and base64 of 24 to 64 bytes.

    Raises
    ------
    SettingsInvalid
        It is none; the message does not show it.
    """
    prefix, encoded = secret[: len(_PREFIX)], secret[len(_PREFIX) :]
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        prefix, key = "", b""
    if prefix != _PREFIX:
        raise SettingsInvalid(
            f"The setting webhook.secret refers to something that is not whsec_ and base64: make a key by {_OPENSSL}."
        )
    if not _LEAST_KEY_BYTES <= len(key) <= _MOST_KEY_BYTES:
        raise SettingsInvalid(
            f"The setting webhook.secret refers to a key of {len(key)} bytes, and 24 to 64 are right: make one by "
            f"{_OPENSSL}."
        )
    return key


class Webhook:
    """One address that is told.

    Parameters
    ----------
    endpoint : Endpoint
        Its URL is posted to as it is; redirections are not followed.
    key : bytes
        That notices are signed with.
    """

    def __init__(self, endpoint: Endpoint, key: bytes) -> None:
        self._session, self._url, self._key = HttpSession(endpoint), endpoint.url, key

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def post(self, notice_id: str, body: bytes, at: int) -> None:
        """Post one notice; when this returns, the receiver has said that it has it (2xx).

        Parameters
        ----------
        notice_id : str
            The same each time that this notice is posted, so that the receiver can tell.
        body : bytes
            JSON.
        at : int
            Now, in seconds since 1970: receivers refuse what is signed for another time.

        Raises
        ------
        EndpointError
            It does not answer, or does not take it.
        """
        headers = {
            "Content-Type": "application/json",
            "webhook-id": notice_id,
            "webhook-timestamp": str(at),
            "webhook-signature": f"v1,{self._signature(notice_id, body, at)}",
        }
        with self._session.opened(self._url, headers, body) as response:  # what the answer says besides is not read
            if not 200 <= response.status_code < 300:
                label = self._session.endpoint.label
                raise error_of(response.status_code, label, response.headers.get("Retry-After"))

    def _signature(self, notice_id: str, body: bytes, at: int) -> str:
        signed = b".".join((notice_id.encode(), str(at).encode(), body))
        return base64.b64encode(hmac.digest(self._key, signed, hashlib.sha256)).decode()
