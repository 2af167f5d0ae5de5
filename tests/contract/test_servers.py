"""Conformance against every DICOMweb server there is here: the real Orthanc, and strict imitations of products.

A new dialect is held to the same rules by being in its registry.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import generate_frames

from connectors.dicom.result.objects import build_objects
from connectors.endpoints import Endpoint, Endpoints
from connectors.protocols import Result, Source
from connectors.registry import open_source
from connectors.sinks.stow import StowSink
from models.domain.embedding import ResultKey
from models.domain.errors import AccessDenied, FrameMissing, SeriesNotFound
from models.domain.slide import SlideRef
from tests.services.dialects.products import PRODUCTS
from tests.services.dialects.running import TOKEN_VARIABLE, running
from tests.services.dialects.server import TOKEN
from tests.services.hostile import Asked, HostileServer, hostile_server
from tests.services.orthanc import Orthanc
from tests.services.pacs import renamed
from tests.services.slides import SlideOnDisk
from tests.unit.connectors.dicom.results import make_result

_SERVERS = ("orthanc", *sorted(PRODUCTS))
_NATIVE_BYTES = 256 * 256 * 3


@dataclass(frozen=True)
class Server:
    """A server with a slide in it, and all it was asked."""

    name: str
    http: HostileServer
    endpoint: Endpoint
    slide: SlideOnDisk

    @property
    def ref(self) -> SlideRef:
        """The slide."""
        return SlideRef("dicomweb", self.endpoint.url, "pacs", self.slide.study_uid, self.slide.series_uid)

    def open(self) -> Source:
        """Open the slide."""
        return open_source(self.ref, Endpoints([self.endpoint]))

    def asked(self, text: str) -> list[Asked]:
        """Return the requests whose path holds a text."""
        return [asked for asked in self.http.asked if text in asked.path]


@pytest.fixture(params=_SERVERS)
def served(
    request: pytest.FixtureRequest, cmu_slide: SlideOnDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """Run each server with a slide of its own."""
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    slide = renamed(cmu_slide, tmp_path / "slide")
    if request.param == "orthanc":
        orthanc: Orthanc = request.getfixturevalue("orthanc")
        orthanc.load(slide.folder)
        with hostile_server(lambda _: None, orthanc.dicomweb) as http:
            yield Server("orthanc", http, Endpoint(http.url, "pacs"), slide)
        return
    with running(PRODUCTS[request.param], slide) as one:
        yield Server(request.param, one.server, one.endpoint, slide)


def _frames(path: Path) -> list[bytes]:
    dataset = pydicom.dcmread(path)
    return list(generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames)))


def _result(source: Source) -> Result:
    """Return a result of this very slide."""
    result = make_result(9, 5, dict(source.header(0) or {}))
    return replace(result, key=ResultKey.of({"slide": source.slide.ref.series_uid}))


def _same(ours: bytes | memoryview, stored: bytes) -> bool:
    return bytes(ours).rstrip(b"\0") == stored.rstrip(b"\0")  # a padding byte (PS3.5 A.4) may be left out


def test_a_whole_level_comes_as_it_is_stored(served: Server) -> None:
    """Every frame of a small level has the bytes of the file, whatever the server does for those who ask otherwise."""
    source = served.open()
    level = len(source.slide.levels) - 2
    expected = _frames(served.slide.levels[level])
    found = list(source.frames(level, range(len(expected))))
    assert len(expected) > 1
    assert [frame.index for frame in found] == list(range(len(expected)))
    assert all(_same(frame.data, stored) for frame, stored in zip(found, expected, strict=True))
    source.close()


def test_the_finest_level_comes_in_batches(served: Server) -> None:
    """All 108 frames of the finest level come, in few requests, each within what the server takes."""
    source = served.open()
    expected = _frames(served.slide.levels[0])
    found = list(source.frames(0, range(len(expected))))
    assert all(_same(frame.data, stored) for frame, stored in zip(found, expected, strict=True))
    assert len(served.asked("/frames/")) <= 20
    before = len(served.http.asked)
    again = list(source.frames(0, range(len(expected))))
    assert [bytes(frame.data) for frame in again] == [bytes(frame.data) for frame in found]
    second = [asked for asked in served.http.asked[before:] if "/frames/" in asked.path]
    assert len(second) <= 8, "what was learnt of the server was forgotten"
    traffic = source._web.session.traffic  # type: ignore[attr-defined]
    source.close()
    assert traffic.requests == len(served.http.asked)
    assert traffic.bytes_read >= 2 * sum(map(len, expected))


def test_metadata_come_from_wado_only(served: Server) -> None:
    """A slide is opened from /metadata; QIDO, which servers fill as they like, is not asked."""
    served.open().close()
    paths = [asked.path for asked in served.http.asked]
    assert len(served.asked("/metadata")) == 1
    assert [path for path in paths if "?" in path or path.endswith(("/series", "/instances", "/studies"))] == []


def test_a_frame_that_is_not_there(served: Server) -> None:
    """Frames before one that the server does not have are given; the error is of that one, and final."""
    source = served.open()
    web, path = source._web, source._paths[str(served.slide.header.SOPInstanceUID)]  # type: ignore[attr-defined]
    count = len(_frames(served.slide.levels[0]))
    numbers = [count - 2, count - 1, count, count + 1, count + 2]
    found: list[int] = []
    with pytest.raises(FrameMissing) as caught:
        found.extend(number for number, _ in web.frames(path, numbers, _NATIVE_BYTES))
    assert found == [count - 2, count - 1, count]
    assert f"frame {count + 1} " in str(caught.value)
    assert not caught.value.retryable
    assert [n for n, _ in web.frames(path, [1, count], _NATIVE_BYTES)] == [1, count], "no limit was learnt from that"
    source.close()


def test_write_back_stores_once(served: Server) -> None:
    """Annotations and report are stored, read back and found; a second time nothing is sent and nothing changes."""
    source = served.open()
    result = _result(source)
    sink = StowSink(served.endpoint, served.slide.study_uid)
    outputs = sink.write(result)
    assert [output.kind for output in outputs] == ["annotations", "report"]
    assert all(sink.holds(output) for output in outputs)
    gone = [replace(output, uri=f"{output.uri}9") for output in outputs]
    assert not any(sink.holds(output) for output in gone)
    sent = len(served.http.stored)
    assert sent == 2
    assert sink.write(result) == outputs
    assert len(served.http.stored) == sent
    sink.close()
    source.close()


def test_whether_a_result_is_there_is_not_asked_by_fetching_it(served: Server) -> None:
    """A search finds an object; only one that is not found is asked for itself."""
    source = served.open()
    sink = StowSink(served.endpoint, served.slide.study_uid)
    outputs = sink.write(_result(source))
    before = len(served.http.asked)
    assert all(sink.holds(output) for output in outputs)
    assert [asked.path.partition("?")[1] for asked in served.http.asked[before:]] == ["?"] * len(outputs)
    sink.close()
    source.close()


def test_an_object_that_is_there_is_not_sent_over(served: Server) -> None:
    """Told to send what the server has already (a race of two workers), the sink finds it there and is content."""
    source = served.open()
    result = _result(source)
    first, second = (StowSink(served.endpoint, served.slide.study_uid) for _ in range(2))
    first.write(result)
    for made in build_objects(result):
        second._send(made)  # 409, 45070, 0111H, or yes: each server in its own way
    assert second.write(result) == first.write(result)
    for sink in (first, second):
        sink.close()
    source.close()


def test_a_series_that_is_not_there(served: Server) -> None:
    """Each server's way to say so is the same error."""
    ref = SlideRef("dicomweb", served.endpoint.url, "pacs", served.slide.study_uid, "1.2.826.0.1.99")
    with pytest.raises(SeriesNotFound):
        open_source(ref, Endpoints([served.endpoint]))


@pytest.mark.parametrize("product", [name for name, one in sorted(PRODUCTS.items()) if one.needs_token])
def test_a_wrong_token(product: str, cmu_slide: SlideOnDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product that wants a token refuses another, and nothing of it is told."""
    monkeypatch.setenv(TOKEN_VARIABLE, "canary-token")
    with running(PRODUCTS[product], cmu_slide) as one:
        ref = SlideRef("dicomweb", one.server.url, "pacs", cmu_slide.study_uid, cmu_slide.series_uid)
        with pytest.raises(AccessDenied) as caught:
            open_source(ref, Endpoints([one.endpoint]))
    assert "canary" not in str(caught.value)
