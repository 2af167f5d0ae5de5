"""A frame decodes to the right pixels or not at all."""

from dataclasses import replace

import cv2
import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.errors import FrameUndecodable, PixelsUnsupported
from models.domain.patch import EncodedFrame
from models.imaging.decode import decode_frame
from models.imaging.syntax import CODEC_OF_SYNTAX, EXPLICIT_LITTLE_ENDIAN, JPEG_BASELINE, Codec
from tests.services.memory_slide import make_level
from tests.unit.models.imaging.frames import SIDE, SYNTAXES, encoded, jpeg, jpeg_rgb, paired, picture, ybr_of

_LEVEL = make_level(SIDE, SIDE, frame_px=SIDE)
_AS_THEY_ARE = [Codec.JPEG_LS, Codec.JPEG_LOSSLESS, Codec.JPEG_2000, Codec.HTJ2K]
_LOSSLESS = [codec for codec in Codec if codec is not Codec.JPEG]


def _decode(data: bytes, syntax: str = "", photometric: str = "RGB") -> NDArray[np.uint8]:
    return decode_frame(EncodedFrame(0, data, syntax), replace(_LEVEL, photometric=photometric))


def _distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize("codec", list(Codec))
def test_cut_off_frames_are_errors(codec: Codec) -> None:
    """A frame that lacks its end, by a byte or by a lot, is never filled up with anything."""
    data = encoded(codec)
    # The last two bytes of a JPEG are a marker: without it every pixel is still there (see below).
    ends = () if codec is Codec.JPEG else (len(data) - 2, len(data) - 1)
    for length in (1, 30, len(data) // 4, len(data) // 2, len(data) - 20, *ends):
        for syntax in SYNTAXES[codec]:
            with pytest.raises((FrameUndecodable, PixelsUnsupported)) as caught:
                _decode(data[:length], syntax)
            assert caught.type is FrameUndecodable


@pytest.mark.parametrize("app14", [True, False])
@pytest.mark.parametrize("letters", [True, False])
@pytest.mark.parametrize("missing", [20, 300])
def test_cut_off_rgb_jpeg_is_an_error(missing: int, *, app14: bool, letters: bool) -> None:
    """RGB JPEG takes another way through the code, and fails there just as well."""
    data = jpeg_rgb(picture(), app14=app14, letters=letters)
    with pytest.raises(FrameUndecodable, match="cut off"):
        _decode(data[:-missing], JPEG_BASELINE)


@pytest.mark.parametrize("missing", [1, 2])
def test_jpeg_without_its_last_marker_is_whole(missing: int) -> None:
    """Scanners leave the end marker out; if the data before it are complete, the pixels are those of the whole."""
    data = encoded(Codec.JPEG)
    assert np.array_equal(_decode(data[:-missing], JPEG_BASELINE), _decode(data, JPEG_BASELINE))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_jpeg_that_was_ended_early_is_an_error(share: float) -> None:
    """A file cut off and closed with an end marker would be filled up with grey by most decoders."""
    data = encoded(Codec.JPEG)
    with pytest.raises(FrameUndecodable, match="damaged"):
        _decode(data[: int(len(data) * share)] + b"\xff\xd9", JPEG_BASELINE)


def test_jpeg_with_a_hole_is_an_error() -> None:
    """Bytes overwritten in a tile of usual size are noticed nearly always, not smeared over the pixels."""
    random = np.random.default_rng(3)
    level = make_level(256, 256, frame_px=256)
    tile = cv2.GaussianBlur(random.integers(0, 256, (256, 256, 3)).astype(np.uint8), (0, 0), 2)
    whole, noticed = jpeg(tile), 0
    for at in random.integers(1000, len(whole) - 200, 50):
        hurt = whole[:at] + random.bytes(64) + whole[at + 64 :]
        try:
            decode_frame(EncodedFrame(0, hurt, JPEG_BASELINE), level)
        except FrameUndecodable:
            noticed += 1
    assert noticed >= 40


@pytest.mark.parametrize("padding", [b"\0", b"\xff"])
def test_jpeg_with_padding_is_decoded(padding: bytes) -> None:
    """Padding between the data and the end marker costs no pixel."""
    data = encoded(Codec.JPEG)
    padded = data[:-2] + padding * 16 + b"\xff\xd9"
    assert np.array_equal(_decode(padded, JPEG_BASELINE), _decode(data, JPEG_BASELINE))


def test_jpeg_with_data_left_over_is_an_error() -> None:
    """What is left over and no padding was misread before."""
    data = encoded(Codec.JPEG)
    with pytest.raises(FrameUndecodable, match="damaged"):
        _decode(data[:-2] + b"\x12\x34\x56\x78" * 4 + b"\xff\xd9", JPEG_BASELINE)


@pytest.mark.parametrize("syntax", ["", *CODEC_OF_SYNTAX])
def test_empty_frame_is_an_error(syntax: str) -> None:
    """No bytes are no pixels, whatever they are announced as; the message counts from 1 as DICOM does."""
    with pytest.raises(FrameUndecodable, match="Frame 8 is empty"):
        decode_frame(EncodedFrame(7, b"", syntax), _LEVEL)


@pytest.mark.parametrize("syntax", [uid for uid, codec in CODEC_OF_SYNTAX.items()])
@given(data=st.binary(min_size=1, max_size=200))
def test_garbage_is_an_error(syntax: str, data: bytes) -> None:
    """Bytes that mean nothing are an error of ours and nothing else."""
    for body in (data, b"\xff\xd8\xff" + data, b"<html><body>502</body></html>"):
        with pytest.raises((FrameUndecodable, PixelsUnsupported)):
            _decode(body, syntax)


@pytest.mark.parametrize("side", [SIDE // 2, SIDE - 1, SIDE + 1, 1])
@pytest.mark.parametrize("codec", list(Codec))
def test_frames_of_another_size_are_errors(codec: Codec, side: int) -> None:
    """Whole frames that are not as large as the metadata promise are refused, not cropped or padded."""
    level = make_level(side, side, frame_px=side)
    with pytest.raises(FrameUndecodable):
        decode_frame(EncodedFrame(0, encoded(codec), SYNTAXES[codec][0]), level)


@pytest.mark.parametrize("extra", [-1, 1, 2, SIDE * 3])
def test_native_frames_of_another_length_are_errors(extra: int) -> None:
    """Uncompressed pixels that are a byte short or too long are refused."""
    data = picture().tobytes()
    with pytest.raises(FrameUndecodable):
        _decode((data + bytes(SIDE * 3))[: len(data) + extra], EXPLICIT_LITTLE_ENDIAN)


def test_bytes_of_no_known_kind_are_refused() -> None:
    """Neither header nor bytes say what they are: nothing is guessed."""
    with pytest.raises(PixelsUnsupported, match="neither header nor bytes"):
        _decode(b"no such thing", "1.2.3")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "ARGB"])
def test_other_colour_models_are_refused(photometric: str) -> None:
    """Greyscale, fluorescence and palettes are not turned into colours."""
    with pytest.raises(PixelsUnsupported, match=photometric):
        _decode(picture().tobytes(), EXPLICIT_LITTLE_ENDIAN, photometric)


@pytest.mark.parametrize("codec", [*_AS_THEY_ARE, Codec.RLE])
def test_shared_chroma_is_refused_where_it_cannot_be(codec: Codec) -> None:
    """YBR_FULL_422 is no way to give samples to codecs that keep all of them: what was meant cannot be told."""
    with pytest.raises(PixelsUnsupported, match="YBR_FULL_422"):
        _decode(encoded(codec), photometric="YBR_FULL_422")


@pytest.mark.parametrize("codec", [*_AS_THEY_ARE, Codec.RLE, Codec.NATIVE])
def test_luminance_becomes_colours(codec: Codec) -> None:
    """Codecs that give back what was put in, luminance and chroma, are followed by the standard's own conversion."""
    ybr = ybr_of(picture())
    data = encoded(codec, ybr, transform=False)
    assert np.abs(_decode(data, photometric="YBR_FULL").astype(int) - picture()).max() <= 2  # rounded to 8 bits twice
    assert np.array_equal(_decode(data), ybr)


def test_shared_chroma_becomes_colours() -> None:
    """Uncompressed YBR_FULL_422 has two bytes a pixel, and both pixels of a pair take its chroma."""
    ybr = ybr_of(picture())
    found = _decode(paired(ybr), EXPLICIT_LITTLE_ENDIAN, "YBR_FULL_422")
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
    assert np.array_equal(found, _decode(ybr.tobytes(), EXPLICIT_LITTLE_ENDIAN, "YBR_FULL"))
    with pytest.raises(FrameUndecodable):
        _decode(picture().tobytes(), EXPLICIT_LITTLE_ENDIAN, "YBR_FULL_422")


@pytest.mark.parametrize("codec", [Codec.JPEG_2000, Codec.HTJ2K])
@pytest.mark.parametrize(("photometric", "transform"), [("YBR_RCT", False), ("YBR_ICT", False), ("YBR_FULL", True)])
def test_jpeg_2000_that_contradicts_its_metadata(codec: Codec, photometric: str, *, transform: bool) -> None:
    """A colour transform that is promised and not there, or the other way round, leaves the colours open: refused."""
    with pytest.raises(PixelsUnsupported, match=photometric):
        _decode(encoded(codec, transform=transform), photometric=photometric)


@pytest.mark.parametrize("photometric", ["RGB", "", "YBR_RCT", "YBR_ICT"])
@pytest.mark.parametrize("codec", [Codec.JPEG_2000, Codec.HTJ2K])
def test_jpeg_2000_undoes_its_own_transform(codec: Codec, photometric: str) -> None:
    """Whatever name the metadata have for it, a codestream that says it is transformed is transformed back."""
    assert np.array_equal(_decode(encoded(codec), photometric=photometric), picture())


def test_irreversible_htj2k_does_not_wrap() -> None:
    """White and black stay white and black, as far as the loss goes (OpenJPH's samples here wrap around)."""
    pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
    pixels[::2, ::2] = 255
    data = bytes(imagecodecs.htj2k_encode(pixels, reversible=False))
    assert np.abs(_decode(data).astype(int) - pixels).max() < 16


def test_planes_are_interleaved() -> None:
    """Uncompressed planes, one after the other, are the same picture; for compressed frames the word means nothing."""
    planes = np.ascontiguousarray(np.moveaxis(picture(), -1, 0)).tobytes()
    found = decode_frame(EncodedFrame(0, planes, EXPLICIT_LITTLE_ENDIAN, planar=True), _LEVEL)
    assert np.array_equal(found, picture())
    for codec in _LOSSLESS:
        if codec is not Codec.NATIVE:
            same = decode_frame(EncodedFrame(0, encoded(codec), "", planar=True), _LEVEL)
            assert np.array_equal(same, picture())


def test_a_frame_may_have_colours_of_its_own() -> None:
    """Where the parts of a level differ, the frame's Photometric Interpretation counts, not the level's."""
    data = ybr_of(picture()).tobytes()
    frame = EncodedFrame(0, data, EXPLICIT_LITTLE_ENDIAN, photometric="YBR_FULL")
    assert np.abs(decode_frame(frame, _LEVEL).astype(int) - picture()).max() <= 2


def test_deeper_samples_are_refused() -> None:
    """Sixteen bits are not squeezed into eight."""
    deep = picture().astype(np.uint16) * 257
    for data in (
        imagecodecs.jpeg2k_encode(deep, codecformat="j2k"),
        imagecodecs.htj2k_encode(deep, reversible=True),
        imagecodecs.jpegls_encode(deep),
        imagecodecs.jpegxl_encode(deep, lossless=True),
        imagecodecs.png_encode(deep),
        imagecodecs.jpeg8_encode(deep, lossless=True, bitspersample=16),
    ):
        with pytest.raises(FrameUndecodable, match="3 x 16 bit"):
            _decode(bytes(data))
    with pytest.raises(FrameUndecodable):
        _decode(deep.tobytes(), EXPLICIT_LITTLE_ENDIAN)


def test_greyscale_is_refused() -> None:
    """One sample a pixel is no colour, and no decoder is let make three of it."""
    grey = np.ascontiguousarray(picture()[..., 0])
    for data in (
        imagecodecs.jpeg8_encode(grey, level=95),
        imagecodecs.jpeg2k_encode(grey, codecformat="j2k"),
        imagecodecs.htj2k_encode(grey, reversible=True),
        imagecodecs.jpegls_encode(grey),
        imagecodecs.jpegxl_encode(grey, lossless=True),
        imagecodecs.png_encode(grey),
    ):
        with pytest.raises(FrameUndecodable):
            _decode(bytes(data))


def test_every_flipped_byte_is_an_error_or_a_frame() -> None:
    """A byte changed anywhere ends in pixels of the right size or in an error of ours, never in anything else."""
    random = np.random.default_rng(11)
    for codec in Codec:
        whole = encoded(codec)
        for at in random.integers(0, len(whole), 40):
            hurt = bytearray(whole)
            hurt[at] ^= int(random.integers(1, 256))
            try:
                found = _decode(bytes(hurt), SYNTAXES[codec][0])
            except (FrameUndecodable, PixelsUnsupported):
                continue
            assert (found.shape, found.dtype) == ((SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("codec", [Codec.JPEG_LS, Codec.JPEG_XL, Codec.PNG, Codec.JPEG_LOSSLESS])
def test_damage_is_noticed(codec: Codec) -> None:
    """Where a codec can tell, sixty-four bytes overwritten do not pass."""
    random, whole, noticed = np.random.default_rng(5), encoded(codec), 0
    for at in random.integers(len(whole) // 3, len(whole) - 80, 40):
        try:
            _decode(whole[:at] + random.bytes(64) + whole[at + 64 :], SYNTAXES[codec][0])
        except FrameUndecodable:
            noticed += 1
    assert noticed >= 38


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_lossless_jpeg_that_was_ended_early_is_an_error(share: float) -> None:
    """A lossless JPEG that was cut off and closed with an end marker is not made up (facts: liblj92 does)."""
    data = encoded(Codec.JPEG_LOSSLESS)
    with pytest.raises(FrameUndecodable, match="damaged"):
        _decode(data[: int(len(data) * share)] + b"\xff\xd9")


def test_marks_of_colours_in_a_lossless_jpeg_change_nothing() -> None:
    """A lossless JPEG's samples are what they are; a JFIF or Adobe segment in it does not turn them."""
    data, jfif = encoded(Codec.JPEG_LOSSLESS), b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    ycc = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"
    for marks in (jfif, ycc, jfif + ycc):
        assert np.array_equal(_decode(data[:2] + marks + data[2:]), picture())


@pytest.mark.parametrize("codec", _LOSSLESS)
def test_lossless_codecs_give_every_pixel_back(codec: Codec) -> None:
    """What was encoded without loss comes back to the bit, from bytes and from views, padded or not."""
    data = encoded(codec)
    for syntax in ("", *SYNTAXES[codec]):
        found = _decode(data, syntax)
        assert found.dtype == np.uint8
        assert np.array_equal(found, picture())
        view = decode_frame(EncodedFrame(0, memoryview(data), syntax), _LEVEL)
        assert np.array_equal(view, picture())


@pytest.mark.parametrize("codec", [codec for codec in Codec if codec is not Codec.NATIVE])
def test_padding_after_a_frame_is_harmless(codec: Codec) -> None:
    """A fragment's even length costs a byte, which changes nothing."""
    data = encoded(codec)
    assert np.array_equal(_decode(data + b"\0"), _decode(data))


@pytest.mark.parametrize("photometric", ["YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", ""])
@pytest.mark.parametrize("syntax", ["", JPEG_BASELINE, EXPLICIT_LITTLE_ENDIAN])
def test_jpeg_gives_the_colours(photometric: str, syntax: str) -> None:
    """A scanner's JPEG is close to what was encoded, whatever the header calls it."""
    assert _distance(_decode(jpeg(picture()), syntax, photometric), picture()) < 2


@pytest.mark.parametrize("app14", [True, False])
@pytest.mark.parametrize("letters", [True, False])
def test_rgb_jpeg_gives_the_colours(*, app14: bool, letters: bool) -> None:
    """An RGB JPEG has its colours with the marks of one and without, as the metadata say (facts/dicom.md 5, row 7)."""
    data = jpeg_rgb(picture(), app14=app14, letters=letters)
    assert _distance(_decode(data, JPEG_BASELINE, "RGB"), picture()) < 2


def test_the_marks_matter() -> None:
    """The unmarked file really is one that a decoder left to itself gets wrong."""
    data = jpeg_rgb(picture(), app14=False, letters=False)
    alone = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert _distance(alone, picture()) > 20


def test_subsampled_jpeg_is_what_opencv_makes_of_it() -> None:
    """The decoder is EZ-WSI's: not one pixel differs, for either subsampling."""
    for subsampling in ("422", "420"):
        data = bytes(imagecodecs.jpeg8_encode(picture(), level=80, subsampling=subsampling))
        expected = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        assert np.array_equal(_decode(data, JPEG_BASELINE, "YBR_FULL_422"), expected)


def test_odd_native_frame_with_its_padding() -> None:
    """A frame of odd length may have one padding byte, or none."""
    level = make_level(3, 3, frame_px=3)
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    for data in (pixels.tobytes(), pixels.tobytes() + b"\0"):
        assert np.array_equal(decode_frame(EncodedFrame(0, data, EXPLICIT_LITTLE_ENDIAN), level), pixels)


@pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\xff\x0a"])
def test_native_frame_that_begins_like_a_file(start: bytes) -> None:
    """A nearly white pixel at the corner makes no JPEG of a native frame."""
    data = start + picture().tobytes()[len(start) :]
    found = _decode(data, EXPLICIT_LITTLE_ENDIAN)
    assert found.tobytes() == data


def test_orientation_in_a_file_is_ignored() -> None:
    """An Exif orientation does not turn a tile."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = jpeg(picture())
    turned = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    assert np.array_equal(_decode(turned, JPEG_BASELINE, "YBR_FULL"), _decode(data, JPEG_BASELINE, "YBR_FULL"))
