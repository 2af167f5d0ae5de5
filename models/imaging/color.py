"""Colour: pixels in the slide's own colour space, brought to a named one by its ICC profile.

What is done is EZ-WSI's `create_icc_profile_transformation`, which Google's Path Foundation server uses: littleCMS
through Pillow, perceptual intent, no black point compensation, to the profiles that EZ-WSI ships. The same numbers.
"""

import io
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from models.domain.errors import ColorUnavailable, RequestError
from models.domain.request import ColorProfile

MAX_PROFILE_BYTES = 16 << 20  # scanners write up to some 13 MB
_HEADER_BYTES = 128  # ICC.1 7.2
_KEPT = 4  # transforms; a profile may be large
_SHIPPED_BY = "ez-wsi-dicomweb"
_TARGETS: dict[ColorProfile, str] = {
    "srgb": "third_party/srgb/sRGB_v4_ICC_preference.icc",
    "adobergb": "third_party/adobergb1998/AdobeRGB1998.icc",
    "rommrgb": "third_party/rommrgb/ISO22028-2_ROMM-RGB.icc",
    "displayp3": "third_party/displayp3/displayp3.icc",
}
_IMAGE_CLASSES = {"scnr", "mntr", "prtr", "spac"}  # ICC.1 7.2.5: those that describe pixels of a device or space


class ColorTransform:
    """Brings pixels from one profile's colour space to another's; safe to use from several threads at once.

    Parameters
    ----------
    transform : ImageCms.ImageCmsTransform
        RGB to RGB. littleCMS only reads it while pixels pass, and Pillow lets go of the interpreter meanwhile.
    """

    def __init__(self, transform: ImageCms.ImageCmsTransform) -> None:
        self._transform = transform

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the pixels in the target space.

        Parameters
        ----------
        pixels : uint8 array, shape (H, W, 3)
            RGB, of any size: each pixel is brought over by itself. Left as it is.

        Returns
        -------
        uint8 array, shape (H, W, 3)
        """
        if not pixels.size:
            return pixels.copy()
        image = Image.fromarray(np.ascontiguousarray(pixels))
        ImageCms.applyTransform(image, self._transform, inPlace=True)
        return np.array(image)


def color_transform(profile: bytes | None, target: ColorProfile) -> ColorTransform:
    """Return the way from a slide's profile to a named space; built once and kept.

    Parameters
    ----------
    profile : bytes or None
        ICC profile of the slide (PS3.3 C.11.15).
    target : str
        ``srgb``, ``adobergb``, ``rommrgb`` or ``displayp3``.

    Raises
    ------
    ColorUnavailable
        The profile is missing, broken, larger than 16 MiB, or not of RGB pixels.
    RequestError
        The target is none of these, or its profile is not installed.
    """
    if not profile:
        raise ColorUnavailable("The slide has no ICC profile: its colours cannot be brought to another space.")
    if len(profile) > MAX_PROFILE_BYTES:
        raise ColorUnavailable(
            f"The slide's ICC profile has {len(profile)} bytes, more than {MAX_PROFILE_BYTES >> 20} MiB."
        )
    return _built(profile, target)


@lru_cache(_KEPT)
def _built(profile: bytes, target: ColorProfile) -> ColorTransform:
    wanted = _opened(_shipped(target))
    if len(profile) < _HEADER_BYTES or profile[36:40] != b"acsp":  # ICC.1 7.2.9
        raise ColorUnavailable("The slide's ICC profile is broken: it is no ICC profile at all.")
    try:
        own = _opened(profile)
        space, kind = own.profile.xcolor_space.strip(), own.profile.device_class
        if space != "RGB" or kind not in _IMAGE_CLASSES:
            raise ColorUnavailable("The slide's ICC profile is not one of RGB pixels.")
        transform = ImageCms.buildTransform(own, wanted, "RGB", "RGB", renderingIntent=ImageCms.Intent.PERCEPTUAL)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as exc:
        raise ColorUnavailable("The slide's ICC profile is broken: littleCMS cannot use it.") from exc
    return ColorTransform(transform)


def _opened(profile: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(profile))


def _shipped(target: ColorProfile) -> bytes:
    """Return the target's profile as it lies in EZ-WSI's distribution; nothing else takes its place."""
    if target not in _TARGETS:
        raise RequestError(f"There is no colour space {target!r} to bring pixels to: ask for {', '.join(_TARGETS)}.")
    try:
        return Path(str(distribution(_SHIPPED_BY).locate_file(_TARGETS[target]))).read_bytes()
    except (OSError, PackageNotFoundError) as exc:
        raise RequestError(
            f"The profile of {target} is not installed: it comes with {_SHIPPED_BY}; install that again, or ask for "
            "--color-profile none."
        ) from exc
