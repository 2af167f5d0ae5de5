"""A file on a web server, read in parts by Range requests (RFC 9110 14)."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import requests

from connectors.body import read_body
from connectors.endpoints import Endpoint
from connectors.http import HttpSession, error_of, retrying
from connectors.protocols import Traffic
from connectors.ranges.reader import BLOCK_BYTES, FileFacts
from models.domain.errors import EndpointUnreachable, ResponseInvalid, SlidewireError, SourceUnreadable

_WHOLE_BYTES = 64 << 20  # of a server that knows no ranges, a file up to this size is read whole
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class _Part:
    body: bytes
    start: int
    size: int  # of the whole file
    version: str


class HttpFile:
    """A `RangeFile` behind ``http://`` or ``https://``, with its endpoint's credentials and timeouts.

    Redirects are not followed, so nobody but the server that was allowed is asked. Each answer must be of the same
    version (ETag, Last-Modified, size) as the first.

    Parameters
    ----------
    endpoint : Endpoint
        Its URL is the file's.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._session = HttpSession(endpoint)
        self._endpoint = endpoint
        self._name = unquote(urlsplit(endpoint.url).path).rpartition("/")[2][:100] or "The file"
        self._whole: bytes | None = None
        try:
            first = retrying(lambda: self._get(0, BLOCK_BYTES))
        except BaseException:
            self._session.close()
            raise
        if len(first.body) == first.size:
            self._whole = first.body
        opening = Traffic(1, len(first.body))
        connections = 1 if self._whole is not None else endpoint.connections
        self._facts = FileFacts(self._name, first.size, first.version, connections, first.body, opening)

    @property
    def facts(self) -> FileFacts:
        """Name, size, version, and the first block."""
        return self._facts

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop)."""
        if self._whole is not None:
            return self._whole[start:stop]
        part = retrying(lambda: self._get(start, stop))
        if (part.version, part.size) != (self._facts.version, self._facts.size):
            raise SourceUnreadable(f"{self._name} changed on the server while it was read: submit the slide again.")
        if part.start != start or len(part.body) != stop - start:
            raise ResponseInvalid(f"The {self._endpoint.label} answered with other bytes than it was asked for.")
        return part.body

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _get(self, start: int, stop: int) -> _Part:
        # A range of compressed bytes would be of no use.
        headers = {"Range": f"bytes={start}-{stop - 1}", "Accept": "*/*", "Accept-Encoding": "identity"}
        with self._session.opened(self._endpoint.url, headers) as response:
            if response.status_code not in {200, 206}:
                raise self._refused(response)
            if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                label = self._endpoint.label
                raise ResponseInvalid(f"The {label} compresses the file on its way: its parts cannot be read.")
            return self._part(response, stop - start)

    def _part(self, response: requests.Response, length: int) -> _Part:
        version = "|".join(response.headers.get(name, "") for name in ("ETag", "Last-Modified")).strip("|")
        if response.status_code == 200:
            return self._all(response, version)
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not found:
            raise ResponseInvalid(
                f"The {self._endpoint.label} does not say which part of the file it sends, or how long the file is."
            )
        start, last, size = (int(number) for number in found.groups())
        expected = last + 1 - start
        if not 0 < expected <= length or last >= size:
            raise ResponseInvalid(f"The {self._endpoint.label} answered with other bytes than it was asked for.")
        body = read_body(response, self._endpoint.timeouts, self._endpoint.label, expected)
        if len(body) != expected:
            raise EndpointUnreachable(f"The connection to the {self._endpoint.label} broke off.")
        return _Part(body, start, size, version)

    def _all(self, response: requests.Response, version: str) -> _Part:
        """Take the whole file from a server that knows no ranges, if it is small."""
        too_large = ResponseInvalid(
            f"The {self._endpoint.label} knows no Range requests, and {self._name} has more than "
            f"{_WHOLE_BYTES >> 20} MiB: put it on a server that knows them, or into a bucket."
        )
        declared = response.headers.get("Content-Length", "")
        if declared.isdecimal() and int(declared) > _WHOLE_BYTES:
            raise too_large
        try:
            body = read_body(response, self._endpoint.timeouts, self._endpoint.label, _WHOLE_BYTES)
        except ResponseInvalid:
            raise too_large from None
        if not body:
            raise SourceUnreadable(f"{self._name} is empty.")
        return _Part(body, 0, len(body), version)

    def _refused(self, response: requests.Response) -> SlidewireError:
        status = response.status_code
        if status in {404, 410}:
            return SourceUnreadable(f"There is no file {self._name!r} on the {self._endpoint.label} ({status}).")
        if status == 416:
            return SourceUnreadable(f"{self._name} is empty, or became shorter while it was read ({status}).")
        return error_of(status, self._endpoint.label, response.headers.get("Retry-After"))
