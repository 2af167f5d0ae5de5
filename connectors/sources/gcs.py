"""Slides in Cloud Storage images, through EZ-WSI's `GcsImage`."""

from connectors.endpoints import Endpoints
from connectors.flat_image import FlatImageSource, open_bucket_image
from models.domain.slide import SlideRef


def open_source(ref: SlideRef, endpoints: Endpoints) -> FlatImageSource:
    """Open a slide in one image of a bucket (PNG, JPEG, TIFF); it is read whole."""
    return open_bucket_image(ref, endpoints)
