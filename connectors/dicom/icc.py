"""Where the ICC profile of a DICOM slide is: in its metadata, or behind a Bulk Data URI."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from connectors.dicom.attributes import items_of, text

_OPTICAL_PATHS, _IDENTIFIER, _ICC_PROFILE = "00480105", "00480106", "00282000"
_MOST_TEXT = (16 << 20) * 4 // 3 + 4  # of base64; larger profiles are not used


def icc_of(item: Mapping[str, Any], optical_path: str = "") -> bytes | str | None:
    """Return the ICC Profile (0028,2000) that an instance's metadata give for an optical path.

    Parameters
    ----------
    item : DICOM JSON (PS3.18 F)
        Of an instance.
    optical_path : str
        Optical Path Identifier (0048,0106); "": the first path that has a profile.

    Returns
    -------
    bytes, str or None
        The profile; its Bulk Data URI, which comes from outside and is to be checked; or None: the metadata do not
        give it, which does not say that the instance has none. A profile that is no base64, or is too large, comes
        back as the bytes ``b"?"``, which no reader takes for a profile.

    Notes
    -----
    The profile of a slide is in its Optical Path Sequence (PS3.3 C.8.12.5); some writers leave it at the top level, as
    in other images (PS3.3 C.11.15).
    """
    paths = items_of(item, _OPTICAL_PATHS)
    if optical_path:
        paths = [path for path in paths if text(path, _IDENTIFIER) == optical_path]
    for holder in (*paths, item):
        found = _element(holder.get(_ICC_PROFILE))
        if found is not None:
            return found
    return None


def _element(element: object) -> bytes | str | None:
    if not isinstance(element, Mapping):
        return None
    inline, uri = element.get("InlineBinary"), element.get("BulkDataURI")
    if isinstance(inline, str) and inline:
        if len(inline) > _MOST_TEXT:
            return b"?"
        try:
            return base64.b64decode(inline, validate=True)
        except (binascii.Error, ValueError):
            return b"?"
    return uri if isinstance(uri, str) and uri else None
