"""Multipart bodies as servers send them, and as they arrive when something went wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.multipart import parameters, parse, transfer_syntax_of
from models.domain.errors import ResponseInvalid

_TYPE = 'multipart/related; type="application/octet-stream"; boundary=edge'
_J2K = "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.90"


def _body(*contents: bytes, length: bool = True, boundary: bytes = b"edge", preamble: bytes = b"") -> bytes:
    out = preamble
    for content in contents:
        out += b"--" + boundary + b"\r\nContent-Type: " + _J2K.encode() + b"\r\n"
        out += b"Content-Length: %d\r\n" % len(content) if length else b""
        out += b"\r\n" + content + b"\r\n"
    return out + b"--" + boundary + b"--\r\n"


def _contents(body: bytes, content_type: str = _TYPE) -> list[bytes]:
    return [bytes(part.data) for part in parse(body, content_type, "PACS")]


@pytest.mark.parametrize("length", [True, False])
def test_torn_anywhere(length: bool) -> None:  # noqa: FBT001 - parameter
    """A body that is cut off at any byte before its last delimiter is an error, never fewer or shorter parts."""
    body = _body(b"one", b"two\r\n--ed", b"", length=length)
    end = body.rindex(b"--edge--") + len(b"--edge--")
    for cut in range(end):
        with pytest.raises(ResponseInvalid, match="cut off"):
            _contents(body[:cut])
    assert _contents(body[:end]) == [b"one", b"two\r\n--ed", b""]


@pytest.mark.parametrize(
    "content_type", ["text/html", "text/html; charset=utf-8", "application/json", "application/dicom+json", "text/xml"]
)
def test_pages_are_no_pixels(content_type: str) -> None:
    """HTML, JSON and XML with status 200 are errors; their text is not repeated."""
    with pytest.raises(ResponseInvalid, match="instead of pixels") as caught:
        parse(b"<html>Dr Who</html>", content_type, "PACS")
    assert "Who" not in str(caught.value)


@pytest.mark.parametrize("content_type", ["multipart/related", "multipart/related; boundary=", 'multipart/x; type="a"'])
def test_no_boundary(content_type: str) -> None:
    """Without a boundary there are no parts."""
    with pytest.raises(ResponseInvalid, match="boundary"):
        _contents(_body(b"one"), content_type)


@given(st.binary(max_size=60), st.text(max_size=40))
def test_junk_is_an_error_or_parts(body: bytes, junk: str) -> None:
    """Whatever arrives under whatever header, there are parts of it or one error of ours."""
    for content_type in (junk, f"multipart/related; {junk}", f"multipart/related; boundary={junk}", _TYPE):
        for one in (body, b"--edge" + body, b"--edge\r\n\r\n" + body):
            try:
                found = _contents(one, content_type)
            except ResponseInvalid:
                continue
            assert all(part in one for part in found)


@pytest.mark.parametrize("header", ["multipart/related; boundary*=utf-8''%C3%A9", "multipart/related; boundary*0=a"])
def test_encoded_boundaries_are_refused(header: str) -> None:
    """RFC 2231 forms, which nobody sends, end in the error of a missing or an unknown boundary."""
    with pytest.raises(ResponseInvalid):
        _contents(_body(b"one"), header)


@pytest.mark.parametrize("stated", [b"0", b"2", b"99", b"9" * 5000, b"-3", b"three", b""])
def test_a_wrong_length_does_not_matter(stated: bytes) -> None:
    """A Content-Length that does not lead to a delimiter is not believed."""
    body = _body(b"one", b"two").replace(b"Content-Length: 3", b"Content-Length: " + stated, 1)
    assert _contents(body) == [b"one", b"two"]


@given(st.lists(st.binary(max_size=50), max_size=4))
def test_parts_with_a_length_hold_anything(contents: list[bytes]) -> None:
    """With Content-Length, the delimiter itself may be inside the data."""
    nasty = [content + b"\r\n--edge\r\n\r\n" + content for content in contents]
    assert _contents(_body(*nasty)) == nasty


@given(st.lists(st.binary(max_size=50).filter(lambda content: b"--edge" not in content), max_size=4))
def test_parts_without_a_length(contents: list[bytes]) -> None:
    """Without Content-Length, a part ends where the next delimiter begins, line break excluded."""
    assert _contents(_body(*contents, length=False)) == contents


@pytest.mark.parametrize("boundary", ["edge", "a b", "=_(x)?:/", "0123456789" * 7])
def test_quoted_parameters(boundary: str) -> None:
    """The boundary may be quoted, and then hold what RFC 2046 allows; names of parameters are in any case."""
    for header in (
        f'multipart/related; BOUNDARY="{boundary}"',
        f'multipart/related;type="a/b; c";boundary="{boundary}"',
    ):
        assert _contents(_body(b"one", boundary=boundary.encode()), header) == [b"one"]


def test_preamble_and_epilogue_are_skipped() -> None:
    """Text before the first and after the last delimiter belongs to nobody."""
    assert _contents(_body(b"one", preamble=b"This is multipart.\r\n") + b"epilogue --edge") == [b"one"]


def test_an_empty_body_of_parts() -> None:
    """A body that ends at once has no parts."""
    assert _contents(b"--edge--") == []


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/jpeg", "application/dicom", "image/jp2"])
def test_a_single_part(content_type: str) -> None:
    """An answer that is not multipart is one part, whole and with its type."""
    [part] = parse(b"\xff\xd8--edge", content_type, "PACS")
    assert (bytes(part.data), part.content_type) == (b"\xff\xd8--edge", content_type)


def test_parts_are_views() -> None:
    """A frame is not copied on the way."""
    body = _body(b"one", b"two")
    assert all(part.data.obj is body for part in parse(body, _TYPE, "PACS"))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (_J2K, "1.2.840.10008.1.2.4.90"),
        ('image/jpeg; Transfer-Syntax="1.2.840.10008.1.2.4.50"', "1.2.840.10008.1.2.4.50"),
        ("image/jpeg;transfer-syntax= 1.2 ", "1.2"),
        ("image/jpeg", ""),
        ("", ""),
    ],
)
def test_transfer_syntax_of_a_part(header: str, expected: str) -> None:
    """The part's own header names the syntax; quoted or not, or not at all."""
    assert transfer_syntax_of(header) == expected
    assert parameters(header) == parameters(header)


def test_header_of_a_part_in_any_case() -> None:
    """Header names of parts are in any case, with or without a space, and others are skipped."""
    body = b"--edge\r\ncontent-type:image/jp2\r\nX-Other: 1\r\nCONTENT-LENGTH:3\r\n\r\none\r\n--edge--"
    [part] = parse(body, _TYPE, "PACS")
    assert (part.content_type, bytes(part.data)) == ("image/jp2", b"one")
