"""What a frame's own header says is read before anything is decoded, and no bomb gets to a decoder."""

import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress

import imagecodecs
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import FrameUndecodable
from models.domain.patch import EncodedFrame
from models.imaging import rle as rle_module
from models.imaging.codestream import Header, HeaderFault, header_of, jpeg_marks, longest_frame
from models.imaging.decode import decode_frame
from models.imaging.syntax import Codec
from tests.services.memory_slide import make_level
from tests.unit.models.imaging.frames import NATIVE_BYTES, SIDE, SYNTAXES, encoded, jpeg, picture, rle

_LEVEL = make_level(SIDE, SIDE, frame_px=SIDE)
_SAID = Header(SIDE, SIDE, 3, 8)
_WITH_HEADER = [codec for codec in Codec if codec not in {Codec.NATIVE, Codec.RLE}]


@pytest.fixture
def no_decoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Put a spy in the place of every decoder; none is to be called."""
    called: list[str] = []
    for module, name in (
        (simplejpeg, "decode_jpeg"),
        (imagecodecs, "jpeg2k_decode"),
        (imagecodecs, "jpegls_decode"),
        (imagecodecs, "jpegxl_decode"),
        (imagecodecs, "png_decode"),
        (rle_module.imagecodecs, "packbits_decode"),
    ):
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: called.append(name))
    yield called
    assert called == []


def _sized(codec: Codec, height: int, width: int) -> bytes:
    """Return a frame whose header says another size; the rest is that of a small one."""
    data = bytearray(encoded(codec))
    if codec in {Codec.JPEG, Codec.JPEG_LOSSLESS, Codec.JPEG_LS}:
        marker = {Codec.JPEG: b"\xff\xc0", Codec.JPEG_LOSSLESS: b"\xff\xc3", Codec.JPEG_LS: b"\xff\xf7"}[codec]
        struct.pack_into(">HH", data, data.index(marker) + 5, height, width)
    elif codec is Codec.PNG:
        struct.pack_into(">II", data, 16, width, height)
    elif codec is Codec.JPEG_XL:
        # SizeHeader of ISO/IEC 18181-1 D.2: not small; 30 bits of height; no ratio; 30 bits of width; all default.
        value, shift = 0, 0
        for part, bits in ((0, 1), (3, 2), (height - 1, 30), (0, 3), (3, 2), (width - 1, 30), (1, 1)):
            value, shift = value | part << shift, shift + bits
        data[2:2] = value.to_bytes(9, "little")
    else:
        struct.pack_into(">II", data, 8, width, height)
        struct.pack_into(">II", data, 24, width, height)
    return bytes(data)


@pytest.mark.parametrize("codec", _WITH_HEADER)
def test_a_bomb_reaches_no_decoder(codec: Codec, no_decoder: list[str]) -> None:
    """A frame that says it is 65500 x 65500 px in a slide of small tiles is refused by its header alone."""
    with pytest.raises(FrameUndecodable, match="65500 x 65500 px"):
        decode_frame(EncodedFrame(0, _sized(codec, 65500, 65500), SYNTAXES[codec][0]), _LEVEL)
    assert no_decoder == []


@pytest.mark.parametrize("codec", _WITH_HEADER)
def test_a_bomb_costs_no_memory(codec: Codec) -> None:
    """What Python and numpy allocate for a bomb is what its few bytes take."""
    data = _sized(codec, 65500, 65500)
    tracemalloc.start()
    try:
        with pytest.raises(FrameUndecodable):
            decode_frame(EncodedFrame(0, data, SYNTAXES[codec][0]), _LEVEL)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", list(Codec))
def test_too_many_bytes_reach_no_decoder(codec: Codec, no_decoder: list[str]) -> None:
    """No encoded frame is several times as long as its pixels; what follows the image in one is not even scanned."""
    data = encoded(codec) + bytes(longest_frame(NATIVE_BYTES))
    with pytest.raises(FrameUndecodable, match="bytes uncompressed"):
        decode_frame(EncodedFrame(0, data, SYNTAXES[codec][0]), _LEVEL)
    assert no_decoder == []


def test_a_thousand_scans_reach_no_decoder(no_decoder: list[str]) -> None:
    """Each scan of a progressive JPEG is a pass over all its pixels; a few bytes must not buy a thousand."""
    data = jpeg(picture()).replace(b"\xff\xc0", b"\xff\xc2", 1)
    scan = data[data.index(b"\xff\xda") : -2]
    with pytest.raises(FrameUndecodable, match="scans"):
        decode_frame(EncodedFrame(0, data[:-2] + scan[:40] * 100 + b"\xff\xd9", SYNTAXES[Codec.JPEG][0]), _LEVEL)
    assert no_decoder == []


@pytest.mark.parametrize("codec", [Codec.JPEG_2000, Codec.HTJ2K])
def test_a_thousand_tiles_reach_no_decoder(codec: Codec, no_decoder: list[str]) -> None:
    """A codestream cut into tiles of a pixel would cost kilobytes for each."""
    data = bytearray(encoded(codec))
    struct.pack_into(">II", data, 24, 1, 1)
    with pytest.raises(FrameUndecodable, match="tiles"):
        decode_frame(EncodedFrame(0, bytes(data), SYNTAXES[codec][0]), _LEVEL)
    assert no_decoder == []


@pytest.mark.parametrize("codec", [Codec.JPEG_2000, Codec.HTJ2K])
def test_components_that_differ_reach_no_decoder(codec: Codec, no_decoder: list[str]) -> None:
    """Subsampled components, or components of different depths, are no RGB."""
    for at, value, match in ((43, 2, "subsampled"), (45, 15, "depths")):
        data = bytearray(encoded(codec))
        data[at] = value
        with pytest.raises(FrameUndecodable, match=match):
            decode_frame(EncodedFrame(0, bytes(data), SYNTAXES[codec][0]), _LEVEL)
    assert no_decoder == []


@pytest.mark.parametrize("cut", ["offsets", "count", "short", "long", "header"])
def test_rle_that_does_not_add_up(cut: str) -> None:
    """Segments out of order, too few, too short, too long, and a header that is cut off."""
    data = bytearray(rle(picture()))
    if cut == "offsets":
        data[4:12] = data[8:12] + data[4:8]
    elif cut == "count":
        data[0] = 2
    elif cut == "short":
        data[64] -= 1  # a literal run of one pixel less: what follows is misread
    elif cut == "long":
        data[64:65] = b"\x81\x00\xff"  # 128 pixels more
    else:
        del data[63:]
    with pytest.raises(FrameUndecodable):
        decode_frame(EncodedFrame(0, bytes(data), SYNTAXES[Codec.RLE][0]), _LEVEL)


def test_rle_with_runs_of_every_kind() -> None:
    """Repeated runs, literal runs, the code that does nothing (PS3.5 G.3.1), and padding to an even length."""
    level = make_level(5, 2, frame_px=5)
    level = type(level)(5, 2, 5, 2, None, "RGB", level.instances)
    red = b"\xfd\x07" + b"\x80" + b"\x05\x01\x02\x03\x04\x05\x06" + b"\0"  # 4 x 7; nothing; six literals; padding
    green, blue = b"\xf7\x09", b"\xf7\xff"
    head = struct.pack("<16I", 3, 64, 64 + len(red), 64 + len(red) + len(green), *([0] * 12))
    found = decode_frame(EncodedFrame(0, head + red + green + blue, SYNTAXES[Codec.RLE][0]), level)
    assert found[..., 0].ravel().tolist() == [7, 7, 7, 7, 1, 2, 3, 4, 5, 6]
    assert set(found[..., 1].ravel().tolist()) == {9}
    assert set(found[..., 2].ravel().tolist()) == {255}


@pytest.mark.parametrize("codec", _WITH_HEADER)
def test_headers_are_read(codec: Codec) -> None:
    """Each codec's header gives the size and depth that were encoded, from bytes and from views."""
    assert header_of(codec, encoded(codec)) == _SAID
    assert header_of(codec, memoryview(encoded(codec))) == _SAID


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("boxed", [True, False])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_jpeg_xl_sizes(*, lossless: bool, boxed: bool, kind: type) -> None:
    """The size of a JPEG XL, which is packed bit by bit in several forms, is what was encoded."""
    for height, width in ((8, 8), (1, 37), (240, 256), (37, 1), (120, 160), (16, 24), (300, 250), (9, 1100)):
        pixels = np.zeros((height, width, 3), kind)
        data = bytes(imagecodecs.jpegxl_encode(pixels, lossless=lossless, usecontainer=boxed, effort=1))
        assert header_of(Codec.JPEG_XL, data) == Header(height, width, 3, 8 * np.dtype(kind).itemsize)


def test_transparency_is_counted() -> None:
    """A fourth channel shows in the header."""
    four = np.zeros((8, 8, 4), np.uint8)
    for codec, data in (
        (Codec.JPEG_XL, imagecodecs.jpegxl_encode(four, lossless=True)),
        (Codec.PNG, imagecodecs.png_encode(four)),
        (Codec.JPEG_2000, imagecodecs.jpeg2k_encode(four, codecformat="j2k")),
    ):
        assert header_of(codec, bytes(data)) == Header(8, 8, 4, 8)


@pytest.mark.parametrize("codec", [Codec.NATIVE, Codec.RLE])
def test_codecs_without_a_size(codec: Codec) -> None:
    """Native pixels and RLE have no size of their own."""
    assert header_of(codec, encoded(codec)) is None


@pytest.mark.parametrize("codec", _WITH_HEADER)
@given(data=st.binary(max_size=120), length=st.integers(0, 200))
def test_no_header_crashes(codec: Codec, data: bytes, length: int) -> None:
    """Whatever the bytes, there is a header or a fault."""
    whole = encoded(codec)
    for body in (data, whole[:length], whole[:4] + data, whole[: length // 2] + data):
        with suppress(HeaderFault):
            header_of(codec, body)


def test_marks_of_a_jpeg() -> None:
    """JFIF, component ids and subsampling are seen."""
    marks = jpeg_marks(jpeg(picture()))
    assert (marks.jfif, marks.adobe, marks.ids) == (True, False, b"\x01\x02\x03")
    assert jpeg_marks(bytes(imagecodecs.jpeg8_encode(picture(), subsampling="420"))).subsampled
    assert not jpeg_marks(bytes(imagecodecs.jpeg8_encode(picture(), subsampling="444"))).subsampled


def test_jfif_called_rgb_is_what_it_is() -> None:
    """A JFIF file is YCbCr by definition: metadata that call it RGB are not followed into false colours."""
    found = decode_frame(EncodedFrame(0, jpeg(picture()), SYNTAXES[Codec.JPEG][0]), _LEVEL)
    assert np.abs(found.astype(int) - picture()).mean() < 2


@pytest.mark.parametrize("subsampling", ["422", "420"])
def test_shared_chroma_called_rgb_is_what_it_is(subsampling: str) -> None:
    """Red, green and blue share no samples: a subsampled JPEG is YCbCr, also without any mark of it."""
    data = bytes(imagecodecs.jpeg8_encode(picture(), level=95, subsampling=subsampling))
    assert data[2:4] == b"\xff\xe0"
    bare = data[:2] + data[4 + int.from_bytes(data[4:6], "big") :]
    found = decode_frame(EncodedFrame(0, bare, SYNTAXES[Codec.JPEG][0]), _LEVEL)
    assert np.abs(found.astype(int) - picture()).mean() < 4
