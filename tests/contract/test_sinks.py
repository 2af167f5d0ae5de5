"""Conformance of every registered sink: one place below, and a new sink is held to the same rules."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from connectors.endpoints import Endpoints
from connectors.protocols import Result, Sink
from connectors.registry import SINKS
from connectors.tables.registry import table_names
from models.domain.embedding import Embeddings, Provenance, ResultKey
from models.domain.request import OutputSpec
from models.domain.slide import SlideRef
from models.members import load_member, members
from tests.services.orthanc import Orthanc
from tests.services.slides import SlideOnDisk

ENDPOINTS = Endpoints()


@pytest.fixture
def places(tmp_path: Path, cleared_orthanc: Orthanc, cmu_slide: SlideOnDisk) -> dict[str, Callable[[], Sink]]:
    """Open each registered sink on a place of its own."""
    study, series = cmu_slide.study_uid, cmu_slide.series_uid
    ref = SlideRef("dicomweb", cleared_orthanc.dicomweb, "", study, series)

    def stow() -> Sink:
        cleared_orthanc.load(cmu_slide.folder)
        sink: Sink = load_member(SINKS, "stow")(OutputSpec(write_back=True), ref, ENDPOINTS)
        return sink

    def files() -> Sink:
        output = OutputSpec(str(tmp_path / "out"), dicom_files=True, tables=("lazyslide", "numpy"))
        sink: Sink = load_member(SINKS, "files")(output, ref, ENDPOINTS)
        return sink

    return {"stow": stow, "files": files}


@pytest.fixture(params=sorted(members(SINKS)))
def sink(request: pytest.FixtureRequest, places: dict[str, Callable[[], Sink]]) -> Iterator[Sink]:
    """Open one registered sink after the other."""
    opened = places[request.param]()
    yield opened
    opened.close()


@pytest.fixture
def result(cmu_slide: SlideOnDisk) -> Result:
    """Make up a small result of the sample slide."""
    random = np.random.default_rng(7)
    boxes = np.asarray([[x * 224, 0, 224, 224] for x in range(9)], np.int32)
    px = boxes[:, :2].astype(np.float64)
    embeddings = Embeddings(random.normal(size=(9, 5)).astype(np.float32), boxes, px, px * 0.499)
    key = ResultKey.of({"test": 1})
    provenance = Provenance(
        result_key=key.sha256, slidewire="0", encoder="test", encoder_revision="1", encoder_licence="none",
        encoder_source="test", weights_sha256="", preprocessing="none", dimension=5, patch_px=224, stride_px=224,
        patches=9, spacing_um=(0.499, 0.499), requested_spacing_um=0.5, level=0,
        level_scale=(1.0, 1.0), level_0_spacing_um=(0.499, 0.499), tissue_fraction=None, grid_patches=9,
    )  # fmt: skip
    header = pydicom.dcmread(cmu_slide.levels[0], stop_before_pixels=True).to_json_dict()
    return Result(key, "slide.test", embeddings, provenance, header)


def test_written_and_held(sink: Sink, result: Result) -> None:
    """What was written is held, and what was changed or never there is not."""
    outputs = sink.write(result)
    assert outputs
    assert all(sink.holds(output) for output in outputs)
    assert not any(sink.holds(replace(output, uri=output.uri[:-3] + "999")) for output in outputs)


def test_written_twice(sink: Sink, result: Result) -> None:
    """Writing the same result again gives the same outputs, to the digest."""
    assert sink.write(result) == sink.write(result)


def test_no_patches(sink: Sink, result: Result) -> None:
    """A slide without tissue leaves a result, too; annotations it cannot leave."""
    empty = Embeddings(np.empty((0, 5), np.float32), np.empty((0, 4), np.int32), np.empty((0, 2)), np.empty((0, 2)))
    outputs = sink.write(replace(result, embeddings=empty, provenance=replace(result.provenance, patches=0)))
    kinds = {output.kind for output in outputs}
    assert kinds
    assert "annotations" not in kinds


def test_kinds_and_uids(sink: Sink, result: Result) -> None:
    """Outputs are of known kinds; DICOM objects name their series and instance, others do not."""
    for output in sink.write(result):
        assert output.kind in {*table_names(), "annotations", "report", "picture"}
        dicom = output.kind in {"annotations", "report"}
        assert bool(output.series_uid) is bool(output.instance_uid) is dicom
