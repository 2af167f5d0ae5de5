"""A file in a bucket (``gs://`` through gcsfs, ``s3://`` through s3fs), read in parts."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from connectors.http import retrying
from connectors.protocols import Traffic
from connectors.ranges.reader import FileFacts
from models.domain.errors import (
    AccessDenied,
    EndpointError,
    EndpointUnreachable,
    ExtraMissing,
    RequestError,
    SlidewireError,
    SourceUnreadable,
)

_TIMEOUT_S = 120.0  # one part, with the library's own retries
_CONNECTIONS = 8
# By name: which of these libraries is installed is the user's business.
_NO_CREDENTIALS = {"DefaultCredentialsError", "NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"}
_NO_CONNECTION = {"ClientConnectorError", "EndpointConnectionError", "ConnectionClosedError", "ServerDisconnectedError"}


class _Changed(Exception):
    """The object is no longer the one that was opened."""


def lacks_credentials(exc: Exception) -> bool:
    """Whether a bucket's library found no credentials to use."""
    return type(exc).__name__ in _NO_CREDENTIALS


def is_forbidden(exc: Exception) -> bool:
    """Whether a bucket's library says 401 or 403; gcsfs says it in words or in a code."""
    words = str(exc.args[0]) if exc.args else ""
    return isinstance(exc, PermissionError) or words.startswith("Forbidden") or getattr(exc, "code", 0) in {401, 403}


def _error_of(exc: Exception, name: str, scheme: str) -> SlidewireError:
    """Return what a library's exception means; its text holds addresses and is not kept."""
    if isinstance(exc, ImportError):
        return ExtraMissing(f"Reading from {scheme}:// needs the extra 'files': pip install 'slidewire[files]'.")
    if isinstance(exc, _Changed):
        return SourceUnreadable(f"{name} changed in its bucket while it was read: submit the slide again.")
    if isinstance(exc, FileNotFoundError):
        return SourceUnreadable(f"There is no object {name!r} in that bucket.")
    return _access_error(exc, scheme) or _transport_error(exc, name)


def _access_error(exc: Exception, scheme: str) -> SlidewireError | None:
    if lacks_credentials(exc):
        command = "gcloud auth application-default login" if scheme == "gs" else "aws configure, or aws sso login"
        return AccessDenied(
            f"There are no credentials for {scheme}://: run {command}, or set SLIDEWIRE_CLOUD_CREDENTIALS=none "
            "for a public bucket."
        )
    if is_forbidden(exc):
        return AccessDenied("The bucket denies access: check the credentials of the worker's account.")
    return None


def _transport_error(exc: Exception, name: str) -> SlidewireError:
    kind = type(exc).__name__
    if isinstance(exc, TimeoutError | asyncio.TimeoutError):
        return EndpointUnreachable(f"The bucket did not give {name} within {_TIMEOUT_S:g} s.")
    if isinstance(exc, OSError) or kind in _NO_CONNECTION:
        return EndpointUnreachable(f"The bucket did not give {name} ({kind}).")
    return EndpointError(f"The bucket did not give {name} ({kind}).")


@contextmanager
def _translated(name: str, scheme: str) -> Iterator[None]:
    try:
        yield
    except SlidewireError:
        raise
    except Exception as exc:  # noqa: BLE001 - the file systems of buckets raise what they like
        raise _error_of(exc, name, scheme) from None


def _place(uri: str) -> tuple[str, str, str]:
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if not bucket or not key or key.endswith("/"):
        raise RequestError(f"A file in a bucket is {scheme}://BUCKET/OBJECT.")
    return bucket, key, key.rpartition("/")[2][:100]


class GoogleFile:
    """A `RangeFile` in Cloud Storage; every part is asked of the generation that was opened.

    Parameters
    ----------
    uri : str
        ``gs://BUCKET/OBJECT``.
    anonymous : bool
        Use no credentials (public buckets) instead of Google's application default credentials.
    """

    def __init__(self, uri: str, *, anonymous: bool) -> None:
        self._bucket, self._key, self._name = _place(uri)
        with _translated(self._name, "gs"):
            from gcsfs.core import GCSFileSystem  # its subclass asks a second service what kind of bucket it is

            self._system: Any = GCSFileSystem(
                token="anon" if anonymous else "google_default", skip_instance_cache=True, use_listings_cache=False
            )
            about = self._system.call("GET", "b/{}/o/{}", self._bucket, self._key, json_out=True, timeout=_TIMEOUT_S)
            size, self._generation = int(about["size"]), str(about.get("generation", ""))
        self._facts = FileFacts(self._name, size, self._generation, _CONNECTIONS, opening=Traffic(1, 0))

    @property
    def facts(self) -> FileFacts:
        """Name, size, generation."""
        return self._facts

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        return retrying(lambda: self._read(start, stop))

    def _read(self, start: int, stop: int) -> bytes:
        with _translated(self._name, "gs"):
            path = f"{self._bucket}/{self._key}"
            try:
                data: bytes = self._system.cat_file(
                    path, start=start, end=stop, generation=self._generation or None, timeout=_TIMEOUT_S
                )
            except FileNotFoundError:
                raise _Changed from None
            if len(data) != stop - start:
                raise _Changed
            return data

    def close(self) -> None:
        """Close the connections."""
        with _translated(self._name, "gs"):
            from fsspec.asyn import sync

            session = self._system._session  # noqa: SLF001 - there is no other way to close it
            if session is not None:
                sync(self._system.loop, session.close, timeout=_TIMEOUT_S)


class S3File:
    """A `RangeFile` in S3; every part is asked for on condition of the ETag that was opened.

    Parameters
    ----------
    uri : str
        ``s3://BUCKET/OBJECT``.
    anonymous : bool
        Use no credentials (public buckets) instead of AWS's default chain.
    """

    def __init__(self, uri: str, *, anonymous: bool) -> None:
        self._bucket, self._key, self._name = _place(uri)
        with _translated(self._name, "s3"):
            from s3fs import S3FileSystem

            self._system: Any = S3FileSystem(anon=anonymous, skip_instance_cache=True, use_listings_cache=False)
            about = self._system.call_s3("head_object", Bucket=self._bucket, Key=self._key, timeout=_TIMEOUT_S)
            size, self._etag = int(about["ContentLength"]), str(about.get("ETag", ""))
        self._facts = FileFacts(self._name, size, self._etag, _CONNECTIONS, opening=Traffic(1, 0))

    @property
    def facts(self) -> FileFacts:
        """Name, size, ETag."""
        return self._facts

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        return retrying(lambda: self._read(start, stop))

    def _read(self, start: int, stop: int) -> bytes:
        with _translated(self._name, "s3"):
            try:
                data = self._get(start, stop)
            except FileNotFoundError:
                raise _Changed from None
            except OSError as exc:
                raise (_Changed if _is_precondition(exc) else exc) from None
            if len(data) != stop - start:
                raise _Changed
            return data

    def _get(self, start: int, stop: int) -> bytes:
        from fsspec.asyn import sync

        asked = {"Bucket": self._bucket, "Key": self._key, "Range": f"bytes={start}-{stop - 1}"}
        if self._etag:
            asked["IfMatch"] = self._etag
        body = self._system.call_s3("get_object", **asked, timeout=_TIMEOUT_S)["Body"]
        try:
            data: bytes = sync(self._system.loop, body.read, timeout=_TIMEOUT_S)
        finally:
            body.close()
        return data

    def close(self) -> None:
        """Close the connections."""
        with _translated(self._name, "s3"):
            from fsspec.asyn import sync

            client = self._system._s3  # noqa: SLF001 - there is no other way to close it
            if client is not None:
                sync(self._system.loop, client.close, timeout=_TIMEOUT_S)


def _is_precondition(exc: OSError) -> bool:
    """Whether S3 says that the object has another ETag now (412); s3fs keeps the answer as the cause."""
    answer = getattr(exc.__cause__, "response", None)
    return isinstance(answer, dict) and answer.get("Error", {}).get("Code") in {"PreconditionFailed", "412"}
