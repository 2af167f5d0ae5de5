"""A stand-in for the Hugging Face hub and the store behind it: refuses what they refuse, and fails as it is told to.

Large files (Git LFS) are redirected to a second address, as the hub does, with a signed link that takes no token. What
the hub would never be asked by an honest client is noted in `violations`, and fails the test.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

_INFO = re.compile(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)")
_FILE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_BLOB = re.compile(r"/blobs/([0-9a-f]{64})")
_LARGE_BYTES = 1000


@dataclass
class Repository:
    """What the hub holds.

    Parameters
    ----------
    files : mapping of str to bytes
    commit : str
    gated : bool
        Only those tokens may read its files that `HubServer.members` lists.
    """

    files: Mapping[str, bytes]
    commit: str = "a" * 40
    gated: bool = False


@dataclass
class Faults:
    """What goes wrong with the bytes of large files, each for one answer.

    Parameters
    ----------
    cuts : list of int
        The connection breaks after so many bytes.
    refusals : list of int
        Statuses instead of the bytes: of a link that got old, of a store that fails.
    no_ranges : bool
        The whole file is sent whatever was asked for, from now on.
    other_bytes : bool
        One byte is another, from now on.
    hold_at : int or None
        After so many bytes nothing more comes until the other side has gone, or `HubServer.released` is set; once.
    busy : int
        So many questions to the hub itself are answered 503.
    """

    cuts: list[int] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    no_ranges: bool = False
    other_bytes: bool = False
    hold_at: int | None = None
    busy: int = 0


class HubServer:
    """The hub on one port, its store on another."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.members: dict[str, set[str]] = {}
        self.faults = Faults()
        self.asked: list[tuple[str, str]] = []
        self.ranges: list[str] = []
        self.agents: set[str] = set()
        self.violations: list[str] = []
        self.sent = 0
        self.held = threading.Event()
        self.released = threading.Event()
        self.stopping = threading.Event()
        self._servers: list[_Server] = []
        self._threads: list[threading.Thread] = []
        self._hub, self._store = self._start(_Hub), self._start(_Store)

    @property
    def url(self) -> str:
        """Of the hub."""
        return f"http://127.0.0.1:{self._hub.server_port}"

    @property
    def store_url(self) -> str:
        """Where large files lie; another address, so that no token may go there."""
        return f"http://localhost:{self._store.server_port}"

    def content(self, sha256: str) -> bytes | None:
        """Return a large file by its digest."""
        blobs = (content for one in self.repositories.values() for content in one.files.values())
        return next((content for content in blobs if hashlib.sha256(content).hexdigest() == sha256), None)

    def stop(self) -> None:
        """Be gone, as on a machine without a network."""
        self.stopping.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        self._servers, self._threads = [], []

    def _start(self, handler: "type[_Handler]") -> "_Server":
        server = _Server(handler, self)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        self._servers.append(server)
        self._threads.append(thread)
        return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: "type[_Handler]", hub: HubServer) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.hub = hub

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients that go away are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def do_GET(self) -> None:
        self.hub.asked.append((self.command, urlsplit(self.path).path))
        self.hub.agents.add(self.headers.get("User-Agent", ""))
        self.answer()

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def answer(self) -> None:
        raise NotImplementedError

    def refuse(self, status: int, code: str = "", message: str = "") -> None:
        self.say(status, b"", {"X-Error-Code": code, "X-Error-Message": message})

    def strange(self) -> None:
        self.hub.violations.append(f"{type(self).__name__} {self.command} {self.path.partition('?')[0]}")
        self.refuse(404)

    def say(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Hub(_Handler):
    def answer(self) -> None:
        if self.hub.faults.busy:
            self.hub.faults.busy -= 1
            self.refuse(503)
            return
        split = urlsplit(self.path)
        info, file = _INFO.fullmatch(split.path), _FILE.fullmatch(split.path)
        if info is None and file is None:
            self.strange()
            return
        name, revision = (info or file).group(1, 2)  # type: ignore[union-attr]
        repository = self._readable(name, unquote(revision), files=file is not None)
        if repository is None:
            return
        if info is not None:
            self._info(name, repository, parse_qs(split.query))
        elif file is not None:
            self._file(repository, unquote(file.group(3)))

    def _readable(self, name: str, revision: str, *, files: bool) -> Repository | None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.members:
            self.refuse(401, "", "Invalid credentials in Authorization header")
            return None
        repository = self.hub.repositories.get(name)
        if repository is None:
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif revision not in {"main", repository.commit}:
            self.refuse(404, "RevisionNotFound", "Invalid rev id")
        elif files and repository.gated and name not in self.hub.members.get(token, set()):
            self.refuse(403 if token else 401, "GatedRepo", "Access to this model is restricted.")
        else:
            return repository
        return None

    def _info(self, name: str, repository: Repository, query: Mapping[str, list[str]]) -> None:
        siblings: list[dict[str, Any]] = []
        for path, content in repository.files.items():
            sibling: dict[str, Any] = {"rfilename": path}
            if query.get("blobs"):
                blob = b"blob %d\0" % len(content) + content
                sibling |= {"size": len(content), "blobId": hashlib.sha1(blob).hexdigest()}
                if len(content) >= _LARGE_BYTES:
                    digest = hashlib.sha256(content).hexdigest()
                    sibling["lfs"] = {"size": len(content), "sha256": digest, "pointerSize": 134}
            siblings.append(sibling)
        reply = {"id": name, "modelId": name, "sha": repository.commit, "gated": repository.gated, "siblings": siblings}
        reply |= {"private": False, "tags": [], "downloads": 0, "likes": 0}
        self.say(200, json.dumps(reply).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def _file(self, repository: Repository, path: str) -> None:
        content = repository.files.get(path)
        if content is None:
            self.refuse(404, "EntryNotFound", "Entry not found")
            return
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": repository.commit, "ETag": f'"{digest}"'}
        if len(content) < _LARGE_BYTES:
            self.say(200, content, headers)
            return
        where = f"{self.hub.store_url}/blobs/{digest}?Signature={quote('s1gn3d/link')}"
        linked = {"Location": where, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        self.say(302, b"", headers | linked)


class _Store(_Handler):
    def answer(self) -> None:
        split, faults = urlsplit(self.path), self.hub.faults
        found = _BLOB.fullmatch(split.path)
        content = self.hub.content(found.group(1)) if found else None
        if "Authorization" in self.headers or "Signature" not in parse_qs(split.query) or content is None:
            self.strange()
            return
        if faults.refusals:
            self.refuse(faults.refusals.pop(0))
            return
        if faults.other_bytes:
            content = content[:-1] + bytes([content[-1] ^ 1])
        self._send(content, self.headers.get("Range", ""))

    def _send(self, content: bytes, asked: str) -> None:
        self.hub.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if asked and not self.hub.faults.no_ranges:
            if start >= len(content):
                self.say(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            self.send_response(206, "Partial Content")
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            content = content[start:]
        else:
            self.send_response(200, "OK")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self._write(content)

    def _write(self, content: bytes) -> None:
        faults = self.hub.faults
        hold, faults.hold_at = faults.hold_at, None
        cut = faults.cuts.pop(0) if faults.cuts else len(content)
        piece = content[: hold if hold is not None else cut]
        self.wfile.write(piece)
        self.hub.sent += len(piece)
        if hold is not None:
            self.hub.held.set()
            self.connection.settimeout(0.05)
            while not (self.hub.stopping.is_set() or self.hub.released.is_set()):
                try:
                    if not self.connection.recv(1):
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
        self.close_connection = len(piece) < len(content)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """Start a hub that holds nothing; a request that the real one would never get fails the test."""
    server = HubServer()
    yield server
    server.stop()
    assert server.violations == []
