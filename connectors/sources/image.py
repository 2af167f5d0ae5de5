"""Slides in local image files, through EZ-WSI's `LocalImage`."""

from connectors.endpoints import Endpoints
from connectors.flat_image import FlatImageSource, open_local_image
from models.domain.slide import SlideRef


def open_source(ref: SlideRef, endpoints: Endpoints) -> FlatImageSource:
    """Open a slide in one image file (PNG, JPEG, TIFF)."""
    del endpoints
    return open_local_image(ref)
