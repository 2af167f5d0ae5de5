"""`slidewire embed` with Path Foundation on made weights: the snippet's numbers in every output, or one line."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from ez_wsi_dicomweb import dicom_slide, local_dicom_file_interface
from numpy.typing import NDArray

from models.encoders.path_foundation import MODEL
from models.encoders.weights.digest import weights_digest
from tests.reference.path_foundation import embed
from tests.services.command import Slidewire
from tests.services.pacs import SlideInPacs
from tests.services.saved_model import Published, write_saved_model
from tests.services.slides import SlideOnDisk

pytest.importorskip("tensorflow")
_ENCODER = ("--encoder", "path-foundation")
_LICENCE = "Health AI Developer Foundations"


@pytest.fixture
def accepting(slidewire: Slidewire) -> Slidewire:
    """Give the command where somebody has accepted the licence."""
    slidewire.environment["SLIDEWIRE_ACCEPTED_LICENCES"] = json.dumps([_LICENCE])
    return slidewire


def _table(uri: str) -> tuple[dict[str, Any], Any, NDArray[np.float32]]:
    table = pq.read_table(uri, use_threads=False)
    return json.loads(table.schema.metadata[b"slidewire"]), table, np.stack(table["embedding"].to_numpy())


def _patches(slide: SlideOnDisk, table: Any) -> NDArray[np.uint8]:
    """Cut the patches of a table as EZ-WSI does."""
    files = local_dicom_file_interface.LocalDicomFileInterface([str(path) for path in slide.levels])
    opened = dicom_slide.LocalDicomSlide(files)
    corners = zip(table["x"].to_pylist(), table["y"].to_pylist(), strict=True)
    cut = [opened.get_patch(opened.native_level, x, y, 224, 224).image_bytes() for x, y in corners]
    return np.stack(cut)


def test_every_output_holds_the_snippets_numbers(
    accepting: Slidewire, pacs_slide: SlideInPacs, saved_model: Path
) -> None:
    """A slide in Orthanc: table and annotations hold what the model card's snippet makes of the very patches."""
    asked = ("embed", pacs_slide.url, *_ENCODER, "--weights", saved_model, "--encoder-option", "deterministic=yes")
    done = accepting.done(*asked, "--out", "out", "--write-back")
    provenance, table, matrix = _table(done.output("parquet")["uri"])
    assert matrix.shape == (done.json["patches"], 384)
    assert np.abs(matrix - embed(saved_model, _patches(pacs_slide.slide, table))).max() <= 1e-5
    assert matrix.std(axis=0).min() > 0

    annotations = f"{pacs_slide.study_url}/series/{done.output('annotations')['series_uid']}"
    with np.load(accepting.done("export", annotations, "--out", "back.npz").json["uri"]) as arrays:
        assert arrays["features"].astype("<f4").tobytes() == matrix.tobytes()
    assert pacs_slide.found("SR") == [done.output("report")["series_uid"]]

    digest = weights_digest(saved_model)
    said = {name: provenance[name] for name in ("encoder", "encoder_licence", "weights_sha256", "encoder_options")}
    assert said == {
        "encoder": "path-foundation",
        "encoder_licence": _LICENCE,
        "weights_sha256": digest,
        "encoder_options": [["deterministic", "yes"]],
    }
    assert not [note for note in provenance["notes"] if "path-foundation" in note], "0.5 um/px is what it is meant for"
    report = pacs_slide.instance(done.output("report")["uri"]).to_json()
    assert [word for word in (_LICENCE, digest, "deterministic") if word not in report] == []


@pytest.mark.faults
def test_another_spacing_is_noted(accepting: Slidewire, cmu_slide: SlideOnDisk, saved_model: Path) -> None:
    """At 0.75 um/px it is embedded, and the result says what the model is meant for."""
    asked = ("embed", cmu_slide.folder, *_ENCODER, "--weights", saved_model, "--spacing-um", "0.75")
    provenance, _, _ = _table(accepting.done(*asked, "--out", "out").output("parquet")["uri"])
    assert "path-foundation is meant for 0.5 or 1 or 2 um/px, not 0.75" in "\n".join(provenance["notes"])


def _of(**changes: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_saved_model(folder, replace(Published(), **changes))  # type: ignore[arg-type]

    return write


def _half(folder: Path) -> None:
    write_saved_model(folder)
    data = folder / "variables" / "variables.data-00000-of-00001"
    os.truncate(data, data.stat().st_size // 2)


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (_of(signature="embed"), "no signature serving_default, but: embed"),
        pytest.param(_of(outputs={"output_0": 512}), "N x 512, not N x 384", marks=pytest.mark.faults),
        pytest.param(
            _of(nan=True), "path-foundation gives NaN or infinity with these weights", marks=pytest.mark.faults
        ),
        pytest.param(_half, "cannot be loaded", marks=pytest.mark.faults),
    ],
    ids=["signature", "dimension", "NaN", "half a file"],
)
def test_weights_that_are_not_its(
    accepting: Slidewire, pacs_slide: SlideInPacs, tmp_path: Path, write: Callable[[Path], None], named: str
) -> None:
    """Another model's, damaged ones, and ones that give NaN: one line, nothing in the folder, nothing in the PACS."""
    write(tmp_path / "weights")
    held = pacs_slide.instances()
    asked = ("embed", pacs_slide.url, *_ENCODER, "--weights", tmp_path / "weights", "--out", "out", "--write-back")
    said = accepting.failed("WEIGHTS_INVALID", *asked)
    assert named in said.stderr
    assert not (accepting.folder / "out").exists()
    assert pacs_slide.instances() == held


def test_a_licence_that_nobody_accepted(slidewire: Slidewire, pacs_slide: SlideInPacs, saved_model: Path) -> None:
    """Without consent nothing is queued; the line says which licence, where to read it, and how to accept it."""
    asked = ("embed", pacs_slide.url, *_ENCODER, "--weights", saved_model, "--out", "out")
    said = slidewire.failed("LICENCE_NOT_ACCEPTED", *asked)
    for word in (_LICENCE, MODEL.spec.licence.url, "accepted_licences"):
        assert word in said.stderr
    assert slidewire.done("jobs").json == []
    assert not (slidewire.folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (("--patch-px", "256"), "PATCHES_UNSUITED", "224 px, not 256"),
        (("--encoder-option", "xla=perhaps"), "REQUEST_INVALID", "xla"),
        (("--encoder-option", "precision=bf16"), "REQUEST_INVALID", "fp32"),
        (("--weights", "nowhere"), "WEIGHTS_INVALID", "nowhere are not there"),
        (("--weights", "."), "WEIGHTS_INVALID", "folder without files"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_refused_before_it_is_queued(
    accepting: Slidewire, cmu_slide: SlideOnDisk, saved_model: Path, arguments: tuple[str, ...], code: str, named: str
) -> None:
    """Patches, options and weights that do not fit are refused when they are asked for, without TensorFlow."""
    empty = accepting.folder / "empty"
    empty.mkdir()
    given = [str(empty) if one == "." else one for one in arguments]
    weights = () if "--weights" in given else ("--weights", saved_model)
    said = accepting.failed(code, "embed", cmu_slide.folder, *_ENCODER, *weights, *given, "--out", "out")
    assert named in said.stderr
    assert accepting.done("jobs").json == []
    assert not (accepting.folder / "out").exists()


def test_weights_that_change_after_submission(accepting: Slidewire, cmu_slide: SlideOnDisk, saved_model: Path) -> None:
    """A job is computed with the weights it was submitted with, or not at all."""
    job = accepting.done("submit", cmu_slide.folder, *_ENCODER, "--weights", saved_model, "--out", "out").json["job"]
    write_saved_model(saved_model, Published(seed=1))
    accepting("worker", "--drain")
    failed = accepting.job(job)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "WEIGHTS_INVALID")
    assert "not those that the job was submitted with" in failed["error"]["message"]
    assert not (accepting.folder / "out").exists()
