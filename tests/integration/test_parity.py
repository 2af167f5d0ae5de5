"""The patches that reach the encoder are EZ-WSI's, and each frame travels once over connections that stay open."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from ez_wsi_dicomweb import (
    credential_factory,
    dicom_slide,
    dicom_web_interface,
    ez_wsi_errors,
    local_dicom_file_interface,
)
from ez_wsi_dicomweb.ml_toolkit import dicom_path
from numpy.typing import NDArray

from connectors.dicomweb import DicomWeb
from connectors.endpoints import Endpoint, Endpoints
from connectors.frames import FrameFeed
from connectors.protocols import Source
from connectors.sources.dicom_files import DicomFilesSource
from connectors.sources.dicomweb import DicomWebSource
from models.domain.patch import Rows
from models.domain.plan import Plan
from models.domain.request import PatchSpec
from models.domain.slide import SlideRef
from tests.services.command import Slidewire
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs
from tests.services.proxy import counting_proxy
from tests.services.slides import SlideOnDisk
from worker.pipeline import Cancellation, Limits, Part, embed_part
from worker.stages.plan import plan_patches

_PATCH_PX = 224


class _Recorder:
    """An encoder that keeps what it is fed."""

    def __init__(self) -> None:
        self.fed: list[NDArray[np.uint8]] = []

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Keep a copy; return one number a patch."""
        self.fed.extend(pixels.copy())
        return Rows(np.zeros((len(pixels), 1), np.float32))


def _feed(source: Source, spec: PatchSpec, limits: Limits | None = None) -> tuple[Plan, list[NDArray[np.uint8]]]:
    """Run the pipeline over all patches; return the plan and what the encoder was fed."""
    plan = plan_patches(source.slide, spec, None, 32)
    recorder = _Recorder()
    part = Part(0, len(plan.grid))
    given = list(embed_part(source, plan, part, (recorder, 1), limits or Limits(), Cancellation()))
    assert sum(len(batch.rows) for batch in given) == len(plan.grid)
    return plan, recorder.fed[: len(plan.grid)]


@pytest.fixture(scope="module")
def in_orthanc(orthanc: Orthanc, cmu_slide: SlideOnDisk) -> SlideInPacs:
    """Load the slide under its own UIDs."""
    orthanc.load(cmu_slide.folder)
    return SlideInPacs(orthanc, cmu_slide)


@pytest.fixture
def pacs_source(in_orthanc: SlideInPacs) -> Iterator[DicomWebSource]:
    """Open the slide in Orthanc."""
    ref = Endpoints().locate(in_orthanc.url)
    source = DicomWebSource(ref, Endpoint(in_orthanc.orthanc.dicomweb, frames_per_request=40))
    yield source
    source.close()


@pytest.fixture(scope="module")
def theirs(cmu_slide: SlideOnDisk) -> dicom_slide.LocalDicomSlide:
    """Open the slide's files with EZ-WSI alone."""
    paths = [str(level) for level in cmu_slide.levels]
    return dicom_slide.LocalDicomSlide(local_dicom_file_interface.LocalDicomFileInterface(paths))


def _level_of(slide: Any, plan: Plan) -> Any:
    return next(level for level in slide.levels if level.width == plan.level.width_px)


def _assert_theirs(slide: Any, plan: Plan, fed: Sequence[NDArray[np.uint8]], rows: Sequence[int]) -> None:
    level = _level_of(slide, plan)
    for row in rows:
        x, y, width, height = map(int, plan.grid.boxes[row])
        expected = slide.get_patch(level, x, y, width, height).image_bytes()
        assert np.array_equal(fed[row], expected), (x, y)


@pytest.mark.parametrize(("spacing_um", "stride_px"), [(None, 150), (1.0, 111), (2.0, 57)])
@pytest.mark.parametrize("kind", ["pacs", "files"])
def test_every_patch_is_ez_wsis(
    pacs_source: DicomWebSource,
    cmu_slide: SlideOnDisk,
    theirs: dicom_slide.LocalDicomSlide,
    kind: str,
    spacing_um: float | None,
    stride_px: int,
) -> None:
    """Every byte of every patch equals image_bytes(), at three levels, patches across two and four frames included."""
    source: Source = pacs_source
    if kind == "files":
        source = DicomFilesSource(SlideRef("dicom-files", str(cmu_slide.folder)))
    plan, fed = _feed(source, PatchSpec(_PATCH_PX, stride_px, spacing_um, None))
    assert len(fed) > 20
    frames = plan.level.frame_width_px
    straddling = (plan.grid.boxes[:, :2] // frames) != ((plan.grid.boxes[:, :2] + _PATCH_PX - 1) // frames)
    assert straddling.all(axis=1).any(), "some lie on four frames"
    _assert_theirs(theirs, plan, fed, range(len(fed)))


def test_a_row_and_a_column_over_orthanc(pacs_source: DicomWebSource, in_orthanc: SlideInPacs) -> None:
    """EZ-WSI's own DicomSlide over our interface, reading from the same Orthanc, gives the same bytes."""
    plan, fed = _feed(pacs_source, PatchSpec(_PATCH_PX, 200, None, None))
    endpoint = Endpoint(in_orthanc.orthanc.dicomweb)
    web = DicomWeb(endpoint)
    slide = dicom_slide.DicomSlide(web, dicom_path.FromString(in_orthanc.url))
    assert slide.native_level.width == plan.level.width_px
    row = [n for n, (_, y, _, _) in enumerate(plan.grid.boxes) if y == 400]
    column = [n for n, (x, _, _, _) in enumerate(plan.grid.boxes) if x == 600]
    assert len(row) == 10
    assert len(column) == 14
    _assert_theirs(slide, plan, fed, sorted({*row, *column}))
    web.session.close()


def test_stock_ez_wsi_refuses_this_orthanc(in_orthanc: SlideInPacs) -> None:
    """EZ-WSI's own interface cannot open the slide: Orthanc's QIDO lacks tags it needs. If it can one day, say so."""
    stock = dicom_web_interface.DicomWebInterface(credential_factory.NoAuthCredentialsFactory())
    with pytest.raises(ez_wsi_errors.DicomTagNotFoundError):
        dicom_slide.DicomSlide(stock, dicom_path.FromString(in_orthanc.url))


def test_each_frame_is_fetched_once(pacs_source: DicomWebSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlapping patches share frames: each is asked for once, some tens a request, URLs kept short."""
    asked: list[tuple[str, list[int]]] = []
    ask = FrameFeed.ask

    def counted(self: FrameFeed, instance: Any, numbers: list[int]) -> Any:
        asked.append((instance.url, numbers))
        return ask(self, instance, numbers)

    monkeypatch.setattr(FrameFeed, "ask", counted)
    plan, _ = _feed(pacs_source, PatchSpec(_PATCH_PX, 56, None, None), Limits(frames_a_request=60))
    frames = Counter((url, number) for url, numbers in asked for number in numbers)
    assert set(frames.values()) == {1}
    assert len(frames) == plan.level.rows * plan.level.columns
    assert len(asked) <= 2 * -(-len(frames) // 40)
    assert max(len(numbers) for _, numbers in asked) <= 40


def test_connections_are_kept(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """A whole job with write-back makes many requests, and no more connections than the server makes it make."""
    port = int(pacs_slide.orthanc.url.rpartition(":")[2])
    with counting_proxy(port) as proxy:
        slidewire.environment |= {
            "SLIDEWIRE_ENDPOINTS__PACS__URL": f"http://127.0.0.1:{proxy.port}/dicom-web",
            "SLIDEWIRE_ENDPOINTS__PACS__FRAMES_PER_REQUEST": "10",
        }
        done = slidewire.done("embed", pacs_slide.source, "--encoder", "pixel-grid", "--all-patches", "--write-back")
    assert len(done.json["outputs"]) == 2
    assert proxy.requests > 15
    # Two to plan, two to embed, one to store; Orthanc 1.10 closes the connection after every answer of several frames.
    ours, kept_open = proxy.connections - proxy.closes, proxy.requests - proxy.closes
    assert ours <= 5
    assert kept_open > 1.5 * ours
