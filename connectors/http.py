"""One pooled, kept-open HTTP session an endpoint, with its timeouts, one retry layer, and our errors only."""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import google.auth.exceptions
import requests
import stamina
import urllib3
from requests.adapters import HTTPAdapter

from connectors.body import MAX_BODY_BYTES, read_body
from connectors.credentials import factory_of
from connectors.endpoints import Endpoint, lies_under
from connectors.oidc import OidcCredentials
from connectors.protocols import Traffic
from connectors.upload import Upload
from models.domain.errors import (
    AccessDenied,
    CredentialsMissing,
    EndpointBusy,
    EndpointError,
    EndpointFailed,
    EndpointNotAllowed,
    EndpointPaused,
    EndpointUnreachable,
    ResponseInvalid,
    SettingsInvalid,
    SlidewireError,
)

T = TypeVar("T")

_ATTEMPTS = 4
_JSON = "application/json"
_POSTED_ANSWER_BYTES = 16 << 20
_BUSY = {408, 425, 429, 503}
WAITED_IN_PLACE_S = 30.0
"""The longest Retry-After that is waited for here; longer waits belong to the ledger."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: status, Content-Type, body."""

    status: int
    content_type: str
    body: bytes


def retry_after_s(value: str | None) -> float | None:
    """Return a Retry-After header (seconds or date, RFC 9110 10.2.3) in seconds from now."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def error_of(status: int, label: str, retry_after: str | None = None) -> SlidewireError:
    """Return the error that a failing status stands for."""
    if status in {401, 403}:
        return AccessDenied(f"The {label} denies access ({status}): check its credentials and what they may do.")
    if status in _BUSY:
        return EndpointBusy(f"The {label} is busy ({status}).", retry_after_s(retry_after))
    if status >= 500:
        return EndpointFailed(f"The {label} failed ({status}): look into its log.", retry_after_s(retry_after))
    if 300 <= status < 400:
        return ResponseInvalid(f"The {label} redirects ({status}); configure the address it redirects to.")
    return ResponseInvalid(f"The {label} refused the request ({status}).")


def _tls_error(label: str, exc: Exception) -> EndpointError:
    if "CERTIFICATE_VERIFY_FAILED" in str(exc):
        return EndpointError(
            f"The certificate of the {label} is not trusted: give the authority's certificates as ca_bundle."
        )
    return EndpointError(
        f"No TLS connection to the {label} can be made: does it speak TLS there, and want a client_certificate?"
    )


def client_certificate(endpoint: Endpoint) -> tuple[str, str] | None:
    """Return the files of an endpoint's client certificate and its key; None if it has none.

    Raises
    ------
    SettingsInvalid
        A file is missing, or the two are no pair. A key that is locked by a password cannot be used.
    """
    certificate = endpoint.client_certificate
    if certificate is None:
        if endpoint.client_key is not None:
            raise SettingsInvalid(f"The {endpoint.label} has a client_key and no client_certificate.")
        return None
    key = endpoint.client_key or certificate
    for name, path in (("client_certificate", certificate), ("client_key", key)):
        if not path.is_file():
            raise SettingsInvalid(f"The {name} of the {endpoint.label} is no file.")
    try:
        ssl.create_default_context().load_cert_chain(certificate, key, password="")  # never asked for at a terminal
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise SettingsInvalid(
            f"The client_certificate and client_key of the {endpoint.label} are no PEM files of a certificate and its "
            f"key without a password ({type(exc).__name__})."
        ) from None
    return str(certificate), str(key)


@contextmanager
def translated(label: str) -> Iterator[None]:
    """Turn what requests raises into our errors; the originals' texts hold URLs and are not kept."""
    try:
        yield
    except requests.exceptions.SSLError as exc:
        raise _tls_error(label, exc) from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise EndpointUnreachable(f"The {label} did not answer in time.") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        raise EndpointUnreachable(f"The connection to the {label} cannot be made, or broke.") from None
    except urllib3.exceptions.DecodeError:
        raise ResponseInvalid(f"The {label} answered with a body that cannot be unpacked.") from None
    except urllib3.exceptions.HTTPError:
        raise EndpointUnreachable(f"The connection to the {label} cannot be made, or broke.") from None
    except (requests.RequestException, UnicodeError) as exc:
        raise EndpointError(f"The request to the {label} failed ({type(exc).__name__}).") from None


class HttpSession(requests.Session):
    """A session bound to one endpoint; safe for as many threads as the endpoint has connections.

    Parameters
    ----------
    endpoint : Endpoint
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        if endpoint.ca_bundle is not None and not endpoint.ca_bundle.is_file():
            raise SettingsInvalid(f"The ca_bundle of the {endpoint.label} is no file.")
        self._certificate = client_certificate(endpoint)
        self.endpoint = endpoint
        self.credential_factory = factory_of(endpoint.credentials, endpoint.ca_bundle)
        self._limits = endpoint.timeouts
        self._origin = urlunsplit((*urlsplit(endpoint.url)[:2], "", "", ""))
        self._slots = threading.BoundedSemaphore(endpoint.connections)
        self._counting = threading.Lock()
        self._requests = self._bytes = 0
        self.auth = self._authorise  # also keeps requests from looking into ~/.netrc
        adapter = HTTPAdapter(pool_connections=1, pool_maxsize=endpoint.connections, pool_block=True)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def _authorise(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        headers: dict[str, str] = {}
        try:
            self.credential_factory.get_credentials().apply(headers)
        except google.auth.exceptions.GoogleAuthError as exc:
            raise CredentialsMissing(
                f"There are no credentials for the {self.endpoint.label} ({type(exc).__name__}): "
                "check Google's application default credentials."
            ) from None
        prepared.headers.update(headers)
        return prepared

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send one request with the endpoint's timeouts, to this server only: nobody else sees its credentials.

        The gate is told of the end of a request whose body is read here, not of a stream's: see `opened`.
        """
        if not lies_under(request.url or "", self._origin):
            raise EndpointNotAllowed(f"The {self.endpoint.label} refers to another address; it is not followed there.")
        kwargs["allow_redirects"] = False
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = (self._limits.connect_s, self._limits.read_s)
        if self.endpoint.ca_bundle is not None:  # here, where REQUESTS_CA_BUNDLE can no longer overrule it
            kwargs["verify"] = str(self.endpoint.ca_bundle)
        if self._certificate is not None:
            kwargs["cert"] = self._certificate
        if kwargs.get("stream"):
            return self._send_renewed(request, kwargs)
        with self._reported() as said:
            response = self._send_renewed(request, kwargs)
            if not response.ok:
                said.append(error_of(response.status_code, self.endpoint.label, response.headers.get("Retry-After")))
        return response

    def _send_renewed(self, request: requests.PreparedRequest, options: dict[str, Any]) -> requests.Response:
        response = self._send_once(request, options)
        try:
            renewed = response.status_code == 401 and self._renewed(request)
        except BaseException:
            response.close()  # a stream keeps its connection, and the pool would wait for it for ever
            raise
        if renewed:
            response.close()
            response = self._send_once(request, options)
        return response

    def _send_once(self, request: requests.PreparedRequest, options: dict[str, Any]) -> requests.Response:
        self.endpoint.gate.admit()
        self._count(1, 0)
        with translated(self.endpoint.label):
            response = super().send(request, **options)
        if not options.get("stream"):
            self._count(0, len(response.content))
        return response

    def _renewed(self, request: requests.PreparedRequest) -> bool:
        """Whether a request that was refused carries a newer token now: a server may forget one before its time."""
        credentials = self.credential_factory.get_credentials()
        if not isinstance(credentials, OidcCredentials):
            return False
        credentials.discard(request.headers)
        body: object = request.body
        if body is not None and not isinstance(body, bytes | str | Upload):
            return False  # it is sent, and cannot be sent again; the next request fetches a token
        credentials.apply(request.headers)
        return True

    @contextmanager
    def _reported(self) -> Iterator[list[SlidewireError]]:
        """Tell the gate how a request ends: by what is raised, or else by what is put into the list."""
        said = list[SlidewireError]()
        try:
            yield said
        except (EndpointPaused, EndpointNotAllowed, CredentialsMissing):
            raise  # it was not sent
        except SlidewireError as exc:
            self.endpoint.gate.report(exc)
            raise
        self.endpoint.gate.report(said[0] if said else None)

    @contextmanager
    def opened(
        self, url: str, headers: Mapping[str, str], body: bytes | Upload | None = None
    ) -> Iterator[requests.Response]:
        """GET, or POST a body, for the length of a block, which reads the answer and raises what is wrong with it.

        Who is sent an object may take all the time there is before the first byte of the answer: it is stored first.

        Raises
        ------
        EndpointUnreachable
            No connection came free, none can be made, or it breaks.
        """
        label, method = self.endpoint.label, "GET" if body is None else "POST"
        if not self._slots.acquire(timeout=self._limits.pool_s):
            raise EndpointUnreachable(f"No connection to the {label} came free within {self._limits.pool_s:g} s.")
        limits = (self._limits.connect_s, self._limits.total_s) if isinstance(body, Upload) else None
        try:
            with (
                self._reported(),
                translated(label),
                self.request(method, url, headers=headers, data=body, timeout=limits, stream=True) as response,
            ):
                yield response
        finally:
            self._slots.release()

    @property
    def traffic(self) -> Traffic:
        """Requests sent and bytes read so far, as they came over the line."""
        with self._counting:
            return Traffic(self._requests, self._bytes)

    def _count(self, requests_sent: int, bytes_read: int) -> None:
        with self._counting:
            self._requests += requests_sent
            self._bytes += bytes_read

    def fetch(
        self, url: str, accept: str, also: frozenset[int] = frozenset(), most_bytes: int = MAX_BODY_BYTES
    ) -> Answer:
        """GET a resource whole, retrying what is worth it.

        Parameters
        ----------
        url : str
        accept : str
            The Accept header.
        also : frozenset of int
            Statuses besides 2xx that the caller wants to judge.
        most_bytes : int
            Of a body; a larger one is given up.

        Raises
        ------
        EndpointError
            Any other status, a broken connection, an overlong body.
        """
        return retrying(lambda: self.fetch_once(url, accept, also, most_bytes))

    def fetch_once(self, url: str, accept: str, also: frozenset[int], most_bytes: int = MAX_BODY_BYTES) -> Answer:
        """GET a resource whole, as `fetch`, without retrying."""
        headers = {"Accept": accept, "Accept-Encoding": "gzip" if "json" in accept else "identity"}
        return self._answer(url, headers, also, most_bytes)

    def post_once(self, url: str, upload: Upload, accept: str, also: frozenset[int]) -> Answer:
        """POST a body that is sent by pieces, without retrying; else as `fetch`."""
        headers = {"Accept": accept, "Accept-Encoding": "gzip", "Content-Type": upload.content_type}
        return self._answer(url, headers, also, _POSTED_ANSWER_BYTES, upload)

    def post_json(self, url: str, document: object, also: frozenset[int], most_bytes: int) -> Answer:
        """POST a JSON document, without retrying; else as `fetch`."""
        headers = {"Accept": _JSON, "Accept-Encoding": "gzip", "Content-Type": _JSON}
        return self._answer(url, headers, also, most_bytes, json.dumps(document).encode())

    def _answer(
        self,
        url: str,
        headers: Mapping[str, str],
        also: frozenset[int],
        most_bytes: int,
        body: bytes | Upload | None = None,
    ) -> Answer:
        label = self.endpoint.label
        with self.opened(url, headers, body) as response:
            if not 200 <= response.status_code < 300 and response.status_code not in also:
                raise error_of(response.status_code, label, response.headers.get("Retry-After"))
            try:
                content = read_body(response, self._limits, label, most_bytes)
            finally:
                self._count(0, response.raw.tell())
            return Answer(response.status_code, response.headers.get("Content-Type", ""), content)


class Spoiled(Exception):
    """An answer that arrived and cannot be used, though another try may bring a good one.

    Parameters
    ----------
    error : SlidewireError
        What it is when all tries are used up.
    """

    def __init__(self, error: SlidewireError) -> None:
        super().__init__(error.message)
        self.error = error


def _worth_retrying(exc: Exception) -> bool | float:
    if isinstance(exc, Spoiled):
        return True
    if not isinstance(exc, SlidewireError) or not exc.retryable or isinstance(exc, EndpointPaused):
        return False
    if exc.retry_after_s is None:
        return True
    return exc.retry_after_s if exc.retry_after_s <= WAITED_IN_PLACE_S else False


def retrying(call: Callable[[], T], attempts: int = _ATTEMPTS) -> T:
    """Call until it succeeds, fails for good, or has failed `attempts` times; Retry-After is honoured.

    Raises
    ------
    SlidewireError
        The last one; for a `Spoiled` answer, the error it carries.
    """
    try:
        for attempt in stamina.retry_context(on=_worth_retrying, attempts=attempts, timeout=120.0, wait_initial=0.2):
            with attempt:
                return call()
    except Spoiled as exc:
        raise exc.error from None
    raise AssertionError("unreachable")


def json_of(answer: Answer, label: str, decode: Callable[[bytes], Any], service: str = "its DICOMweb") -> Any:
    """Return an answer's JSON; HTML, a login page or broken text is an error; `service` is what should be there."""
    if "json" not in answer.content_type.lower():
        kind = answer.content_type.partition(";")[0] or "nothing named"
        raise ResponseInvalid(f"The {label} answered with {kind} instead of JSON: is the URL that of {service}?")
    try:
        return decode(answer.body)
    except (ValueError, RecursionError) as exc:
        raise ResponseInvalid(f"The {label} answered with broken JSON.") from exc
