"""A body that is sent by pieces: its form, its length, and that a second try sends all of it."""

import hashlib
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from connectors.endpoints import Endpoint
from connectors.http import HttpSession
from connectors.upload import Upload
from models.domain.errors import AccessDenied, EndpointBusy
from tests.services.hostile import Answer, hostile_server

_FILE = b"\0" * 128 + b"DICM" + bytes(range(256)) * 40
_JSON = "application/dicom+json"


def _upload(file: bytes = _FILE) -> Upload:
    def chunks() -> Iterator[bytes]:
        for start in range(0, len(file), 1000):
            yield file[start : start + 1000]

    return Upload(chunks, len(file), hashlib.sha256(file).hexdigest())


def test_the_form() -> None:
    """One part of multipart/related, as another reader takes it apart; of the length that is told; twice the same."""
    upload = _upload()
    body = b"".join(upload)
    assert len(body) == len(upload)
    assert b"".join(upload) == body
    whole = message_from_bytes(f"Content-Type: {upload.content_type}\r\n\r\n".encode() + body)
    [part] = whole.get_payload()  # type: ignore[misc]
    assert (whole.get_content_type(), whole.get_param("type")) == ("multipart/related", "application/dicom")
    assert part.get_content_type() == "application/dicom"  # type: ignore[union-attr]
    assert part.get_payload(decode=True) == _FILE  # type: ignore[union-attr]


def test_the_length_is_told_and_each_try_is_whole() -> None:
    """Servers that want no chunked body get none; what was refused once is sent again from its beginning."""
    answers = [Answer(503), Answer(200, b"{}", {"Content-Type": _JSON})]
    with hostile_server(lambda _: answers.pop(0)) as server, HttpSession(Endpoint(server.url)) as session:
        upload = _upload()
        with pytest.raises(EndpointBusy):
            session.post_once(f"{server.url}/studies", upload, _JSON, frozenset())
        answer = session.post_once(f"{server.url}/studies", upload, _JSON, frozenset())
    assert (answer.status, answer.body) == (200, b"{}")
    assert [asked.objects for asked in server.asked] == [[_FILE], [_FILE]]
    assert {asked.headers["Content-Length"] for asked in server.asked} == {str(len(upload))}
    assert not [asked for asked in server.asked if "Transfer-Encoding" in asked.headers]


def test_statuses_that_the_caller_judges() -> None:
    """Those are answers; others are errors."""
    answers = [Answer(409, b"no"), Answer(403, b"no")]
    with hostile_server(lambda _: answers.pop(0)) as server, HttpSession(Endpoint(server.url)) as session:
        assert session.post_once(f"{server.url}/studies", _upload(), _JSON, frozenset({409})).body == b"no"
        with pytest.raises(AccessDenied):
            session.post_once(f"{server.url}/studies", _upload(), _JSON, frozenset({409}))


@contextmanager
def _counting_server() -> Iterator[tuple[str, list[int]]]:
    """Run a server that counts the bytes of a body and keeps none."""
    received: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            left = int(self.headers["Content-Length"])
            received.append(left)
            while left:
                left -= len(self.rfile.read(min(left, 1 << 16)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_sent_is_never_all_in_memory() -> None:
    """An object of 64 MB goes out by pieces of 1 MB."""
    piece = bytes(1 << 20)
    upload = Upload(lambda: (piece for _ in range(64)), 64 << 20, "ab" * 32)
    with _counting_server() as (url, received), HttpSession(Endpoint(url)) as session:
        tracemalloc.start()
        session.post_once(f"{url}/studies", upload, _JSON, frozenset())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert received == [len(upload)]
    assert peak < 16 << 20
