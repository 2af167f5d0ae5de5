"""Flat images: too many pixels, damage, profiles, and what reading them took."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import pytest
from PIL import Image

from connectors.endpoints import Credentials, Endpoints
from connectors.flat_image import open_bucket_image, open_local_image
from connectors.protocols import Traffic
from models.domain.errors import PixelsUnsupported, SourceUnreadable
from models.domain.slide import SlideRef
from tests.services.gcs import GcsServer
from tests.services.tiffs import texture

_PIXELS = texture(300, 200)
_ENDPOINTS = Endpoints(cloud=Credentials("none"))


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(width: int, height: int) -> bytes:
    """Return a PNG that claims a size, and has hardly a pixel."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(bytes(100)))
        + _chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(1 << 14, (1 << 14) + 1), (30_000, 30_000), (1 << 20, 1 << 20)])
def test_too_many_pixels(size: tuple[int, int], tmp_path: Path, gcs: GcsServer) -> None:
    """An image of more than 2^28 pixels is refused by its header, on disk and in a bucket; nothing is decoded."""
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(*size))
    uri = gcs.upload("slides", "bomb.png", _png(*size))
    tracemalloc.start()
    try:
        with pytest.raises(PixelsUnsupported):
            open_local_image(SlideRef("image", str(path)))
        with pytest.raises(PixelsUnsupported):
            open_bucket_image(SlideRef("gcs", uri), _ENDPOINTS)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_damage(kind: str, tmp_path: Path, gcs: GcsServer) -> None:
    """A file that is cut off is said to be damaged, on disk and in a bucket."""
    path = tmp_path / "cut.img"
    Image.fromarray(_PIXELS).save(path, kind)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises((SourceUnreadable, PixelsUnsupported)):
        open_local_image(SlideRef("image", str(path)))
    uri = gcs.upload("slides", f"cut-{kind}.img", path.read_bytes())
    with pytest.raises((SourceUnreadable, PixelsUnsupported)):
        open_bucket_image(SlideRef("gcs", uri), _ENDPOINTS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_profile(kind: str, tmp_path: Path, gcs: GcsServer) -> None:
    """The embedded ICC profile is given, and how many bytes were read."""
    path = tmp_path / "image"
    Image.fromarray(_PIXELS).save(path, kind, icc_profile=b"the profile of a scanner")
    uri = gcs.upload("slides", f"profile-{kind}", path.read_bytes())
    for source in (open_local_image(SlideRef("image", str(path))), open_bucket_image(SlideRef("gcs", uri), _ENDPOINTS)):
        assert source.icc_profile(0) == b"the profile of a scanner"
        assert source.close() == Traffic(1, path.stat().st_size)


def test_no_profile(tmp_path: Path) -> None:
    """An image without a profile has none; one of CMYK says nothing about the RGB that is made of it."""
    Image.fromarray(_PIXELS).save(tmp_path / "plain.png")
    assert open_local_image(SlideRef("image", str(tmp_path / "plain.png"))).icc_profile(0) is None
    Image.fromarray(_PIXELS).convert("CMYK").save(tmp_path / "press.jpg", icc_profile=b"of a press")
    assert open_local_image(SlideRef("image", str(tmp_path / "press.jpg"))).icc_profile(0) is None
