"""A TCP proxy that counts the connections made through it."""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK_BYTES = 1 << 16


class CountingProxy:
    """Passes bytes on to a port of this machine, and counts.

    Attributes
    ----------
    connections, requests, closes : int
        So far; a request is a chunk that begins with an HTTP method, a close is an answer that announces one.
    """

    def __init__(self, target_port: int) -> None:
        self.connections = self.requests = self.closes = 0
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="proxy", daemon=True)]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Begin to listen."""
        self._threads[0].start()

    def stop(self) -> None:
        """Close everything, and wait for it."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            thread = threading.Thread(target=self._pass_on, args=(near,), name="proxied", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, near: socket.socket) -> None:
        with (
            suppress(OSError),
            near,
            socket.create_connection(self._target) as far,
            selectors.DefaultSelector() as any_,
        ):
            near.settimeout(None)
            any_.register(near, selectors.EVENT_READ, far)
            any_.register(far, selectors.EVENT_READ, near)
            while not self._over.is_set():
                for key, _ in any_.select(0.1):
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(_CHUNK_BYTES)
                    if not data:
                        return
                    if key.fileobj is near:
                        self.requests += data.startswith((b"GET ", b"POST "))
                    else:
                        self.closes += data.startswith(b"HTTP/") and b"\r\nConnection: close" in data[:400]
                    key.data.sendall(data)


@contextmanager
def counting_proxy(target_port: int) -> Iterator[CountingProxy]:
    """Run a proxy for the length of a block."""
    proxy = CountingProxy(target_port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
