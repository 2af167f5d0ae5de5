"""An encoded frame becomes RGB pixels, or an error; never something in between."""

import re

import imagecodecs
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from models.domain.errors import FrameUndecodable, PixelsUnsupported
from models.domain.patch import EncodedFrame
from models.domain.slide import Level
from models.imaging.codestream import (
    Header,
    HeaderFault,
    header_of,
    jpeg_2000_codestream,
    jpeg_2000_transformed,
    jpeg_marks,
    longest_frame,
)
from models.imaging.luminance import rgb_of, unpaired
from models.imaging.rle import decode_rle
from models.imaging.syntax import CODEC_OF_SYNTAX, Codec, jpeg_segments, settle

_YBR = {"YBR_FULL", "YBR_FULL_422"}
# What can be made RGB besides RGB itself: by the decoder, or by PS3.3 C.7.6.3.1.2 where it leaves samples alone.
_COLOURS: dict[Codec, set[str]] = {
    Codec.NATIVE: _YBR,
    Codec.RLE: {"YBR_FULL"},
    Codec.JPEG: {*_YBR, "YBR_PARTIAL_420"},
    Codec.JPEG_LOSSLESS: {"YBR_FULL"},
    Codec.JPEG_LS: {"YBR_FULL"},
    Codec.JPEG_2000: {"YBR_ICT", "YBR_RCT", "YBR_FULL"},
    Codec.HTJ2K: {"YBR_ICT", "YBR_RCT", "YBR_FULL"},
    Codec.JPEG_XL: {*_YBR, "YBR_PARTIAL_420", "XYB"},
    Codec.PNG: {*_YBR, "YBR_PARTIAL_420"},  # always RGB; the metadata speak of the syntax it goes by
}
_START_OF_SCAN, _COLOUR_SEGMENTS = 0xDA, {0xE0, 0xEE}
_START_OF_IMAGE, _END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
_PNG_END = b"IEND\xae\x42\x60\x82"
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
        Damaged bytes, or pixels of another shape than the metadata promise: by the frame's own header, before a
        decoder allocates anything, and by what comes out.
    """
    promised = Header(level.frame_height_px, level.frame_width_px, 3, 8)
    size, native_bytes = len(frame.data), promised.height_px * promised.width_px * 3
    if size == 0:
        raise FrameUndecodable(f"Frame {frame.index + 1} is empty: the slide is damaged in the archive.")
    photometric = frame.photometric or level.photometric
    codec = _codec_of(frame, photometric, native_bytes)
    name = f"Frame {frame.index + 1} ({codec.value}, {size} bytes)"
    try:
        _check(codec, frame.data, promised)
        pixels = _decode(codec, frame, promised, photometric)
    except HeaderFault as exc:
        raise FrameUndecodable(f"{name} is not decoded: {exc}.") from exc
    except (ValueError, RuntimeError) as exc:
        raise FrameUndecodable(f"{name} does not decode: it is cut off or damaged.") from exc
    if pixels.shape != (promised.height_px, promised.width_px, 3) or pixels.dtype != np.uint8:
        raise FrameUndecodable(f"{name} decodes to {pixels.dtype} {pixels.shape}, the metadata promise {promised}.")
    return pixels


def _check(codec: Codec, data: bytes | memoryview, promised: Header) -> None:
    """Hold a frame's own header against the metadata, so that no decoder allocates what only the frame asks for."""
    native_bytes = promised.height_px * promised.width_px * 3
    if len(data) > longest_frame(native_bytes):
        raise HeaderFault(f"its pixels take {native_bytes} bytes uncompressed")
    found = header_of(codec, data)
    if found is not None and found != promised:
        raise HeaderFault(f"by its own header it has {found}, the metadata promise {promised}")


def _codec_of(frame: EncodedFrame, photometric: str, native_bytes: int) -> Codec:
    syntax, _ = settle(frame.transfer_syntax, frame.data, native_bytes)
    codec = CODEC_OF_SYNTAX.get(syntax)
    if codec is None:
        raise PixelsUnsupported(
            "The slide's frames are in a compression that neither header nor bytes name: Slidewire cannot decode them."
        )
    if photometric not in {"RGB", "", *_COLOURS[codec]}:
        raise PixelsUnsupported(
            f"The slide's pixels are {photometric} in {codec.value}: that is no colour model Slidewire embeds."
        )
    return codec


def _decode(codec: Codec, frame: EncodedFrame, promised: Header, photometric: str) -> NDArray[np.uint8]:
    data = frame.data
    if codec is Codec.JPEG:
        return _decode_jpeg(data, photometric)
    if codec is Codec.JPEG_XL:
        return np.asarray(imagecodecs.jpegxl_decode(bytes(data), keeporientation=True, numthreads=1))
    if codec is Codec.PNG:
        if _PNG_END not in bytes(data[-16:]):  # its decoder goes without the last rows
            raise ValueError(_NO_END)
        return np.asarray(imagecodecs.png_decode(bytes(data)))
    if codec is Codec.JPEG_LOSSLESS:
        pixels = _decode_lossless_jpeg(data)
    elif codec is Codec.JPEG_LS:
        if not _has_end(data):  # its decoder takes seconds to notice
            raise ValueError(_NO_END)
        pixels = np.asarray(imagecodecs.jpegls_decode(bytes(data)))
    elif codec is Codec.RLE:
        pixels = decode_rle(data, promised.height_px, promised.width_px)
    elif codec is Codec.NATIVE:
        pixels = _native(frame, promised, photometric)
    else:
        return _decode_jpeg_2000(data, photometric)
    return rgb_of(pixels) if photometric.startswith("YBR") else pixels


def _native(frame: EncodedFrame, promised: Header, photometric: str) -> NDArray[np.uint8]:
    height, width = promised.height_px, promised.width_px
    paired = photometric == "YBR_FULL_422"
    count = height * width * (2 if paired else 3)
    if len(frame.data) not in (count, count + count % 2) or (paired and width % 2):
        raise HeaderFault(f"its {promised} of {photometric or 'RGB'} take {count} bytes")
    samples = np.frombuffer(frame.data, np.uint8, count=count)
    if paired:
        return unpaired(samples.reshape(height, width // 2, 4))
    if frame.planar:
        return np.ascontiguousarray(samples.reshape(3, height * width).T).reshape(height, width, 3)
    return samples.reshape(height, width, 3).copy()  # a view would keep all that was read with it


def _decode_jpeg_2000(data: bytes | memoryview, photometric: str) -> NDArray[np.uint8]:
    """Decode JPEG 2000 and HTJ2K with OpenJPEG.

    OpenJPH, the other decoder of HTJ2K at hand, goes on where a block is damaged, and its samples of irreversibly
    coded frames wrap around at 0 and 255 (imagecodecs 2026.3.6).
    """
    codestream = jpeg_2000_codestream(data)
    transformed = jpeg_2000_transformed(codestream)
    # PS3.5 8.2.4: YBR_ICT and YBR_RCT are what the codestream's own transform makes, YBR_FULL is without it.
    if photometric in ({"YBR_FULL"} if transformed else {"YBR_ICT", "YBR_RCT"}):
        does = "has" if transformed else "lacks"
        raise PixelsUnsupported(
            f"The slide's pixels are said to be {photometric}, but a JPEG 2000 frame {does} a colour transform of its "
            "own: which colours are meant cannot be told."
        )
    pixels = np.asarray(imagecodecs.jpeg2k_decode(bytes(codestream)))
    return rgb_of(pixels) if photometric == "YBR_FULL" else pixels


def _decode_lossless_jpeg(data: bytes | memoryview) -> NDArray[np.uint8]:
    """Decode a lossless JPEG's samples as they are, whatever marks of a colour model it has.

    libjpeg-turbo notices a cut-off scan; the other decoders at hand make up the rest.
    """
    if not _has_end(data):
        raise ValueError(_NO_END)
    kept, at = [_START_OF_IMAGE + _ADOBE_RGB], 2
    for marker, start, end in jpeg_segments(data):
        if marker in _COLOUR_SEGMENTS:
            kept.append(bytes(data[at : start - 4]))
            at = end
    kept.append(bytes(data[at:]))
    return np.asarray(simplejpeg.decode_jpeg(b"".join(kept), "RGB", strict=True))


def _decode_jpeg(data: bytes | memoryview, photometric: str) -> NDArray[np.uint8]:
    """Decode baseline and extended JPEG with libjpeg-turbo, where a remark on lost data is an error.

    OpenCV and Pillow return whatever libjpeg made up for damaged or missing data, grey or smeared; their pixels of
    whole frames are the same to the bit.
    """
    if photometric == "RGB" and _is_unmarked_rgb(data):
        data = _START_OF_IMAGE + _ADOBE_RGB + bytes(data[2:])
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
    Photometric Interpretation is what tells (PS3.5 8.2.1). A JFIF segment or subsampled components contradict it:
    such samples are YCbCr, whatever the metadata say.
    """
    marks = jpeg_marks(data)
    return not (marks.adobe or marks.jfif or marks.subsampled or marks.ids == b"RGB")
