"""What bytes are is read from the bytes; a header that says otherwise does not get through."""

import imagecodecs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.imaging.syntax import (
    CODEC_OF_SYNTAX,
    EXPLICIT_LITTLE_ENDIAN,
    JPEG_BASELINE,
    Codec,
    jpeg_segments,
    settle,
    sniff,
)
from tests.unit.models.imaging.frames import NATIVE_BYTES, SYNTAXES, encoded, jpeg, picture

_COMPRESSED = [codec for codec in Codec if codec is not Codec.NATIVE]


@pytest.mark.parametrize("codec", list(Codec))
def test_each_codec_is_known_by_its_bytes(codec: Codec) -> None:
    """A frame is recognised without any header."""
    assert sniff(encoded(codec), NATIVE_BYTES) is codec
    assert sniff(memoryview(encoded(codec)), NATIVE_BYTES) is codec


@pytest.mark.parametrize("codec", list(Codec))
def test_a_header_that_is_right_is_kept(codec: Codec) -> None:
    """Each transfer syntax of a codec is believed when the bytes agree, down to which one it is."""
    for declared in SYNTAXES[codec]:
        assert settle(declared, encoded(codec), NATIVE_BYTES) == (declared, True)


@pytest.mark.parametrize("codec", _COMPRESSED)
def test_a_header_that_is_wrong_gives_way(codec: Codec) -> None:
    """Compressed bytes under the name of anything else are taken for what they are, and that is told."""
    for declared, named in CODEC_OF_SYNTAX.items():
        if named is not codec:
            syntax, kept = settle(declared, encoded(codec), NATIVE_BYTES)
            assert CODEC_OF_SYNTAX[syntax] is codec
            assert not kept


@pytest.mark.parametrize("codec", list(Codec))
def test_no_header_is_no_fault(codec: Codec) -> None:
    """A source that names nothing is not contradicted."""
    syntax, kept = settle("", encoded(codec), NATIVE_BYTES)
    assert CODEC_OF_SYNTAX[syntax] is codec
    assert kept


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\xff\x0a", b"\xff\x4f\xff\x51", b"\x03\0\0\0\x40\0\0\0"])
def test_native_pixels_may_look_like_a_file(start: bytes) -> None:
    """Pixels that begin with a file's mark by chance stay pixels if header and length say so."""
    data = start + picture().tobytes()[len(start) :]
    assert settle(EXPLICIT_LITTLE_ENDIAN, data, NATIVE_BYTES) == (EXPLICIT_LITTLE_ENDIAN, True)


def test_native_pixels_under_a_jpeg_header() -> None:
    """Uncompressed frames that are announced as JPEG are taken as they are."""
    syntax, kept = settle(JPEG_BASELINE, picture().tobytes(), NATIVE_BYTES)
    assert (CODEC_OF_SYNTAX[syntax], kept) == (Codec.NATIVE, False)


@pytest.mark.parametrize(("native_bytes", "length", "native"), [(27, 28, True), (27, 29, False), (28, 29, False)])
def test_one_padding_byte_is_allowed(native_bytes: int, length: int, native: bool) -> None:  # noqa: FBT001 - parameter
    """Pixels of odd length may have one byte more (PS3.5 A.4), others none."""
    assert (sniff(bytes(length), native_bytes) is Codec.NATIVE) == native


def test_unknown_bytes_leave_the_header_alone() -> None:
    """What cannot be recognised is decoded as announced, and fails there."""
    assert settle(JPEG_BASELINE, b"<html>", NATIVE_BYTES) == (JPEG_BASELINE, True)
    assert settle("", b"<html>", NATIVE_BYTES) == ("", True)


@given(st.binary(max_size=80), st.sampled_from(["", *CODEC_OF_SYNTAX]), st.integers(0, 90))
def test_nothing_raises(data: bytes, declared: str, native_bytes: int) -> None:
    """Whatever the bytes, there is an answer."""
    for body in (data, b"\xff\xd8\xff" + data, b"\xff\xd8\xff\xc0" + data):
        syntax, _ = settle(declared, body, native_bytes)
        assert syntax == declared or syntax in CODEC_OF_SYNTAX
        for _, start, end in jpeg_segments(body):
            assert 2 < start <= end + 2


def test_segments_of_a_jpeg() -> None:
    """The segments follow one another, from the first after the start to the scan, with fill bytes between them."""
    data = jpeg(picture())
    found = jpeg_segments(data)
    assert found[-1][0] == 0xDA
    assert [data[start - 4 : start - 2] for _, start, _ in found] == [bytes([0xFF, marker]) for marker, _, _ in found]
    assert [start - 4 for _, start, _ in found[1:]] == [end for _, _, end in found[:-1]]
    filled = data[:2] + b"\xff\xff" + data[2:]
    assert [marker for marker, _, _ in jpeg_segments(filled)] == [marker for marker, _, _ in found]


def test_boxed_files_are_known_too() -> None:
    """JP2 and JPEG XL in their file formats are what they hold."""
    pixels = picture()
    assert sniff(bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="jp2")), NATIVE_BYTES) is Codec.JPEG_2000
    boxed = imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=True)
    assert sniff(bytes(boxed), NATIVE_BYTES) is Codec.JPEG_XL
