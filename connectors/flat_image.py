"""One flat image (PNG, JPEG, TIFF), on disk or in Cloud Storage, as a slide of a single frame."""

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import google.auth.exceptions
import PIL.Image
import requests
from ez_wsi_dicomweb import ez_wsi_errors, gcs_image, local_image
from numpy.typing import NDArray

from connectors.credentials import factory_of
from connectors.endpoints import Endpoints
from connectors.protocols import Traffic
from models.domain.errors import (
    AccessDenied,
    EndpointUnreachable,
    PixelsUnsupported,
    RequestError,
    SourceUnreadable,
)
from models.domain.patch import EncodedFrame
from models.domain.slide import Instance, Level, Slide, SlideRef, safe_name
from models.imaging.syntax import EXPLICIT_LITTLE_ENDIAN

MOST_PIXELS = 1 << 28  # 800 MB; Pillow's own limit of 179 million, raised to this
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # what Pillow's readers raise


class _Image(Protocol):
    """What is used of EZ-WSI's images."""

    profile: bytes | None
    file_bytes: int

    def image_bytes(self) -> NDArray[Any]:
        """Return the pixels."""


class _Bounded:
    """Looks at an image's header before EZ-WSI decodes it, and keeps its profile."""

    profile: bytes | None = None
    file_bytes = 0

    def _init_compressed_image_bytes(self, data: bytes) -> None:
        self.file_bytes = len(data)
        try:
            with warnings.catch_warnings(), _header(data) as image:
                width, height = image.size
                # A profile of CMYK, say, says nothing about the RGB that EZ-WSI makes of it.
                self.profile = image.info.get("icc_profile") if image.mode in {"RGB", "RGBA"} else None
        except PIL.UnidentifiedImageError as exc:
            raise ez_wsi_errors.GcsImageError("no image") from exc
        if width * height > MOST_PIXELS:
            raise _too_large(f"{width} x {height} pixels")
        super()._init_compressed_image_bytes(data)  # type: ignore[misc]  # of the class beside this one


class _LocalImage(_Bounded, local_image.LocalImage):  # type: ignore[misc]
    """EZ-WSI's image on disk, bounded."""


class _BucketImage(_Bounded, gcs_image.GcsImage):  # type: ignore[misc]
    """EZ-WSI's image in Cloud Storage, bounded."""


def _header(data: bytes) -> PIL.Image.Image:
    warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # refused here, in our own words
    return PIL.Image.open(io.BytesIO(data))


def _too_large(size: str) -> PixelsUnsupported:
    return PixelsUnsupported(
        f"The image has {size}, more than a flat image may have ({MOST_PIXELS}): convert it to a tiled, pyramidal TIFF."
    )


class FlatImageSource:
    """A `Source` over one image in memory: a single frame of unknown spacing.

    Parameters
    ----------
    ref : SlideRef
    image : EZ-WSI's local or Cloud Storage image
        Read whole, once.
    name : str
        File-name-safe.
    """

    def __init__(self, ref: SlideRef, image: _Image, name: str) -> None:
        pixels = image.image_bytes()
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
        """Return the profile that is embedded in the file."""
        del level
        return self.ez_wsi.profile

    @property
    def traffic(self) -> Traffic:
        """The file was read, once and whole."""
        return Traffic(1, self.ez_wsi.file_bytes)

    def close(self) -> Traffic:
        """Say what was read."""
        return self.traffic


def _opened(ref: SlideRef, name: str, stem: str, make: Callable[[], _Image]) -> FlatImageSource:
    """Return the source of an image, its pixels read; what is wrong with them is said here."""
    PIL.Image.MAX_IMAGE_PIXELS = MOST_PIXELS  # the header decides, above: Pillow would warn at a third of it
    try:
        return FlatImageSource(ref, make(), safe_name(stem or name))
    except (ez_wsi_errors.GcsImageError, PIL.UnidentifiedImageError) as exc:
        raise PixelsUnsupported(f"{name} is neither DICOM nor an 8-bit image that can be read.") from exc
    except PIL.Image.DecompressionBombError as exc:
        raise _too_large("an absurd size") from exc


def open_local_image(ref: SlideRef) -> FlatImageSource:
    """Open a slide in one image file, through EZ-WSI's `LocalImage`.

    Raises
    ------
    PixelsUnsupported
        It is no colour image of 8 bit, or too large.
    SourceUnreadable
        It is missing, forbidden or damaged.
    """
    path = Path(ref.location)
    try:
        return _opened(ref, path.name, path.stem, lambda: _LocalImage(str(path)))
    except _DAMAGE as exc:
        why = exc.strerror if isinstance(exc, OSError) else None
        raise SourceUnreadable(f"{path.name} cannot be read: {why or 'it is damaged'}.") from exc


def open_bucket_image(ref: SlideRef, endpoints: Endpoints) -> FlatImageSource:
    """Open a slide in one image of Cloud Storage, through EZ-WSI's `GcsImage`.

    Raises
    ------
    PixelsUnsupported, SourceUnreadable
        As for a file.
    AccessDenied, EndpointUnreachable
        The bucket does not give it.
    """
    name = ref.location.rpartition("/")[2]

    def image() -> _Image:
        found = _BucketImage(ref.location, factory_of(endpoints.cloud))
        found.image_bytes()
        return found

    try:
        return _opened(ref, name, name.rpartition(".")[0], image)
    except ez_wsi_errors.GcsImagePathFormatError as exc:
        raise RequestError("A Cloud Storage source is gs://BUCKET/OBJECT.") from exc
    except (ez_wsi_errors.HttpUnauthorizedError, ez_wsi_errors.HttpForbiddenError) as exc:
        raise AccessDenied("The bucket denies access: check the credentials of the worker's account.") from exc
    except ez_wsi_errors.HttpNotFoundError as exc:
        raise SourceUnreadable(f"There is no object {name!r} in that bucket.") from exc
    except google.auth.exceptions.DefaultCredentialsError as exc:
        raise AccessDenied(
            "There are no Google credentials: run gcloud auth application-default login, or set "
            "SLIDEWIRE_CLOUD_CREDENTIALS=none for a public bucket."
        ) from exc
    except (requests.RequestException, google.auth.exceptions.GoogleAuthError, ez_wsi_errors.HttpError) as exc:
        raise EndpointUnreachable(f"Cloud Storage did not give the image ({type(exc).__name__}).") from exc
    except _DAMAGE as exc:
        raise SourceUnreadable(f"{name} cannot be read: it is damaged.") from exc
