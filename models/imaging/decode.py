"""An encoded frame becomes RGB pixels, or an error; never something in between."""

import re
from collections.abc import Callable

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from models.domain.errors import FrameUndecodable, PixelsUnsupported
from models.domain.patch import EncodedFrame
from models.domain.slide import Level
from models.imaging.syntax import CODEC_OF_SYNTAX, Codec, jpeg_segments, settle

# What each decoder turns into RGB by itself, besides RGB (PS3.5 8.2): anything else would come out in wrong colours.
_JPEG_COLOURS = {"YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420"}
_COLOURS: dict[Codec, set[str]] = {
    Codec.NATIVE: set(),
    Codec.JPEG: _JPEG_COLOURS,
    Codec.JPEG_LOSSLESS: set(),
    Codec.JPEG_LS: set(),
    Codec.JPEG_2000: {"YBR_ICT", "YBR_RCT"},
    Codec.JPEG_XL: {*_JPEG_COLOURS, "XYB"},
}
_DECODERS: dict[Codec, Callable[[bytes], object]] = {
    Codec.JPEG_2000: imagecodecs.jpeg2k_decode,
    Codec.JPEG_LOSSLESS: imagecodecs.ljpeg_decode,
    Codec.JPEG_LS: imagecodecs.jpegls_decode,
    Codec.JPEG_XL: imagecodecs.jpegxl_decode,
}
# Of a cut-off file, the decoder of the first makes up the rest, and that of the second takes seconds to notice.
_ENDED = {Codec.JPEG_LOSSLESS, Codec.JPEG_LS}
_APP14, _START_OF_SCAN, _START_OF_FRAME = 0xEE, 0xDA, {0xC0, 0xC1, 0xC2}
_START_OF_IMAGE, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
_ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"  # version 100, no flags, no colour transform
# What libjpeg remarks on without a pixel being lost, and what it says of a file that just lacks its last marker.
_HARMLESS = ("Invalid SOS", "unknown JFIF", "Unknown Adobe", "Inconsistent progression")
_NO_END, _LEFT_OVER = "Premature end", re.compile(r"(\d+) extraneous bytes before marker 0xd9")


def decode_frame(frame: EncodedFrame, level: Level) -> NDArray[np.uint8]:
    """Decode one frame.

    Parameters
    ----------
    frame : EncodedFrame
    level : Level
        Says what the frame must decode to.

    Returns
    -------
    uint8 array, shape (frame_height_px, frame_width_px, 3)
        RGB (row, column, channel).

    Raises
    ------
    PixelsUnsupported
        A compression or colour model that is not embedded.
    FrameUndecodable
        Damaged bytes, or pixels of another shape than the metadata promise.
    """
    shape = (level.frame_height_px, level.frame_width_px, 3)
    if len(frame.data) == 0:
        raise FrameUndecodable(f"Frame {frame.index + 1} is empty: the slide is damaged in the archive.")
    codec = _codec_of(frame, level.photometric, shape[0] * shape[1] * 3)
    damaged = FrameUndecodable(
        f"Frame {frame.index + 1} ({codec.value}, {len(frame.data)} bytes) does not decode: it is cut off or damaged."
    )
    try:
        pixels = _decode(codec, frame.data, shape, level.photometric)
    except (ValueError, RuntimeError) as exc:
        raise damaged from exc
    if pixels is None:
        raise damaged
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise FrameUndecodable(
            f"Frame {frame.index + 1} decodes to {pixels.dtype} {pixels.shape}, the metadata promise uint8 {shape}."
        )
    return pixels


def _codec_of(frame: EncodedFrame, photometric: str, native_bytes: int) -> Codec:
    syntax, _ = settle(frame.transfer_syntax, frame.data, native_bytes)
    codec = CODEC_OF_SYNTAX.get(syntax)
    if codec is None or codec not in _COLOURS:
        kind = codec.value if codec else "in a compression that neither header nor bytes name"
        raise PixelsUnsupported(f"The slide's frames are {kind}: Slidewire cannot decode them yet.")
    if photometric not in {"RGB", "", *_COLOURS[codec]}:
        raise PixelsUnsupported(
            f"The slide's pixels are {photometric} in {codec.value}: that is no colour model Slidewire embeds."
        )
    return codec


def _decode(
    codec: Codec, data: bytes | memoryview, shape: tuple[int, int, int], photometric: str
) -> NDArray[np.uint8] | None:
    if codec in _ENDED and not _has_end(data):
        return None
    if codec is Codec.JPEG:
        if photometric == "RGB" and _is_unmarked_rgb(data):
            data = _START_OF_IMAGE + _ADOBE_RGB + bytes(data[2:])
        return _decode_jpeg(data)
    if codec is Codec.NATIVE:
        count = shape[0] * shape[1] * shape[2]
        if len(data) not in (count, count + count % 2):
            return None
        return np.frombuffer(data, np.uint8, count=count).reshape(shape)
    return np.asarray(_DECODERS[codec](bytes(data)))


def _decode_jpeg(data: bytes | memoryview) -> NDArray[np.uint8]:
    """Decode baseline and extended JPEG with libjpeg-turbo, where a remark on lost data is an error.

    OpenCV and Pillow return whatever libjpeg made up for damaged or missing data, grey or smeared; their pixels of
    whole frames are the same to the bit.
    """
    try:
        return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=True))
    except ValueError as exc:
        remark = str(exc)
        if _NO_END in remark and _END_OF_IMAGE not in bytes(data[-3:]):
            return np.asarray(simplejpeg.decode_jpeg(bytes(data) + _END_OF_IMAGE, "RGB", strict=True))
        if any(known in remark for known in _HARMLESS) or _is_padding(data, remark):
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB", strict=False))
        raise


def _is_padding(data: bytes | memoryview, remark: str) -> bool:
    """Whether what is left over before the end marker is padding; left-over data mean that some were misread."""
    found = _LEFT_OVER.search(remark)
    end = bytes(data).rfind(_END_OF_IMAGE)
    return found is not None and set(bytes(data[end - int(found[1]) : end])) in ({0x00}, {0xFF})


def _has_end(data: bytes | memoryview) -> bool:
    """Whether a JPEG has its end marker after its first scan; in a scan's data it cannot occur (ITU-T T.81 F.1.2.3)."""
    scans = [end for marker, _, end in jpeg_segments(data) if marker == _START_OF_SCAN]
    return bool(scans) and _END_OF_IMAGE in bytes(data[scans[0] :])


def _is_unmarked_rgb(data: bytes | memoryview) -> bool:
    """Whether an RGB JPEG lacks the marks by which decoders know it (APP14, component ids 'RGB').

    Without them every decoder takes the samples for YCbCr, and the colours come out wrong; the
    Photometric Interpretation is what tells (PS3.5 8.2.1).
    """
    for marker, start, end in jpeg_segments(data):
        if marker == _APP14 and bytes(data[start : start + 5]) == b"Adobe":
            return False
        if marker in _START_OF_FRAME:
            components = bytes(data[start + 6 : end : 3])
            return components[:3] != b"RGB"
    return True
