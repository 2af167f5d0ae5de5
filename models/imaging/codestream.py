"""What a compressed image says of itself before a single pixel is decoded: its size, its samples, its colours.

A decoder allocates what a header asks for, so a header is read here first, and held against what the slide's metadata
promise. Nothing is copied but the few bytes that are looked at.
"""

import struct
from dataclasses import dataclass

from models.imaging.syntax import Codec, jpeg_segments

_J2K_START, _JXL_START = b"\xff\x4f\xff\x51", b"\xff\x0a"
_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})
_SOS, _APP0, _APP14 = 0xDA, 0xE0, 0xEE
_SIZ, _COD, _SOT = 0xFF51, 0xFF52, 0xFF90
_MOST_TILES = 1024  # inside one frame; OpenJPEG takes kilobytes for each before it looks at any
_MOST_SCANS = 64
_PNG_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}  # by colour type; a palette (3) is none of them
_LONGEST, _SLACK_BYTES = 4, 1 << 16


class HeaderFault(ValueError):
    """A header that cannot be read, or asks for what no frame of a slide needs; says which."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a frame decodes to by its own account.

    Parameters
    ----------
    height_px, width_px : int
    samples : int
        Per pixel.
    bits : int
        Per sample.
    """

    height_px: int
    width_px: int
    samples: int
    bits: int

    def __str__(self) -> str:
        return f"{self.width_px} x {self.height_px} px of {self.samples} x {self.bits} bit"


def longest_frame(native_bytes: int) -> int:
    """Return how many bytes an encoded frame may have, by its uncompressed length: no codec grows pixels that much."""
    return _LONGEST * native_bytes + _SLACK_BYTES


def header_of(codec: Codec, data: bytes | memoryview) -> Header | None:
    """Return what a frame's own header says; None of codecs that have none (native pixels, RLE).

    Raises
    ------
    HeaderFault
    """
    try:
        if codec in {Codec.JPEG, Codec.JPEG_LOSSLESS, Codec.JPEG_LS}:
            return _jpeg_header(data)
        if codec in {Codec.JPEG_2000, Codec.HTJ2K}:
            return _jpeg_2000_header(jpeg_2000_codestream(data))
        if codec is Codec.JPEG_XL:
            return _jpeg_xl_header(_jpeg_xl_codestream(data))
        if codec is Codec.PNG:
            return _png_header(data)
    except (struct.error, IndexError) as exc:
        raise HeaderFault("its header is cut off") from exc
    return None


def _jpeg_header(data: bytes | memoryview) -> Header:
    """Read the frame header of a JPEG (ITU-T T.81 B.2.2) or JPEG-LS (ITU-T T.87 C.2.2)."""
    at, size = 2, len(data)
    while at + 4 <= size and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _SOF:
            bits, height, width, samples = struct.unpack_from(">BHHB", data, at + 4)
            if marker == 0xC2 and bytes(data).count(b"\xff\xda") > _MOST_SCANS:
                raise HeaderFault(f"it has more than {_MOST_SCANS} scans")  # each is a pass over all pixels
            return Header(height, width, samples, bits)
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == _SOS:
            break
        else:
            at += 2 + max(data[at + 2] << 8 | data[at + 3], 2)
    raise HeaderFault("it has no frame header of a process that is decoded")


@dataclass(frozen=True, slots=True)
class JpegMarks:
    """By what a decoder knows the colours of a JPEG.

    Parameters
    ----------
    jfif : bool
        Has a JFIF segment: its colours are YCbCr (ITU-T T.871 7).
    adobe : bool
        Has Adobe's APP14, which says what its colours are.
    ids : bytes
        Component identifiers.
    subsampled : bool
        Some components have fewer samples than others.
    """

    jfif: bool
    adobe: bool
    ids: bytes
    subsampled: bool


def jpeg_marks(data: bytes | memoryview) -> JpegMarks:
    """Return the marks of a JPEG that has passed `header_of`."""
    jfif = adobe = False
    for marker, start, end in jpeg_segments(data):
        if marker == _APP0:
            jfif = jfif or bytes(data[start : start + 4]) == b"JFIF"
        elif marker == _APP14:
            adobe = adobe or bytes(data[start : start + 5]) == b"Adobe"
        elif marker in _SOF:
            components = bytes(data[start + 6 : end])
            return JpegMarks(jfif, adobe, components[::3], len(set(components[1::3])) > 1)
    return JpegMarks(jfif, adobe, b"", subsampled=False)


def jpeg_2000_codestream(data: bytes | memoryview) -> memoryview:
    """Return the codestream, taken out of its JP2 boxes if it is in any (ISO/IEC 15444-1 I.5); DICOM wants it bare."""
    view = memoryview(data)
    if bytes(view[:4]) == _J2K_START:
        return view
    return _box(view, (b"jp2c",))


def _box(view: memoryview, kinds: tuple[bytes, ...]) -> memoryview:
    """Return the content of the first box of a kind."""
    at = 0
    while at + 8 <= len(view):
        length, kind = struct.unpack_from(">I4s", view, at)
        head = 8
        if length == 1:
            length, head = struct.unpack_from(">Q", view, at + 8)[0], 16
        end = len(view) if length == 0 else at + length
        if end < at + head:
            break
        if kind in kinds:
            return view[at + head : end]
        at = end
    raise HeaderFault("no codestream is in it")


def _jpeg_2000_header(view: memoryview) -> Header:
    """Read the SIZ segment of a codestream (ISO/IEC 15444-1 A.5.1), which comes first."""
    marker, _, _, *numbers = struct.unpack_from(">HHH8IH", view, 2)
    if marker != _SIZ:
        raise HeaderFault("its codestream has no size")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, samples = numbers
    parts = view[42 : 42 + 3 * samples]
    if len(parts) < 3 * samples or not samples or right <= left or bottom <= top or not tile_width or not tile_height:
        raise HeaderFault("its codestream has no size")
    tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    if tiles > _MOST_TILES:
        raise HeaderFault(f"its codestream is cut into {tiles} tiles")
    if set(bytes(parts[1::3])) | set(bytes(parts[2::3])) != {1}:
        raise HeaderFault("its components are subsampled")
    if len(set(bytes(parts[0::3]))) > 1:
        raise HeaderFault("its components are of different depths")
    return Header(bottom - top, right - left, samples, (parts[0] & 0x7F) + 1)


def jpeg_2000_transformed(view: memoryview) -> bool:
    """Whether a codestream undoes a colour transform of its own (ISO/IEC 15444-1 A.6.1, SGcod).

    Raises
    ------
    HeaderFault
    """
    at = 2
    try:
        while (marker := view[at] << 8 | view[at + 1]) != _SOT:
            if marker == _COD:
                return bool(view[at + 8])
            at += 2 + max(view[at + 2] << 8 | view[at + 3], 2)
    except IndexError as exc:
        raise HeaderFault("its header is cut off") from exc
    raise HeaderFault("its codestream does not say how it is coded")


def _jpeg_xl_codestream(data: bytes | memoryview) -> memoryview:
    view = memoryview(data)
    if bytes(view[:2]) == _JXL_START:
        return view
    found = _box(view, (b"jxlc", b"jxlp"))
    return found if bytes(found[:2]) == _JXL_START else found[4:]  # a part is numbered


class _Bits:
    """Bits from the low end of each byte up (ISO/IEC 18181-1 B.1)."""

    def __init__(self, view: memoryview) -> None:
        self._value = int.from_bytes(view[:64], "little")
        self._left = 8 * len(view[:64])

    def take(self, count: int) -> int:
        """Return the next bits as a number."""
        if count > self._left:
            raise IndexError(count)
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def one_of(self, *choices: tuple[int, int]) -> int:
        """Return a number in one of four forms (U32): an offset and how many bits are added to it."""
        offset, count = choices[self.take(2)]
        return offset + self.take(count)


def _png_header(data: bytes | memoryview) -> Header:
    """Read the IHDR chunk (ISO/IEC 15948 11.2.2), which comes first."""
    kind, width, height, bits, colours = struct.unpack_from(">4sIIBB", data, 12)
    if kind != b"IHDR" or colours not in _PNG_SAMPLES:
        raise HeaderFault("it is a PNG without a header, or with a palette")
    return Header(height, width, _PNG_SAMPLES[colours], bits)


_JXL_SIDE = ((1, 9), (1, 13), (1, 18), (1, 30))
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def _jpeg_xl_size(bits: _Bits) -> tuple[int, int]:
    """Read a SizeHeader (ISO/IEC 18181-1 D.2): height, width."""
    small = bits.take(1)
    height = (bits.take(5) + 1) * 8 if small else bits.one_of(*_JXL_SIDE)
    ratio = bits.take(3)
    if ratio:
        across, down = _JXL_RATIOS[ratio - 1]
        return height, height * across // down
    return height, (bits.take(5) + 1) * 8 if small else bits.one_of(*_JXL_SIDE)


def _jpeg_xl_header(view: memoryview) -> Header:
    """Read the size and the sample depth of a JPEG XL codestream (ISO/IEC 18181-1 D.2, D.3)."""
    if bytes(view[:2]) != _JXL_START:
        raise HeaderFault("no codestream is in it")
    bits = _Bits(view[2:])
    height, width = _jpeg_xl_size(bits)
    if bits.take(1):  # all metadata are the default: 8 bit, colour, nothing besides
        return Header(height, width, 3, 8)
    if bits.take(1):  # extra fields
        bits.take(3)  # orientation: a frame of a slide is taken as it is coded
        if bits.take(1):
            _jpeg_xl_size(bits)
        if bits.take(2):
            raise HeaderFault("it has a preview or is animated")
    floating = bits.take(1)
    depth = (
        bits.one_of((32, 0), (16, 0), (24, 0), (1, 6)) if floating else bits.one_of((8, 0), (10, 0), (12, 0), (1, 6))
    )
    if floating:
        bits.take(4)  # bits of the exponent
    bits.take(1)  # whether 16-bit buffers are enough
    extra = bits.one_of((0, 0), (1, 0), (2, 4), (1, 12))
    return Header(height, width, 3 + extra, depth)
