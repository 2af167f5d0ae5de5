"""One flat image (PNG, JPEG, TIFF), wherever it came from, as a slide of a single frame."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from ez_wsi_dicomweb import ez_wsi_errors

from connectors.protocols import Traffic
from models.domain.errors import PixelsUnsupported
from models.domain.patch import EncodedFrame
from models.domain.slide import Instance, Level, Slide, SlideRef
from models.imaging.syntax import EXPLICIT_LITTLE_ENDIAN


class FlatImageSource:
    """A `Source` over one image in memory: a single frame of unknown spacing.

    Parameters
    ----------
    ref : SlideRef
    image : ez_wsi_dicomweb.gcs_image.GcsImage
        EZ-WSI's local or Cloud Storage image; read whole, once.
    name : str
        File-name-safe.
    """

    def __init__(self, ref: SlideRef, image: Any, name: str) -> None:
        try:
            pixels = image.image_bytes()
        except ez_wsi_errors.GcsImageError as exc:
            raise PixelsUnsupported(f"{name} is no image that can be read as 8-bit colour.") from exc
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise PixelsUnsupported(f"{name} is a greyscale image; only colour slides are embedded.")
        self.ez_wsi = image
        self._data = memoryview(pixels.tobytes())
        height, width = pixels.shape[:2]
        digest = hashlib.sha256(f"{width}x{height}".encode())
        digest.update(self._data)
        whole = Instance("", 0, 1, digest.hexdigest())
        level = Level(width, height, width, height, None, "RGB", (whole,))
        self._slide = Slide(ref, (level,), name)

    @property
    def slide(self) -> Slide:
        """One level, one frame."""
        return self._slide

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield the image's pixels."""
        del level
        for index in indices:
            yield EncodedFrame(index, self._data, EXPLICIT_LITTLE_ENDIAN)

    def header(self, level: int) -> None:
        """Return None: an image is no DICOM."""
        del level

    def icc_profile(self, level: int) -> bytes | None:
        """Return None."""
        del level
        return None

    def close(self) -> Traffic:
        """Say that the image was read, once and whole."""
        return Traffic(1, len(self._data))
