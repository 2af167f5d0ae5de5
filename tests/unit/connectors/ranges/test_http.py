"""A file on a web server: servers that know no ranges, change the file, send other bytes, or say no."""

from collections.abc import Iterator

import numpy as np
import pytest

from connectors.endpoints import Credentials, Endpoint, Timeouts
from connectors.ranges.http import HttpFile
from models.domain.errors import (
    AccessDenied,
    EndpointBusy,
    EndpointError,
    EndpointUnreachable,
    ResponseInvalid,
    SlidewireError,
    SourceUnreadable,
)
from tests.services.http import Asked, Reply, StrictServer
from tests.services.range_reply import ServedFile

_CONTENT = np.random.default_rng(5).integers(0, 256, 300_000, np.uint8).tobytes()


@pytest.fixture
def served(server: StrictServer) -> ServedFile:
    """Serve a file of 300,000 bytes by ranges."""
    file = ServedFile(_CONTENT)
    server.replies = [file]
    return file


@pytest.fixture
def endpoint(server: StrictServer) -> Endpoint:
    """Point at it, with little patience."""
    return Endpoint(f"{server.url}/slides/patient%20one.svs", timeouts=Timeouts(read_s=0.5, total_s=2.0))


@pytest.fixture
def opened(served: ServedFile, endpoint: Endpoint) -> Iterator[HttpFile]:
    """Open the file."""
    file = HttpFile(endpoint)
    yield file
    file.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(404), SourceUnreadable),
        (Reply(410), SourceUnreadable),
        (Reply(416), SourceUnreadable),
        (Reply(401), AccessDenied),
        (Reply(403), AccessDenied),
        (Reply(302, headers={"Location": "http://169.254.169.254/secret"}), ResponseInvalid),
        (Reply(206, b"x" * 10), ResponseInvalid),  # which part?
        (Reply(206, b"x" * 10, {"Content-Range": "bytes 0-9/*"}), ResponseInvalid),
        (Reply(206, b"x" * 10, {"Content-Range": "bytes 0-9/5"}), ResponseInvalid),
        (Reply(206, b"x" * 99, {"Content-Range": "bytes 0-9/500"}), ResponseInvalid),
        (Reply(206, b"x" * 10, {"Content-Range": "bytes 0-99999999/999999999"}), ResponseInvalid),
        (Reply(200, b""), SourceUnreadable),
        (Reply(200, b"x", {"Content-Length": str(1 << 40)}), ResponseInvalid),
        (Reply(206, b"x", {"Content-Range": "bytes 0-0/1", "Content-Encoding": "gzip"}), ResponseInvalid),
    ],
)
def test_refusals(reply: Reply, error: type[SlidewireError], server: StrictServer, endpoint: Endpoint) -> None:
    """Each answer that gives no file is an error of its own kind, at once, and does not tell where it led."""
    server.replies = [reply]
    with pytest.raises(error) as caught:
        HttpFile(endpoint)
    assert caught.type is error
    assert len(server.asked) == 1
    assert "169.254" not in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(503, headers={"Retry-After": "60"}), EndpointBusy),
        pytest.param(Reply(silent=True), EndpointUnreachable, marks=pytest.mark.faults),
        (Reply(206, b"x", {"Content-Range": "bytes 0-0/1"}, drip=True), EndpointError),
    ],
)
def test_slow_servers(reply: Reply, error: type[SlidewireError], server: StrictServer, endpoint: Endpoint) -> None:
    """A server that is busy, silent or drips ends in an error, never in waiting for ever."""
    server.replies = [reply]
    with pytest.raises(error):
        HttpFile(endpoint)


def test_large_file_without_ranges(server: StrictServer, endpoint: Endpoint) -> None:
    """A server that ignores Range is told apart, and a large file is not swallowed, also without a length."""
    server.replies = [Reply(200, b"x" * (1 << 20), drip=True)]
    with pytest.raises(ResponseInvalid, match="Range"):
        HttpFile(Endpoint(endpoint.url, timeouts=Timeouts(total_s=30.0)))


def test_small_file_without_ranges(served: ServedFile, endpoint: Endpoint) -> None:
    """A small file of such a server is read whole, once."""
    served.ranges = False
    file = HttpFile(endpoint)
    assert file.read(1000, 2000) == _CONTENT[1000:2000]
    assert file.facts.head == _CONTENT
    assert served.asked == 1
    file.close()


def test_read(opened: HttpFile, served: ServedFile) -> None:
    """A part is asked for as it is needed, and its bytes are those of the file."""
    assert (opened.facts.size, opened.facts.name) == (len(_CONTENT), "patient one.svs")
    assert opened.read(200_000, 250_000) == _CONTENT[200_000:250_000]
    assert served.sent == 65536 + 50_000
    assert opened.facts.version == '"1"'


@pytest.mark.parametrize(
    "headers", [{"ETag": '"2"'}, {"ETag": '"1"', "Last-Modified": "Tue, 01 Dec 2026 00:00:00 GMT"}]
)
def test_file_that_changes(headers: dict[str, str], opened: HttpFile, served: ServedFile) -> None:
    """Another version of the file gives no bytes: old tiles and new ones do not mix."""
    served.headers = headers
    with pytest.raises(SourceUnreadable, match="changed"):
        opened.read(100_000, 100_010)


def test_file_that_grows(opened: HttpFile, served: ServedFile) -> None:
    """Nor does a file of another length under the same ETag."""
    served.content += b"more"
    with pytest.raises(SourceUnreadable, match="changed"):
        opened.read(100_000, 100_010)


def test_other_bytes(opened: HttpFile, server: StrictServer) -> None:
    """A part other than the one asked for is refused."""
    server.replies = [Reply(206, b"x" * 10, {"ETag": '"1"', "Content-Range": f"bytes 0-9/{len(_CONTENT)}"})]
    with pytest.raises(ResponseInvalid):
        opened.read(100_000, 100_010)


def test_broken_connection(opened: HttpFile, server: StrictServer, served: ServedFile) -> None:
    """A connection that breaks in the middle of a part is tried again."""

    def torn(asked: Asked) -> Reply:
        reply = served(asked)
        return Reply(reply.status, reply.body, reply.headers, cut=5)

    server.replies = [torn, served]
    assert opened.read(100_000, 110_000) == _CONTENT[100_000:110_000]
    assert served.asked == 3


def test_credentials(server: StrictServer, served: ServedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint's credentials go with every request, and no compressed answer is asked for."""
    monkeypatch.setenv("SLIDES_TOKEN", "token-4711")
    file = HttpFile(Endpoint(f"{server.url}/a.svs", "slides", Credentials("bearer", secret="env:SLIDES_TOKEN")))
    file.read(100_000, 100_010)
    file.close()
    assert [asked.headers["authorization"] for asked in server.asked] == ["Bearer token-4711"] * 2
    assert {asked.headers["Accept-Encoding"] for asked in server.asked} == {"identity"}
    assert served.asked == 2
