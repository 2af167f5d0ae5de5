"""A mask drawn as an image (PNG, TIFF or JPEG) over the whole slide: what is not black is tissue."""

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from models.domain.errors import TissueFileInvalid
from models.imaging.tissue import TissueMask, covers_slide

MOST_PX = 1 << 28
_KEPT_PX = 1 << 26  # larger masks are brought down
_BAND_ROWS = 1024
_ALPHA = {"LA": 1, "RGBA": 3}  # channels before the one that is no ink
_MODES = {"1", "L", "P", "RGB", "I;16", "I;16B", "I;16L", "I", "F", *_ALPHA}
# Opened by their own classes: ``Image.open`` would try every format there is, and stops at 179 million pixels.
_READERS: tuple[tuple[bytes, Callable[[Path], Image.Image]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    *((magic, TiffImagePlugin.TiffImageFile) for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
)
# What Pillow raises on a damaged image.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, RuntimeError, OverflowError)


def read_mask_image(path: Path, slide_px: tuple[int, int]) -> TissueMask:
    """Read an image as a mask.

    Parameters
    ----------
    path : Path
        Of any size up to 2^28 pixels, grey, colour or black and white; of several pages the first. Any channel but
        alpha that is not 0 is tissue; a palette counts by its colours.
    slide_px : (int, int)
        Width and height of level 0.

    Raises
    ------
    TissueFileInvalid
        It is no such image, has not the slide's aspect ratio (within 2 %), or is black throughout.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise TissueFileInvalid(f"The mask cannot be read: {exc.strerror}.") from exc
    reader = next((reader for magic, reader in _READERS if start.startswith(magic)), None)
    if reader is None:
        raise TissueFileInvalid("The mask is neither PNG, TIFF or JPEG nor a DICOM Segmentation.")
    try:
        with warnings.catch_warnings(action="ignore"), reader(path) as image:  # Pillow's: of tags we do not need
            _check(image, slide_px)
            mask = _mask(image)
            looked_at = f"a mask of {image.width} x {image.height} px"
    except _DAMAGE as exc:
        raise TissueFileInvalid("The mask is a damaged image.") from exc
    if not mask.any():
        raise TissueFileInvalid("The mask is black throughout: no tissue is marked.")
    return TissueMask(mask, "mask", digest, looked_at)


def _check(image: Image.Image, slide_px: tuple[int, int]) -> None:
    if image.width * image.height > MOST_PX:
        raise TissueFileInvalid(f"The mask has {image.width} x {image.height} px: bring it down to 2^28 px or less.")
    if image.mode not in _MODES:
        raise TissueFileInvalid(f"The mask has pixels of kind {image.mode}: save it as grey or black and white.")
    if not covers_slide(image.size, slide_px):
        raise TissueFileInvalid(
            f"The mask has {image.width} x {image.height} px, the slide {slide_px[0]} x {slide_px[1]} px at level 0: "
            "it has another aspect ratio, so it does not cover the whole slide."
        )


def _mask(image: Image.Image) -> NDArray[np.bool_]:
    """Return what is not black, brought down to at most 2^26 pixels; one band at a time."""
    image.load()
    factor = 1
    while -(-image.width // factor) * -(-image.height // factor) > _KEPT_PX:
        factor += 1
    rows = _BAND_ROWS * factor
    bands = [
        _brought_down(_ink(image.crop((0, top, image.width, min(top + rows, image.height)))), factor)
        for top in range(0, image.height, rows)
    ]
    return np.concatenate(bands)


def _ink(band: Image.Image) -> NDArray[np.bool_]:
    pixels: NDArray[Any] = np.asarray(band.convert("RGB") if band.mode == "P" else band)
    if pixels.ndim == 2:
        return np.asarray(pixels != 0)
    return np.asarray((pixels[..., : _ALPHA.get(band.mode)] != 0).any(axis=2))


def _brought_down(ink: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """Return blocks of `factor` x `factor` pixels: tissue where half of them or more are."""
    if factor == 1:
        return ink
    size = (-(-ink.shape[1] // factor), -(-ink.shape[0] // factor))
    padded = np.pad(ink, ((0, size[1] * factor - len(ink)), (0, size[0] * factor - ink.shape[1])), mode="edge")
    return np.asarray(cv2.resize(padded.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) >= 128)
