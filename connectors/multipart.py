"""multipart/related bodies (RFC 2046 5.1, PS3.18 8.6.1.2), taken apart without copying the parts."""

import re
from dataclasses import dataclass
from email.message import Message
from functools import lru_cache

from models.domain.errors import ResponseInvalid

_LENGTH = re.compile(rb"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its Content-Type, a view of its bytes, and its Content-Location ("" if it has none)."""

    content_type: str
    data: memoryview
    location: str = ""


@lru_cache(maxsize=256)
def parameters(content_type: str) -> tuple[str, dict[str, str]]:
    """Return a Content-Type's media type and parameters, both lower-case by name."""
    message = Message()
    message["Content-Type"] = content_type
    pairs = message.get_params(failobj=[], unquote=True)[1:]
    return message.get_content_type(), {name.lower(): value for name, value in pairs if isinstance(value, str)}


def transfer_syntax_of(content_type: str) -> str:
    """Return the transfer syntax that a part's Content-Type names; "" if none.

    Orthanc puts it inside the quoted ``type`` of the response's own header; the part's header has it right.
    """
    _, params = parameters(content_type)
    return params.get("transfer-syntax", "").strip()


def parse(body: bytes, content_type: str, label: str, most: int | None = None) -> list[Part]:
    """Split a body into its parts.

    Parameters
    ----------
    body : bytes
    content_type : str
        Of the response; a single-part answer is one part.
    label : str
        Of the endpoint, for messages.
    most : int or None
        Parts that were asked for: of more than these, one is returned, to tell, and the rest is not looked at.

    Raises
    ------
    ResponseInvalid
        HTML, a missing boundary, a body that is cut off.
    """
    media, params = parameters(content_type)
    if not media.startswith("multipart/"):
        if media.startswith("text/") or "json" in media or "xml" in media:
            raise ResponseInvalid(f"The {label} answered with {media} instead of pixels.")
        return [Part(content_type, memoryview(body))]
    if not params.get("boundary"):
        raise ResponseInvalid(f"The {label} answered with a multipart body without a boundary.")
    delimiter = b"--" + params["boundary"].encode("latin-1", "replace")
    start = body.find(delimiter)
    if start < 0:
        raise _torn(label)
    parts, view = list[Part](), memoryview(body)
    at = start + len(delimiter)
    while body[at : at + 2] != b"--" and (most is None or len(parts) <= most):
        part, at = _part(body, view, at, delimiter, label)
        parts.append(part)
    return parts


def _part(body: bytes, view: memoryview, at: int, delimiter: bytes, label: str) -> tuple[Part, int]:
    head_end = body.find(b"\r\n\r\n", at)
    if head_end < 0:
        raise _torn(label)
    content_type, location, length = "", "", None
    for line in body[at:head_end].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            content_type = value.strip().decode("latin-1")
        elif name.strip().lower() == b"content-location":
            location = value.strip().decode("latin-1")
        elif name.strip().lower() == b"content-length" and _LENGTH.fullmatch(value.strip()):
            length = int(value)
    start = head_end + 4
    following = b"\r\n" + delimiter
    # The stated length is trusted only if a delimiter follows; pixels may hold anything.
    if length is None or body[start + length : start + length + len(following)] != following:
        end = body.find(following, start)
        if end < 0:
            raise _torn(label)
        length = end - start
    return Part(content_type, view[start : start + length], location), start + length + len(following)


def _torn(label: str) -> ResponseInvalid:
    return ResponseInvalid(f"The multipart answer of the {label} is cut off.")
