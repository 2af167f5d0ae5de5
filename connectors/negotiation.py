"""How a server wants to be asked, as far as it is known: the forms of Accept, and how many frames a request."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from connectors.endpoints import Endpoint
from models.imaging.syntax import CODEC_OF_SYNTAX, Codec

Pixels = Literal["stored", "server"]
AS_STORED = "*"


@dataclass(frozen=True, slots=True)
class FrameForm:
    """One way to ask for frames (PS3.18 8.7.3.3).

    Parameters
    ----------
    accept : str
        The Accept header.
    pixels : str
        ``stored``: frames come as they are stored; ``server``: the server has decoded them, or may have.
    single : bool
        It asks for one part, so for one frame a request.
    """

    accept: str
    pixels: Pixels = "stored"
    single: bool = False


# In this order; what is stored first, whatever it costs in requests: a decoder of the server's is not ours.
# No list of several types in one header: Orthanc 1.10 answers that with 500.
FRAME_FORMS = (
    FrameForm('multipart/related; type="application/octet-stream"; transfer-syntax=*'),
    FrameForm('multipart/related; transfer-syntax=*; type="application/octet-stream"'),
    FrameForm("multipart/related; type=application/octet-stream; transfer-syntax=*"),
    FrameForm('multipart/related; type="application/octet-stream"; transfer-syntax="*"'),
    FrameForm("application/octet-stream; transfer-syntax=*", single=True),
    FrameForm('multipart/related; type="application/octet-stream"; transfer-syntax=1.2.840.10008.1.2.1', "server"),
    FrameForm('multipart/related; type="application/octet-stream"', "server"),
    FrameForm("application/octet-stream", "server", single=True),
    FrameForm("*/*", "server"),
)

# For a server that decodes whatever is asked for as application/octet-stream (dcm4chee: its WadoRS goes by the media
# type alone), the media type of what is stored, by transfer syntax (PS3.18 table 8.7.3-5) or by
# Lossy Image Compression Method (0028,2114), PS3.3 C.7.6.1.1.5.
_MEDIA_TYPES: Mapping[Codec, str] = MappingProxyType(
    {
        Codec.JPEG: "image/jpeg",
        Codec.JPEG_LOSSLESS: "image/jpeg",
        Codec.JPEG_LS: "image/jls",
        Codec.JPEG_2000: "image/jp2",
        Codec.HTJ2K: "image/jphc",
        Codec.JPEG_XL: "image/jxl",
        Codec.RLE: "image/dicom-rle",
    }
)
_CODEC_OF_METHOD: Mapping[str, Codec] = MappingProxyType(
    {
        "ISO_10918_1": Codec.JPEG,
        "ISO_14495_1": Codec.JPEG_LS,
        "ISO_15444_1": Codec.JPEG_2000,
        "ISO_15444_15": Codec.HTJ2K,
        "ISO_18181_1": Codec.JPEG_XL,
    }
)


def codec_of(stored_as: str) -> Codec | None:
    """Return the codec that a transfer syntax, or a value of Lossy Image Compression Method, stands for."""
    return CODEC_OF_SYNTAX.get(stored_as) or _CODEC_OF_METHOD.get(stored_as)


def image_form(stored_as: str) -> FrameForm | None:
    """Return the form that names the stored image's own media type; None if that is not known.

    Parameters
    ----------
    stored_as : str
        Transfer syntax, or a value of Lossy Image Compression Method.
    """
    codec = codec_of(stored_as)
    media_type = None if codec is None else _MEDIA_TYPES.get(codec)
    return None if media_type is None else FrameForm(f'multipart/related; type="{media_type}"')


INSTANCE_FORMS = (
    'multipart/related; type="application/dicom"; transfer-syntax={}',
    "multipart/related; type=application/dicom; transfer-syntax={}",
    'multipart/related; type="application/dicom"',
    "application/dicom; transfer-syntax={}",
    "application/dicom",
)


class Terms:
    """What was found out about one server in this process; safe to use from several threads.

    Parameters
    ----------
    form : FrameForm or None
        Known to work, from a profile.
    instance_form : str
        Known to work for whole instances; "" if nothing is known.
    most_frames : int or None
        A request; None: no limit is known.
    """

    def __init__(self, form: FrameForm | None, instance_form: str, most_frames: int | None) -> None:
        self._lock = threading.Lock()
        self._form = form
        self._instance_form = instance_form
        self._most_frames = most_frames
        self._url_characters: int | None = None

    @property
    def form(self) -> FrameForm:
        """How frames are asked for now."""
        with self._lock:
            return self._form or FRAME_FORMS[0]

    @property
    def settled(self) -> bool:
        """Whether a frame came in that form."""
        with self._lock:
            return self._form is not None

    def settle(self, form: FrameForm) -> None:
        """Remember that a frame came in a form."""
        with self._lock:
            self._form = form

    def forms(self) -> tuple[FrameForm, ...]:
        """Return all forms, the one that works first."""
        first = self.form
        return (first, *(form for form in FRAME_FORMS if form != first))

    def instance_forms(self) -> tuple[str, ...]:
        """Return the forms for whole instances, the one that works first."""
        with self._lock:
            first = self._instance_form or INSTANCE_FORMS[0]
        return (first, *(form for form in INSTANCE_FORMS if form != first))

    def settle_instance(self, form: str) -> None:
        """Remember that an instance came in a form."""
        with self._lock:
            self._instance_form = form

    @property
    def most_frames(self) -> int | None:
        """How many frames a request brings, if more were refused."""
        with self._lock:
            return self._most_frames

    @property
    def instance_form(self) -> str:
        """How whole instances are asked for; "" if none came yet."""
        with self._lock:
            return self._instance_form

    def frames_per_request(self, wanted: int) -> int:
        """Return how many frames to ask for at once, at most `wanted`."""
        with self._lock:
            if self._form is not None and self._form.single:
                return 1
            return wanted if self._most_frames is None else min(wanted, self._most_frames)

    def url_characters(self, wanted: int) -> int:
        """Return how long a URL may be, at most `wanted`."""
        with self._lock:
            return wanted if self._url_characters is None else min(wanted, self._url_characters)

    def limit_frames(self, most: int) -> None:
        """Remember that more frames than these were refused, and that these came."""
        with self._lock:
            self._most_frames = most if self._most_frames is None else min(most, self._most_frames)

    def limit_url(self, characters: int) -> None:
        """Remember that a longer URL was refused, and that one of this length worked."""
        with self._lock:
            self._url_characters = characters if self._url_characters is None else min(characters, self._url_characters)


@lru_cache(maxsize=256)
def _known(
    url: str,  # noqa: ARG001 - the key
    form: FrameForm | None,
    instance_form: str,
    most_frames: int | None,
) -> Terms:
    return Terms(form, instance_form, most_frames)


def terms_of(endpoint: Endpoint) -> Terms:
    """Return what this process knows of an endpoint's server; all its sessions share it."""
    profile = endpoint.profile
    if profile is None:
        return _known(endpoint.url.rstrip("/"), None, "", None)
    form = FrameForm(profile.frame_accept, profile.frame_pixels, profile.frame_single) if profile.frame_accept else None
    return _known(endpoint.url.rstrip("/"), form, profile.instance_accept, profile.most_frames)


def forget() -> None:
    """Forget all servers: as a new process."""
    _known.cache_clear()
