"""`slidewire embed` with EXAONEPath on made weights: the reference's numbers in every output, what fell back marked."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.encoders.exaonepath import MODEL
from models.imaging.stain import StainReference
from tests.reference import exaonepath, macenko
from tests.services.command import Slidewire
from tests.services.cut import cut
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs, assert_valid, fetch_instance, load, renamed
from tests.services.slides import SlideOnDisk
from worker.demo.pyramid import write_pyramid

_SIDE = 256
_DEFAULT = ("--encoder-option", "stain_target=published-default")


@pytest.fixture
def accepting(slidewire: Slidewire) -> Slidewire:
    """Give the command where somebody has accepted the licence."""
    slidewire.environment["SLIDEWIRE_ACCEPTED_LICENCES"] = json.dumps([MODEL.spec.licence.name])
    slidewire.environment["SLIDEWIRE_BATCH_SIZE"] = "6"  # a batch is filled up, and the network is not small
    return slidewire


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Make weights in the published form."""
    return exaonepath.checkpoint(0)


@pytest.fixture(scope="module")
def weights(state: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write them as they are published."""
    path = tmp_path_factory.mktemp("weights") / "EXAONEPath.ckpt"
    torch.save({"state_dict": state}, path)
    return path


@pytest.fixture
def slide(orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path: Path) -> SlideInPacs:
    """Load two by two patches of tissue, and two of glass beside them, into an Orthanc."""
    pixels = np.full((2 * _SIDE, 3 * _SIDE, 3), 255, np.uint8)
    pixels[:, : 2 * _SIDE] = cmu_slide.pixels[1000 : 1000 + 2 * _SIDE, 900 : 900 + 2 * _SIDE]
    folder = tmp_path / "made"
    made = SlideOnDisk(folder, write_pyramid(pixels, 0.5, folder), pixels, 0.5, 1)
    return load(orthanc, renamed(made, tmp_path / "slide"))


def _table(uri: str) -> tuple[dict[str, Any], Any, NDArray[np.float32]]:
    table = pq.read_table(uri, use_threads=False)
    return json.loads(table.schema.metadata[b"slidewire"]), table, np.stack(table["embedding"].to_numpy())


def _expected(
    state: dict[str, torch.Tensor], slide: SlideOnDisk, table: Any, target: macenko.Target
) -> tuple[NDArray[np.float32], list[bool]]:
    """Return what the reference makes of a table's patches, and where it left the stains as they are."""
    corners = zip(table["x"].to_pylist(), table["y"].to_pylist(), strict=True)
    made = [exaonepath.preprocess(patch, target) for patch in cut(slide, corners, _SIDE)]
    with torch.no_grad():
        matrix = exaonepath.embed(state, torch.stack([image for image, _ in made]))
    return matrix.numpy(), [fell_back for _, fell_back in made]


def test_every_output_holds_the_references_numbers(
    accepting: Slidewire, slide: SlideInPacs, state: dict[str, torch.Tensor], weights: Path
) -> None:
    """Table and annotations hold what the reference makes of the very patches; glass has no stains, and is marked."""
    asked = ("embed", slide.url, "-e", "exaonepath", "--weights", weights, *_DEFAULT, "--all-patches")
    done = accepting.done(*asked, "--out", "out", "--write-back")
    provenance, table, matrix = _table(done.output("parquet")["uri"])
    assert (matrix.shape, provenance["patch_px"]) == ((6, 768), _SIDE)
    expected, marks = _expected(state, slide.slide, table, macenko.DEFAULT)
    assert np.abs(matrix - expected).max() <= 1e-4 * np.abs(expected).max()
    assert table["fallback"].to_pylist() == marks == [False, False, True, False, False, True]

    back = accepting.done("export", slide.url, "--out", "back.npz").json["uri"]
    with np.load(back) as arrays:
        assert arrays["features"].astype("<f4").tobytes() == matrix.tobytes()
    note = "2 of 6 patches fell back: they were embedded without stain normalisation"
    assert note in provenance["notes"]
    assert slide.found("SR") == [done.output("report")["series_uid"]]
    said = slide.instance(done.output("report")["uri"]).to_json()
    for word in (note, "stain_target=published-default", MODEL.spec.licence.name):
        assert word in said
    for kind in ("annotations", "report"):
        path = accepting.folder / f"{kind}.dcm"
        path.write_bytes(fetch_instance(slide.orthanc, done.output(kind)["uri"]))
        assert_valid(path)


@pytest.mark.faults
def test_the_stains_of_an_image(
    accepting: Slidewire, slide: SlideInPacs, state: dict[str, torch.Tensor], weights: Path
) -> None:
    """The image is read when the slide is asked for: its numbers are in the result, which is the reference's."""
    tissue = slide.slide.pixels[:300, :400]
    image = accepting.folder / "target.png"
    Image.fromarray(tissue).save(image)
    asked = ("embed", slide.slide.folder, "-e", "exaonepath", "--weights", weights, "--all-patches", "--out", "out")
    done = accepting.done(*asked, "--encoder-option", f"stain_target={image}")
    provenance, table, matrix = _table(done.output("parquet")["uri"])
    [(name, text)] = provenance["encoder_options"]
    assert name == "stain_target"
    reference, fitted = StainReference.parse(text), macenko.fit(tissue)
    # The reference fits in single precision, whose rounding shows; given the same stains, the embeddings are its own.
    assert np.asarray(reference.stains) == pytest.approx(fitted.stains.numpy(), abs=1e-3)
    target = macenko.Target(torch.tensor(reference.stains), torch.tensor(reference.most))
    expected, _ = _expected(state, slide.slide, table, target)
    assert np.abs(matrix - expected).max() <= 1e-4 * np.abs(expected).max()

    image.unlink()  # given as numbers, it is the same request
    again = accepting.done(*asked, "--encoder-option", f"stain_target={text}")
    assert again.json["job"] == done.json["job"]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ((), "REQUEST_INVALID", "macenko_target.*published-default"),
        (("--encoder-option", "stain_target=none.png"), "REQUEST_INVALID", "none.png"),
        ((*_DEFAULT, "--patch-px", "512"), "PATCHES_UNSUITED", "256 or 224 px, not 512"),
        ((*_DEFAULT, "--spacing-um", "1"), "PATCHES_UNSUITED", "0.5 um/px, not 0.998"),
        ((*_DEFAULT, "--encoder-option", "precision=int4"), "REQUEST_INVALID", "precision"),
    ],
)
def test_what_is_refused_before_anything_is_queued(
    accepting: Slidewire, cmu_slide: SlideOnDisk, weights: Path, arguments: tuple[str, ...], code: str, named: str
) -> None:
    """One line that says what to do; no job, no file."""
    asked = ("embed", cmu_slide.folder, "-e", "exaonepath", "--weights", weights, "--out", "out", *arguments)
    said = accepting.failed(code, *asked)
    assert re.search(named, said.stderr), said.stderr
    assert accepting.done("jobs").json == []
    assert not (accepting.folder / "out").exists()


def test_another_models_checkpoint(
    accepting: Slidewire, cmu_slide: SlideOnDisk, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """A key more and a key less are named; nothing is written."""
    changed = {("norm.gain" if name == "norm.weight" else name): value for name, value in state.items()}
    torch.save({"state_dict": changed}, tmp_path / "other.ckpt")
    asked = ("embed", cmu_slide.folder, "-e", "exaonepath", *_DEFAULT, "--weights", tmp_path / "other.ckpt")
    said = accepting.failed("WEIGHTS_INVALID", *asked, "--out", "out")
    assert "norm.weight" in said.stderr
    assert "norm.gain" in said.stderr
    assert not (accepting.folder / "out").exists()
