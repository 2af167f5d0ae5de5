"""Which source a TIFF file belongs to: by its place, its name, and on disk by what is in it."""

from pathlib import Path

import pytest
from PIL import Image

from connectors.endpoints import Endpoint, Endpoints
from connectors.flat_image import FlatImageSource
from connectors.registry import open_source
from connectors.sources.tiff import TiffSource
from models.domain.errors import EndpointNotAllowed, RequestError, SourceUnreadable
from models.domain.slide import SlideRef
from tests.services.tiffs import KINDS, halved, texture, write_pyramid, write_svs

_ARCHIVE = Endpoint("https://archive.test/files", "archive")
_OPEN = Endpoints([_ARCHIVE])
_CLOSED = Endpoints([_ARCHIVE], allowed_urls=["https://slides.test/public"])


@pytest.mark.parametrize(
    "url",
    [
        "https://slides.test/other/a.svs",
        "https://slides.test.evil/public/a.svs",
        "https://slides.test/public/../a.svs",
        "http://slides.test/public/a.svs",
        "http://169.254.169.254/a.svs",
        "https://archive.test/filesystem/a.svs",
    ],
)
def test_urls_that_are_on_no_list(url: str) -> None:
    """A file's URL is held to the same list as a PACS's."""
    with pytest.raises(EndpointNotAllowed):
        _CLOSED.locate(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://me@slides.test/public/a.svs",
        "https://me:word@slides.test/public/a.svs",
        "https://slides.test/public/a.svs?token=1",
        "https://slides.test/public/a.svs#1",
        "https://slides.test:x/a.svs",
        "https://slides.test/public/a.png",
        "https://slides.test/public/",
    ],
)
def test_urls_that_are_no_file(url: str) -> None:
    """No user, password, query or fragment; and another suffix is no TIFF file."""
    with pytest.raises(RequestError):
        _OPEN.locate(url)


def test_places() -> None:
    """Buckets and web servers are read by ranges where the name is a TIFF file's; other objects as before."""
    for name in ("a.svs", "b/c.TIF", "c.ome.tiff", "d.btf"):
        assert _OPEN.locate(f"gs://bucket/{name}") == SlideRef("tiff", f"gs://bucket/{name}")
        assert _OPEN.locate(f"s3://bucket/{name}") == SlideRef("tiff", f"s3://bucket/{name}")
        assert _OPEN.locate(f"https://slides.test/{name}") == SlideRef("tiff", f"https://slides.test/{name}")
    assert _OPEN.locate("gs://bucket/a.png").kind == "gcs"
    assert _OPEN.locate("s3://bucket/a.bin").kind == "tiff"
    assert _CLOSED.locate("https://slides.test/public/x/a.svs").kind == "tiff"


def test_named_endpoint() -> None:
    """A file below a configured endpoint is that endpoint's: its credentials and timeouts are used for it."""
    ref = _CLOSED.locate("https://archive.test/files/deep/a.svs")
    assert (ref.kind, ref.endpoint) == ("tiff", "archive")
    assert _CLOSED.of_ref(ref).url == "https://archive.test/files/deep/a.svs"
    assert _CLOSED.of_ref(ref).name == "archive"


def test_series_that_ends_like_a_file() -> None:
    """A DICOMweb series is one, whatever its base is called."""
    ref = _OPEN.locate("https://pacs.test/a.svs/studies/1.2/series/1.3")
    assert (ref.kind, ref.series_uid) == ("dicomweb", "1.3")


def test_files(tmp_path: Path) -> None:
    """On disk a tiled or pyramidal TIFF is a slide, an ordinary one a picture; a damaged one is said to be damaged."""
    pixels = texture(400, 300)
    tiled = write_pyramid(tmp_path / "tiled.tif", [pixels], KINDS["lzw"])
    svs = write_svs(tmp_path / "a.svs", [pixels, halved(pixels)], KINDS["jpeg-rgb"])
    flat = tmp_path / "flat.tiff"
    Image.fromarray(pixels).save(flat)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(svs.read_bytes()[:2000])
    picture = tmp_path / "picture.tif"
    Image.fromarray(pixels).save(picture, "PNG")
    kinds = {path.name: type(open_source(_OPEN.locate(str(path)), _OPEN)) for path in (tiled, svs, flat, picture)}
    assert kinds == {
        "tiled.tif": TiffSource,
        "a.svs": TiffSource,
        "flat.tiff": FlatImageSource,
        "picture.tif": FlatImageSource,
    }
    with pytest.raises(SourceUnreadable):
        open_source(_OPEN.locate(str(cut)), _OPEN)
