"""The body of an answer, read within bounds: so long, so large, and not slower than a slow line."""

import time
import zlib
from collections.abc import Iterator

import requests

from connectors.endpoints import Timeouts
from models.domain.errors import EndpointUnreachable, ResponseInvalid

MAX_BODY_BYTES = 4 << 30
_CHUNK_BYTES = 1 << 20
_GZIP = {"gzip", "x-gzip"}
_GZIP_ONLY = 31  # zlib's window bits for a gzip header and trailer


class _Clock:
    """Watches how long a body takes, and that it never comes slower than the least rate for a whole window."""

    def __init__(self, limits: Timeouts, label: str) -> None:
        self._limits, self._label = limits, label
        self._window_start = time.monotonic()
        self._deadline = self._window_start + limits.total_s
        self._in_window = 0

    def count(self, arrived: int) -> None:
        """Take note of bytes that arrived just now."""
        now = time.monotonic()
        if now > self._deadline:
            raise EndpointUnreachable(f"The {self._label} took over {self._limits.total_s:g} s for one answer.")
        self._in_window += arrived
        elapsed = now - self._window_start
        if elapsed < self._limits.window_s:
            return
        if self._in_window < elapsed * self._limits.least_bytes_s:
            raise EndpointUnreachable(
                f"The {self._label} sends less than {self._limits.least_bytes_s:g} bytes a second: it was given up."
            )
        self._window_start, self._in_window = now, 0


class _Gunzip:
    """Unpacks a gzip body bit by bit (RFC 1952), never more than a chunk at a time."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._member = zlib.decompressobj(_GZIP_ONLY)

    def feed(self, packed: bytes) -> Iterator[bytes]:
        """Yield what more packed bytes unpack to."""
        try:
            while packed:
                if self._member.eof:  # one member may follow another (RFC 1952 2.2)
                    self._member = zlib.decompressobj(_GZIP_ONLY)
                yield self._member.decompress(packed, _CHUNK_BYTES)
                packed = self._member.unconsumed_tail or self._member.unused_data
        except zlib.error:
            raise self._broken() from None

    def end(self) -> None:
        """Refuse a body that ends in the middle."""
        if not self._member.eof:
            raise self._broken()

    def _broken(self) -> ResponseInvalid:
        return ResponseInvalid(f"The {self._label} answered with a body that cannot be unpacked.")


def arriving(response: requests.Response, limits: Timeouts, label: str) -> Iterator[bytes]:
    """Yield a body as it comes over the line, packed if it is, within the same bounds of time as `read_body`.

    Raises
    ------
    EndpointUnreachable
        It takes too long, or trickles.
    """
    clock = _Clock(limits, label)
    # read1 returns what has arrived: waiting for a full chunk, a server that drips would pass the deadline.
    while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
        clock.count(len(chunk))
        yield chunk


def _unpacked(chunks: Iterator[bytes], encoding: str, label: str) -> Iterator[bytes]:
    if encoding in {"", "identity"}:
        yield from chunks
        return
    if encoding not in _GZIP:
        raise ResponseInvalid(f"The {label} packs its answer in a way that was not asked for.")
    unpack = _Gunzip(label)
    for chunk in chunks:
        yield from unpack.feed(chunk)
    unpack.end()


def read_body(response: requests.Response, limits: Timeouts, label: str, most_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Read a body whole, unpacking gzip.

    urllib3 could unpack it, but goes on reading for as long as nothing comes out, past every deadline.

    Parameters
    ----------
    response : requests.Response
        Opened with ``stream=True``.
    limits : Timeouts
    label : str
        Of the endpoint, for messages.
    most_bytes : int
        Of the unpacked body; beyond, it is given up.

    Raises
    ------
    EndpointUnreachable
        It takes too long, or trickles.
    ResponseInvalid
        It is too large, or cannot be unpacked.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    body, size = [], 0
    for chunk in _unpacked(arriving(response, limits, label), encoding, label):
        size += len(chunk)
        if size > most_bytes:
            raise ResponseInvalid(f"The {label} sends an answer of more than {_amount(most_bytes)}: it was given up.")
        body.append(chunk)
    return b"".join(body)


def _amount(size: int) -> str:
    return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.1f} MiB"
