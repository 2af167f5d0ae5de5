"""Which colour model the frames that a server gives are in, where it may have decoded them."""

from collections.abc import Mapping
from typing import Any

from connectors.dicom.attributes import text
from models.domain.errors import PixelsUnsupported
from models.imaging.syntax import CODEC_OF_SYNTAX, Codec

_PHOTOMETRIC, _LOSSY = "00280004", "00282110"
_SYNTAXES = (
    "00083002",
    "00020010",
)  # Available Transfer Syntax UID; a file's own, where a server puts it into metadata


def photometric_of(said: Mapping[str, Any], data: bytes | memoryview, native_bytes: int) -> str:
    """Return the colour model of a frame that came over the wire.

    Photometric Interpretation tells of the pixels as they are stored. Samples that come uncompressed and are stored
    compressed have been through the server's decoder, and that gives RGB, as Orthanc's and dcm4che's do.

    Parameters
    ----------
    said : DICOM JSON of the instance
    data : bytes-like
        The frame.
    native_bytes : int
        Length of three uncompressed samples for each of its pixels.

    Raises
    ------
    PixelsUnsupported
        It cannot be told whether the server has decoded it.
    """
    stored = text(said, _PHOTOMETRIC)
    if not stored.startswith("YBR") or len(data) not in {native_bytes, native_bytes + native_bytes % 2}:
        return stored
    syntax = next((name for tag in _SYNTAXES if (name := text(said, tag))), "")
    if stored != "YBR_FULL":
        return "RGB"  # full samples for each pixel are YBR_FULL, if they are luminance at all (PS3.3 C.7.6.3.1.2)
    if syntax:
        return stored if CODEC_OF_SYNTAX.get(syntax) is Codec.NATIVE else "RGB"
    if text(said, _LOSSY) == "01":
        raise PixelsUnsupported(
            "The server gives uncompressed frames of a slide that was compressed, and does not say how it stores it: "
            "whether they are YBR_FULL still, or RGB, cannot be told."
        )
    return stored
