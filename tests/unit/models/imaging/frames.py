"""Encoded frames of every kind that slides have, made by the codecs themselves."""

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from models.imaging.syntax import CODEC_OF_SYNTAX, Codec

SIDE = 48
NATIVE_BYTES = SIDE * SIDE * 3
SYNTAXES = {codec: [uid for uid, found in CODEC_OF_SYNTAX.items() if found is codec] for codec in Codec}


def picture(seed: int = 5) -> NDArray[np.uint8]:
    """Return smooth colours with much red and little blue, so that swapped channels show."""
    noise = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 3).astype(np.float64)
    return (smooth * [0.6, 0.5, 0.3] + [90, 40, 5]).astype(np.uint8)


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Return a JPEG in YCbCr, as scanners write them."""
    return bytes(imagecodecs.jpeg8_encode(pixels, level=95))


def jpeg_rgb(pixels: NDArray[np.uint8], *, app14: bool, letters: bool) -> bytes:
    """Return a JPEG whose components are R, G, B, with or without the marks that say so."""
    data = bytearray(imagecodecs.jpeg8_encode(pixels, level=95, colorspace="RGB", outcolorspace="RGB"))
    at, names = 2, b"RGB" if letters else b"\x01\x02\x03"
    out = bytearray(data[:2])
    while True:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at : at + 2 + length]
        if marker == 0xC0:  # frame header: id, sampling, table for each component
            segment[10::3] = names
        if marker == 0xDA:  # scan header: id, tables for each component
            for position, one in enumerate(names):
                segment[5 + 2 * position] = one
            out += segment + data[at + 2 + length :]
            return bytes(out)
        if marker != 0xEE or app14:
            out += segment
        at += 2 + length


def ybr_of(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return YBR_FULL by the numbers of PS3.3 C.7.6.3.1.2."""
    weights = np.array([[0.2990, 0.5870, 0.1140], [-0.1687, -0.3313, 0.5000], [0.5000, -0.4187, -0.0813]])
    return np.clip(np.rint(pixels @ weights.T + [0, 128, 128]), 0, 255).astype(np.uint8)


def paired(ybr: NDArray[np.uint8]) -> bytes:
    """Return native YBR_FULL_422: Y, Y, CB, CR for two pixels, the chroma that of the first."""
    samples = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    return samples.tobytes()


def rle(pixels: NDArray[np.uint8]) -> bytes:
    """Return an RLE frame (PS3.5 G): a header, then one segment of literal runs a channel."""
    segments = []
    for channel in range(3):
        flat = pixels[..., channel].tobytes()
        runs = [flat[at : at + 128] for at in range(0, len(flat), 128)]
        segments.append(b"".join(bytes([len(run) - 1]) + run for run in runs))
    # Segments are of even length (PS3.5 G.3.1).
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = [64, 64 + len(segments[0]), 64 + len(segments[0]) + len(segments[1])]
    head = np.zeros(16, "<u4")
    head[:4] = [3, *offsets]
    return head.tobytes() + b"".join(segments)


def encoded(codec: Codec, given: NDArray[np.uint8] | None = None, *, transform: bool = True) -> bytes:
    """Return `picture`, or what is given, in a codec; JPEG 2000 with or without its own colour transform."""
    pixels = picture() if given is None else given
    return {
        Codec.NATIVE: pixels.tobytes,
        Codec.JPEG: lambda: jpeg(pixels),
        Codec.JPEG_LOSSLESS: lambda: bytes(
            imagecodecs.jpeg8_encode(pixels, lossless=True, colorspace="RGB", outcolorspace="RGB")
        ),
        Codec.JPEG_LS: lambda: bytes(imagecodecs.jpegls_encode(pixels)),
        Codec.JPEG_2000: lambda: bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", mct=transform)),
        Codec.HTJ2K: lambda: bytes(imagecodecs.htj2k_encode(pixels, reversible=True, rgb=transform)),
        Codec.PNG: lambda: bytes(imagecodecs.png_encode(pixels)),
        Codec.JPEG_XL: lambda: bytes(imagecodecs.jpegxl_encode(pixels, lossless=True)),
        Codec.RLE: lambda: rle(pixels),
    }[codec]()
