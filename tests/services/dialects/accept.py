"""The Accept header (RFC 9110 12.5.1) and multipart answers (PS3.18 8.6.1.2), as strict servers take and give them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.services.hostile import Answer

_BOUNDARY = "dialect-0f6c1e"
_ENTRY = re.compile(r'\s*((?:[^,"]|"[^"]*")+)')
_PARAMETER = re.compile(r'\s*([^=;\s]+)\s*=\s*("([^"]*)"|[^;]*)')


@dataclass(frozen=True)
class Range:
    """One media range: ``multipart/related; type="a/b"; transfer-syntax=*`` is ("multipart/related", "a/b", "*")."""

    media: str
    of: str = ""
    syntax: str = ""

    @property
    def single(self) -> bool:
        """Whether it asks for one part."""
        return self.media != "multipart/related"


def ranges(header: str) -> list[Range]:
    """Return the ranges of a header, in order."""
    found = []
    for entry in _ENTRY.findall(header):
        media, _, rest = entry.partition(";")
        values = {name.lower(): quoted or raw.strip().strip('"') for name, raw, quoted in _PARAMETER.findall(rest)}
        found.append(Range(media.strip().lower(), values.get("type", ""), values.get("transfer-syntax", "")))
    return found


@dataclass(frozen=True)
class Part:
    """One part of an answer."""

    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def multipart(parts: Sequence[Part], of: str, status: int = 200) -> Answer:
    """Return an answer of several parts."""
    body = bytearray()
    for part in parts:
        body += f"--{_BOUNDARY}\r\nContent-Type: {part.content_type}\r\n".encode()
        for name, value in part.headers.items():
            body += f"{name}: {value}\r\n".encode()
        body += b"\r\n" + part.body + b"\r\n"
    body += f"--{_BOUNDARY}--\r\n".encode()
    return Answer(status, bytes(body), {"Content-Type": f'multipart/related; type="{of}"; boundary={_BOUNDARY}'})
