"""What the bytes of a frame are: transfer syntaxes, and the marks by which compressed data give themselves away."""

from enum import StrEnum

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE_ENDIAN = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
PNG = "PNG"
"""No transfer syntax: DICOM has none for PNG. Archives hold such frames under the name of another, all the same."""


class Codec(StrEnum):
    """Kinds of encoded frames that are told apart by their first bytes."""

    NATIVE = "uncompressed"
    JPEG = "JPEG"
    JPEG_LOSSLESS = "lossless JPEG"
    JPEG_LS = "JPEG-LS"
    JPEG_2000 = "JPEG 2000"
    HTJ2K = "HTJ2K"
    JPEG_XL = "JPEG XL"
    RLE = "RLE"
    PNG = "PNG"


# PS3.5 A.4; PS3.6 A-1.
CODEC_OF_SYNTAX = {
    IMPLICIT_LITTLE_ENDIAN: Codec.NATIVE,
    EXPLICIT_LITTLE_ENDIAN: Codec.NATIVE,
    DEFLATED_LITTLE_ENDIAN: Codec.NATIVE,
    EXPLICIT_BIG_ENDIAN: Codec.NATIVE,  # samples of 8 bits have no byte order
    JPEG_BASELINE: Codec.JPEG,
    "1.2.840.10008.1.2.4.51": Codec.JPEG,
    "1.2.840.10008.1.2.4.57": Codec.JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.70": Codec.JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.80": Codec.JPEG_LS,
    "1.2.840.10008.1.2.4.81": Codec.JPEG_LS,
    "1.2.840.10008.1.2.4.90": Codec.JPEG_2000,
    JPEG_2000: Codec.JPEG_2000,
    "1.2.840.10008.1.2.4.110": Codec.JPEG_XL,
    "1.2.840.10008.1.2.4.111": Codec.JPEG_XL,
    "1.2.840.10008.1.2.4.112": Codec.JPEG_XL,
    "1.2.840.10008.1.2.4.201": Codec.HTJ2K,
    "1.2.840.10008.1.2.4.202": Codec.HTJ2K,
    "1.2.840.10008.1.2.4.203": Codec.HTJ2K,
    "1.2.840.10008.1.2.5": Codec.RLE,
    PNG: Codec.PNG,
}

_SYNTAX_OF_CODEC = {
    Codec.NATIVE: EXPLICIT_LITTLE_ENDIAN,
    Codec.JPEG: JPEG_BASELINE,
    Codec.JPEG_LOSSLESS: "1.2.840.10008.1.2.4.70",
    Codec.JPEG_LS: "1.2.840.10008.1.2.4.80",
    Codec.JPEG_2000: JPEG_2000,
    Codec.HTJ2K: "1.2.840.10008.1.2.4.203",
    Codec.JPEG_XL: "1.2.840.10008.1.2.4.112",
    Codec.RLE: "1.2.840.10008.1.2.5",
    Codec.PNG: PNG,
}

_JPEG_START = b"\xff\xd8\xff"
_J2K_START = b"\xff\x4f\xff\x51"
_JP2_START = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
_JXL_STARTS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")
_RLE_START = b"\x03\x00\x00\x00\x40\x00\x00\x00"  # three segments, the first after the header (PS3.5 G.5)
_PNG_START = b"\x89PNG\r\n\x1a\n"
_STARTS = (_PNG_START, _JPEG_START, _J2K_START, _JP2_START, *_JXL_STARTS, _RLE_START)
_OTHER_STARTS = (((_RLE_START,), Codec.RLE), (_JXL_STARTS, Codec.JPEG_XL), ((_PNG_START,), Codec.PNG))
_START_OF_FRAME = {
    0xC0: Codec.JPEG,
    0xC1: Codec.JPEG,
    0xC2: Codec.JPEG,
    0xC3: Codec.JPEG_LOSSLESS,
    0xF7: Codec.JPEG_LS,
}
_HIGH_THROUGHPUT = b"\xff\x50"  # CAP marker of Part 15


def jpeg_segments(data: bytes | memoryview) -> list[tuple[int, int, int]]:
    """Return the header segments of a JPEG up to its scan: (marker, start of content, end), ITU-T T.81 B.1."""
    segments, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = data[at + 2] << 8 | data[at + 3]
        segments.append((marker, at + 4, at + 2 + length))
        if marker == 0xDA:
            break
        at += 2 + max(length, 2)
    return segments


def _jpeg_process(data: bytes | memoryview) -> Codec:
    """Return which kind of JPEG it is, by its frame header; the feed asks this of every frame."""
    at, size = 2, len(data)
    while at + 4 <= size and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            return _START_OF_FRAME[marker]
        if marker == 0xDA:
            break
        at += 1 if marker == 0xFF else 2 + max(data[at + 2] << 8 | data[at + 3], 2)
    return Codec.JPEG


def begins_image(head: bytes) -> bool:
    """Whether bytes begin like a compressed image of any kind; sixteen of them are enough."""
    return head.startswith(_STARTS)


def sniff(data: bytes | memoryview, native_bytes: int) -> Codec | None:
    """Return what the bytes are, by themselves.

    Parameters
    ----------
    data : bytes-like
    native_bytes : int
        Length of the frame if it were uncompressed; one padding byte more is allowed (PS3.5 A.4).

    Returns
    -------
    Codec or None
        None: neither a known mark nor the length of native pixels.
    """
    head = bytes(data[:16])
    if head.startswith(_JPEG_START):
        return _jpeg_process(data)
    if head.startswith((_J2K_START, _JP2_START)):
        return Codec.HTJ2K if _HIGH_THROUGHPUT in bytes(data[:256]) else Codec.JPEG_2000
    for starts, codec in _OTHER_STARTS:
        if head.startswith(starts):
            return codec
    return Codec.NATIVE if len(data) in _native_lengths(native_bytes) else None


def _native_lengths(native_bytes: int) -> tuple[int, int]:
    return native_bytes, native_bytes + native_bytes % 2


def settle(declared: str, data: bytes | memoryview, native_bytes: int) -> tuple[str, bool]:
    """Return the transfer syntax to decode by, and whether the server's word for it was kept.

    The part's header is checked against the bytes; where they disagree the bytes are right (dcm4chee
    mislabels .50, an open issue of theirs).

    Parameters
    ----------
    declared : str
        Transfer syntax that the source named; "" if it named none.
    data : bytes-like
    native_bytes : int
        As for `sniff`.
    """
    named = CODEC_OF_SYNTAX.get(declared)
    if named is Codec.NATIVE and len(data) in _native_lengths(native_bytes):
        return declared, True  # pixels may begin with any bytes, also with a compressed file's mark
    seen = sniff(data, native_bytes)
    if seen is None or named == seen:
        return declared, True
    return _SYNTAX_OF_CODEC[seen], not declared
