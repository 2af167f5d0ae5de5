"""Conformance of every registered source: one opener below, and a new source is held to the same rules."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from connectors.endpoints import Credentials, Endpoints
from connectors.protocols import Source
from connectors.registry import SOURCES, open_source
from models.domain.slide import Slide, SlideRef
from models.imaging.decode import decode_frame
from models.members import members
from tests.services.gcs import GcsServer
from tests.services.orthanc import Orthanc
from tests.services.slides import SlideOnDisk

ENDPOINTS = Endpoints(cloud=Credentials("none"))


@pytest.fixture
def locations(
    cmu_slide: SlideOnDisk, cmu_svs: Path, orthanc: Orthanc, gcs: GcsServer, tmp_path: Path
) -> dict[str, Callable[[], str]]:
    """Say where a slide for each kind of source is, by the name it is registered under."""
    encoded = cv2.imencode(".png", cmu_slide.pixels[:500, :700, ::-1])[1].tobytes()

    def in_pacs() -> str:
        orthanc.load(cmu_slide.folder)
        return f"{orthanc.dicomweb}/studies/{cmu_slide.study_uid}/series/{cmu_slide.series_uid}"

    def on_disk() -> str:
        (tmp_path / "image.png").write_bytes(encoded)
        return str(tmp_path / "image.png")

    def in_bucket() -> str:
        gcs.create_bucket("contract")
        return gcs.upload("contract", "image.png", encoded)

    return {
        "dicomweb": in_pacs,
        "dicom-files": lambda: str(cmu_slide.folder),
        "image": on_disk,
        "gcs": in_bucket,
        "tiff": lambda: str(cmu_svs),
    }


@pytest.fixture(params=sorted(members(SOURCES)))
def ref(request: pytest.FixtureRequest, locations: dict[str, Callable[[], str]]) -> SlideRef:
    """Locate a slide for each registered source."""
    return ENDPOINTS.locate(locations[request.param]())


@pytest.fixture
def source(ref: SlideRef) -> Iterator[Source]:
    """Open that slide."""
    opened = open_source(ref, ENDPOINTS)
    yield opened
    opened.close()


def test_geometry(source: Source, ref: SlideRef) -> None:
    """Levels come largest first, name their reference, and survive the ledger's JSON."""
    slide = source.slide
    areas = [level.width_px * level.height_px for level in slide.levels]
    assert areas == sorted(areas, reverse=True)
    assert slide.ref == ref
    assert Slide.from_json(slide.to_json()) == slide
    assert all(len(part.digest) == 64 for level in slide.levels for part in level.instances)


def test_all_frames(source: Source) -> None:
    """Every frame that a level promises is given, in order, and decodes to its size."""
    level = len(source.slide.levels) - 1
    geometry = source.slide.levels[level]
    wanted = range(geometry.rows * geometry.columns)
    frames = list(source.frames(level, wanted))
    assert [frame.index for frame in frames] == list(wanted)
    shapes = {decode_frame(frame, geometry).shape for frame in frames}
    assert shapes == {(geometry.frame_height_px, geometry.frame_width_px, 3)}


def test_some_frames_from_threads(source: Source) -> None:
    """Any ascending selection gives the same bytes, also from several threads at once."""
    geometry = source.slide.levels[0]
    last = geometry.rows * geometry.columns - 1
    selection = sorted({0, last // 2, last})
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: [bytes(f.data) for f in source.frames(0, selection)], range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == len(selection)


def test_same_slide_again(source: Source, ref: SlideRef) -> None:
    """Opened again it is the same slide, digests and all: jobs rely on it."""
    again = open_source(ref, ENDPOINTS)
    assert again.slide == source.slide
    again.close()


def test_header(source: Source, ref: SlideRef) -> None:
    """A DICOM slide gives the header of what was read, without pixels; an image gives none."""
    header = source.header(0)
    if ref.kind in {"image", "gcs", "tiff"}:
        assert header is None
    else:
        assert header is not None
        assert header["00080018"]["Value"] == [source.slide.levels[0].instances[0].uid]
        assert "InlineBinary" not in header.get("7FE00010", {})


def test_same_pixels_everywhere(cmu_slide: SlideOnDisk, locations: dict[str, Callable[[], str]]) -> None:
    """The PACS and the files give the same slide: digests and bytes."""
    opened = [open_source(ENDPOINTS.locate(locations[kind]()), ENDPOINTS) for kind in ("dicomweb", "dicom-files")]
    first, second = opened
    assert first.slide.levels == second.slide.levels
    ours, theirs = ([bytes(f.data).rstrip(b"\0") for f in one.frames(0, range(20))] for one in opened)
    assert ours == theirs
    np.testing.assert_allclose(first.slide.levels[0].spacing_um or (), cmu_slide.spacing_um, rtol=1e-6)
    for one in opened:
        one.close()
