"""Slides in Cloud Storage images, through EZ-WSI's `GcsImage`."""

import google.auth.exceptions
import requests
from ez_wsi_dicomweb import ez_wsi_errors, gcs_image

from connectors.credentials import factory_of
from connectors.endpoints import Endpoints
from connectors.flat_image import FlatImageSource
from models.domain.errors import (
    AccessDenied,
    EndpointUnreachable,
    PixelsUnsupported,
    RequestError,
    SourceUnreadable,
)
from models.domain.slide import SlideRef, safe_name


def open_source(ref: SlideRef, endpoints: Endpoints) -> FlatImageSource:
    """Open a slide in one image of a bucket (PNG, JPEG, TIFF); it is read whole."""
    name = ref.location.rpartition("/")[2]
    try:
        image = gcs_image.GcsImage(ref.location, factory_of(endpoints.cloud))
        image.image_bytes()
    except ez_wsi_errors.GcsImagePathFormatError as exc:
        raise RequestError("A Cloud Storage source is gs://BUCKET/OBJECT.") from exc
    except ez_wsi_errors.GcsImageError as exc:
        raise PixelsUnsupported(f"{name} is no 8-bit image that can be read.") from exc
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
    return FlatImageSource(ref, image, safe_name(name.rpartition(".")[0] or name))
