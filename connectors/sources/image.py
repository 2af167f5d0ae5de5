"""Slides in local image files, through EZ-WSI's `LocalImage`."""

from pathlib import Path

from ez_wsi_dicomweb import ez_wsi_errors, local_image

from connectors.endpoints import Endpoints
from connectors.flat_image import FlatImageSource
from models.domain.errors import PixelsUnsupported, SourceUnreadable
from models.domain.slide import SlideRef, safe_name


def open_source(ref: SlideRef, endpoints: Endpoints) -> FlatImageSource:
    """Open a slide in one image file (PNG, JPEG, TIFF)."""
    del endpoints
    path = Path(ref.location)
    try:
        image = local_image.LocalImage(str(path))
    except ez_wsi_errors.GcsImageError as exc:
        raise PixelsUnsupported(f"{path.name} is neither DICOM nor an 8-bit image that can be read.") from exc
    except OSError as exc:
        raise SourceUnreadable(f"{path.name} cannot be read: {exc.strerror or 'it is damaged'}.") from exc
    return FlatImageSource(ref, image, safe_name(path.stem))
