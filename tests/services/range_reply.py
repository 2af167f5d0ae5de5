"""A file for the strict HTTP server, served by ranges (RFC 9110 14), and what it was asked for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.services.http import Asked, Reply

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass
class ServedFile:
    """Answers GET as a good web server does; `StrictServer.replies` takes it.

    Parameters
    ----------
    content : bytes
    headers : mapping
        Sent with every answer: an ETag, say. May be replaced meanwhile.
    ranges : bool
        Whether the server knows ranges; else it sends the whole file.

    Attributes
    ----------
    sent : int
        Bytes of all bodies.
    asked : int
        Requests.
    """

    content: bytes
    headers: Mapping[str, str] = field(default_factory=lambda: {"ETag": '"1"'})
    ranges: bool = True
    sent: int = 0
    asked: int = 0

    def __call__(self, asked: Asked) -> Reply:
        """Answer."""
        self.asked += 1
        found = _RANGE.fullmatch(asked.headers.get("Range", "")) if self.ranges else None
        if not found:
            self.sent += len(self.content)
            return Reply(200, self.content, self.headers)
        start, stop = int(found[1]), min(int(found[2]) + 1, len(self.content))
        if start >= stop:
            return Reply(416, b"", {"Content-Range": f"bytes */{len(self.content)}"})
        self.sent += stop - start
        about = {"Content-Range": f"bytes {start}-{stop - 1}/{len(self.content)}"}
        return Reply(206, self.content[start:stop], {**self.headers, **about})
