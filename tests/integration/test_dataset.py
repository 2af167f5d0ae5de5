"""From two slides to a scored probe: what docs/dataset.md tells people to type works."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from connectors.dataset.index import INDEX, read_index, write_index
from connectors.dataset.patches import open_dataset
from tests.integration.test_readme import ROOT, block
from tests.services.command import Slidewire
from tests.services.gcs import GcsServer
from tests.unit.connectors.dataset.results import leave_result
from worker.demo.sample import read_sample

PAGE = (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")
PATCH_PX = 224


def _is_dense(pixels: NDArray[np.uint8], x: int, y: int) -> bool:
    """Whether a patch is darker than most: more tissue than glass."""
    return bool(pixels[y : y + PATCH_PX, x : x + PATCH_PX].mean() < 190)


@pytest.fixture(scope="module")
def place(cmu_svs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs of tissue, and a CSV that labels their patches."""
    folder = tmp_path_factory.mktemp("probe")
    pixels, _ = read_sample(cmu_svs)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "x", "y", "tumour"])
        for number, part in enumerate((pixels[:1344, :1120], pixels[1344:2688, :1120]), 1):
            Image.fromarray(part).save(folder / f"slide-{number}.png")
            corners = [(x, y) for y in range(0, 1344, PATCH_PX) for x in range(0, 1120, PATCH_PX)]
            writer.writerows([f"slide-{number}", x, y, int(_is_dense(part, x, y))] for x, y in corners)
    return folder


def _run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLIDEWIRE_")}
    environment = {**kept, "PATH": path, "SLIDEWIRE_STATE_FOLDER": str(folder / "state")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.faults
def test_a_probe_on_two_slides(place: Path) -> None:
    """The page's commands embed and join, its probe learns on one slide and is right about the other."""
    script = block("sh", "slidewire dataset", PAGE).replace("--native", "--native --all-patches")
    said = _run(["bash", "-euc", script.replace("efficientnet-lite0", "pixel-grid")], place)
    assert "2 slides, 60 patches x 192" in said
    assert "2 slides have one, 0 have none; 0 of the labels have no slide" in said
    scored = _run([sys.executable, "-c", block("python", "cross_val_score", PAGE)], place)
    scores = [float(score) for score in re.findall(r"\d\.\d\d", scored)]
    assert len(scores) == 3
    assert min(scores) > 0.75  # by chance: 0.5
    assert _run([sys.executable, "-c", block("python", "batches", PAGE)], place).strip() == "30 patches of slide-1"
    reply = json.loads(
        _run([str(Path(sys.executable).with_name("slidewire")), "dataset", "embeddings", "--json"], place)
    )
    assert (reply["slides"], reply["patches"], reply["unreadable"]) == (2, 60, [])
    assert reply["first_slides"] == ["slide-1", "slide-2"]


def test_a_folder_that_is_only_read(slidewire: Slidewire, tmp_path: Path) -> None:
    """Where the index cannot be kept the command says so, and all else works; a torn table is named."""
    leave_result(tmp_path / "results", "a", 5)
    (tmp_path / "results" / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "results" / INDEX).mkdir()  # not even root can write a file there
    said = slidewire.done("dataset", tmp_path / "results").json
    assert (said["slides"], said["unreadable"]) == (1, ["torn.parquet"])
    assert "cannot be written" in said["index_not_kept"]
    slidewire.failed("SOURCE_UNREADABLE", "dataset", tmp_path / "nowhere")


def test_in_a_bucket(gcs: GcsServer, tmp_path: Path) -> None:
    """Tables and labels are read from a bucket, and the index is kept there."""
    matrices = [leave_result(tmp_path, slide, 5).matrix for slide in "ab"]
    for path in tmp_path.glob("*.parquet"):
        gcs.upload("probes", f"run-1/{path.name}", path.read_bytes())
    labels = gcs.upload("probes", "labels.csv", b"slide,grade\na,1\nb,2\n")
    write_index("gs://probes/run-1", read_index("gs://probes/run-1"))
    assert f"run-1/{INDEX}" in gcs.names("probes")
    arrays = open_dataset("gs://probes/run-1", labels).arrays("grade")
    assert arrays.matrix.tobytes() == np.concatenate(matrices).tobytes()
    assert arrays.labels.tolist() == [1] * 5 + [2] * 5
