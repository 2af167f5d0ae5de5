"""Slides in TIFF files, from a disk, a web server, Cloud Storage and S3: same embeddings, few bytes."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from connectors.endpoints import Credentials, Endpoints
from connectors.registry import open_source
from models.domain.errors import AccessDenied, EndpointError, ResponseInvalid, SlidewireError, SourceUnreadable
from models.domain.slide import SlideRef
from models.encoders.pixel_grid import MODEL
from tests.services.command import Said, Slidewire
from tests.services.gcs import GcsServer
from tests.services.http import Reply, StrictServer
from tests.services.range_reply import ServedFile
from tests.services.s3 import S3Server
from tests.services.slides import SlideOnDisk
from tests.services.tiffs import KINDS, halved, open_tiff, texture, write_pyramid, write_svs

Put = Callable[[str, str, bytes], tuple[str, Callable[[], int]]]

_GRID = ("--encoder", "pixel-grid")
_PLACES = ("http", "gs", "s3")
_SHARE = 0.05


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a slide of 9600 x 7680 px without compression: 221 MB, three levels; half a second."""
    path = tmp_path_factory.mktemp("large") / "large.tif"
    pixels = np.tile(texture(960, 768), (10, 10, 1))
    coarse = cv2.resize(pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    options: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, resolution=(20000, 20000), resolutionunit=3, **options)
        file.write(np.asarray(coarse), subfiletype=1, **options)
    return path


@pytest.fixture
def put(server: StrictServer, request: pytest.FixtureRequest) -> Put:
    """Put a file into a place; return its URI, and what says how many bytes the place has sent (-1: it cannot)."""

    def put_there(place: str, name: str, content: bytes) -> tuple[str, Callable[[], int]]:
        if place == "http":
            served = ServedFile(content)
            server.replies = [served]
            return f"{server.url}/slides/{name}", lambda: served.sent
        store: GcsServer | S3Server = request.getfixturevalue("gcs" if place == "gs" else "s3")
        return store.upload("slides", name, content), lambda: -1

    return put_there


@pytest.fixture
def coordinates(tmp_path: Path) -> Path:
    """Choose five patches, far apart."""
    path = tmp_path / "five.csv"
    path.write_text("x,y\n100,100\n9000,200\n4800,3800\n300,7000\n9100,7200\n")
    return path


def _matrix(said: Said) -> NDArray[np.float32]:
    column = pq.read_table(said.output("parquet")["uri"], use_threads=False)["embedding"].combine_chunks()
    return np.asarray(column.flatten().to_numpy())


@pytest.mark.parametrize("place", _PLACES)
def test_same_embeddings_from_everywhere(
    place: str,
    put: Put,
    slidewire: Slidewire,
    cmu_svs: Path,
    tmp_path: Path,
) -> None:
    """The published Aperio slide gives the same embeddings from the place as from the disk."""
    chosen = tmp_path / "chosen.csv"
    chosen.write_text("x,y\n0,0\n700,900\n1500,2400\n1996,2743\n")
    arguments = (*_GRID, "--coordinates", chosen)
    near = slidewire.done("embed", cmu_svs, *arguments, "--out", "near")
    uri, _ = put(place, "cmu.svs", cmu_svs.read_bytes())
    far = slidewire.done("embed", uri, *arguments, "--out", "far")
    np.testing.assert_array_equal(_matrix(near), _matrix(far))
    assert near.json["patches"] == 4


def test_same_embeddings_as_the_pixels(slidewire: Slidewire, cmu_svs: Path, tmp_path: Path) -> None:
    """What is embedded are the pixels that tifffile reads."""
    pixels = tifffile.imread(cmu_svs, key=0)
    chosen = tmp_path / "chosen.csv"
    chosen.write_text("x,y\n700,900\n1500,2400\n")
    said = slidewire.done("embed", cmu_svs, *_GRID, "--coordinates", chosen, "--out", "out")
    patches = np.stack([pixels[y : y + 224, x : x + 224] for x, y in ((700, 900), (1500, 2400))])
    np.testing.assert_allclose(_matrix(said), MODEL.load(None, {}).encode(patches).matrix.reshape(-1), rtol=1e-6)


def test_notes_reach_the_result(slidewire: Slidewire, cmu_svs: Path) -> None:
    """What was left out of the file is in the result's provenance."""
    said = slidewire.done("embed", cmu_svs, *_GRID, "--out", "out")
    about = json.loads(pq.read_metadata(said.output("parquet")["uri"]).metadata[b"slidewire"])
    assert any("label, overview, thumbnail" in note for note in about["notes"])


@pytest.mark.parametrize("place", ["http", "gs", pytest.param("s3", marks=pytest.mark.faults)])
def test_five_patches_of_a_large_slide(place: str, put: Put, large: Path) -> None:
    """Five patches cost a few requests and less than a twentieth of the file, counted by us and by the server."""
    uri, sent = put(place, "large.tif", large.read_bytes())
    endpoints = Endpoints(cloud=Credentials("none"))
    source = open_source(endpoints.locate(uri), endpoints)
    near = open_tiff(large)
    assert [level.width_px for level in source.slide.levels] == [9600, 2400]
    assert source.slide.levels[0].spacing_um == (0.5, 0.5)
    columns = source.slide.levels[0].columns
    corners = ((0, 0), (35, 0), (18, 14), (1, 27), (35, 28))
    tiles = sorted({(y + dy) * columns + x + dx for x, y in corners for dx in (0, 1) for dy in (0, 1)})
    ours, theirs = ([bytes(frame.data) for frame in one.frames(0, tiles)] for one in (source, near))
    assert ours == theirs
    near.close()
    traffic, size = source.close(), large.stat().st_size
    assert size > 100e6
    assert traffic.bytes_read < _SHARE * size
    assert traffic.requests <= 4 + 2 * 5  # the directories; two rows of tiles a patch
    if sent() >= 0:
        assert sent() == traffic.bytes_read


def test_command_reads_a_share(
    slidewire: Slidewire, server: StrictServer, large: Path, coordinates: Path, tmp_path: Path
) -> None:
    """The whole command, planning included, fetches less than a twentieth of the file for five patches."""
    served = ServedFile(large.read_bytes())
    server.replies = [served]
    said = slidewire(
        "embed", f"{server.url}/large.tif", *_GRID, "--coordinates", coordinates, "--out", tmp_path / "out"
    )
    assert said.stdout.startswith("succeeded: 5 patches"), said
    assert served.sent < _SHARE * large.stat().st_size
    assert f"read from the slide: {served.sent / 1e6:.1f} MB" in said.stdout


@pytest.mark.parametrize("place", _PLACES)
def test_no_such_file(place: str, put: Put, server: StrictServer) -> None:
    """A file that is not there is named, wherever it is not."""
    uri, _ = put(place, "there.tif", b"x")
    server.replies = [Reply(404)]
    with pytest.raises(SourceUnreadable, match=r"none\.tif"):
        open_tiff(uri.replace("there", "none"))


@pytest.mark.parametrize("place", _PLACES)
def test_no_tiff_there(place: str, put: Put) -> None:
    """An empty object, or one that is no TIFF, is said to be that (the emulator of gs:// takes no empty one)."""
    for content in (b"" if place != "gs" else b"\n", b"<html>Please log in</html>" * 9):
        uri, _ = put(place, "page.tif", content)
        with pytest.raises(SlidewireError) as caught:
            open_tiff(uri)
        assert caught.value.code in {"NOT_A_SLIDE", "SOURCE_UNREADABLE"}


def test_object_that_changes(s3: S3Server, tmp_path: Path) -> None:
    """An object of S3 that is replaced while it is read gives no further tile."""
    pixels = texture(900, 700)
    first, second = (
        write_pyramid(tmp_path / f"{number}.tif", [one], KINDS["uncompressed"]).read_bytes()
        for number, one in enumerate((pixels, 255 - pixels))
    )
    source = open_tiff(s3.upload("slides", "changing.tif", first))
    assert len(list(source.frames(0, [0]))) == 1
    s3.upload("slides", "changing.tif", second)
    with pytest.raises(SourceUnreadable, match="changed"):
        list(source.frames(0, [20]))
    source.close()


def test_private_bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials a bucket that wants some is said to want some."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    uri = s3.upload("slides", "private.tif", b"x" * 100)
    with pytest.raises(AccessDenied, match="credentials"):
        open_source(SlideRef("tiff", uri), Endpoints(cloud=Credentials("google")))


def test_store_that_is_down(monkeypatch: pytest.MonkeyPatch, server: StrictServer) -> None:
    """A cloud that breaks every connection ends in an error worth another try, not in waiting."""
    server.replies = [Reply(403)]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    with pytest.raises(AccessDenied):
        open_tiff("gs://slides/x.tif")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with pytest.raises(EndpointError) as caught:
        open_tiff("s3://slides/x.tif")
    assert "127.0.0.1" not in str(caught.value)


def test_redirect(slidewire: Slidewire, server: StrictServer) -> None:
    """A server that sends us elsewhere is not followed: an allow-list would be worth nothing."""
    server.replies = [Reply(307, headers={"Location": "http://127.0.0.1:1/inside.svs"})]
    slidewire.failed("RESPONSE_INVALID", "embed", f"{server.url}/a.svs", *_GRID, "--out", "out")
    assert len(server.asked) == 1


def test_large_file_on_a_server_without_ranges(server: StrictServer, large: Path) -> None:
    """A large file that can only be had whole is refused, with advice."""
    server.replies = [ServedFile(large.read_bytes(), ranges=False)]
    with pytest.raises(ResponseInvalid, match="Range"):
        open_tiff(f"{server.url}/large.tif")


def test_flat_picture_in_a_bucket(gcs: GcsServer, slidewire: Slidewire, tmp_path: Path) -> None:
    """An ordinary TIFF picture in Cloud Storage is read whole, as it was before; its profile is kept."""
    pixels = texture(500, 400)
    Image.fromarray(pixels).save(tmp_path / "flat.tif", icc_profile=b"a profile")
    uri = gcs.upload("slides", "flat.tif", (tmp_path / "flat.tif").read_bytes())
    source = open_tiff(uri)
    level = source.slide.levels[0]
    assert (level.frame_width_px, level.frame_height_px, level.spacing_um) == (500, 400, None)
    assert bytes(next(source.frames(0, [0])).data) == pixels.tobytes()
    assert source.icc_profile(0) == b"a profile"
    source.close()
    assert slidewire.done("embed", uri, *_GRID, "--out", "out").json["patches"] == 2


def test_pyramid_of_a_converter(slidewire: Slidewire, cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """A whole pyramid with a tissue mask: the coarse level gives the mask, the fine one the patches."""
    levels = [cmu_slide.pixels, halved(cmu_slide.pixels), halved(halved(cmu_slide.pixels))]
    path = write_svs(tmp_path / "cmu.svs", levels, KINDS["jpeg-ycbcr-tables"], mpp=0.499)
    said = slidewire.done("embed", path, *_GRID, "--out", "out")
    table = pq.read_table(said.output("parquet")["uri"], use_threads=False)
    assert 0 < len(table) < (2220 // 224) * (2967 // 224)


@pytest.fixture(autouse=True)
def quiet_threads() -> Iterator[None]:
    """See that no reader's threads outlive its source."""
    yield
    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("ranges")]
    assert left == []
