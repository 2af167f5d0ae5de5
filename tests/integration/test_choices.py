"""What a request may choose, by the command, down to the table: colours, interpolation, tissue, and their refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
from ez_wsi_dicomweb import dicom_slide
from PIL import Image

from tests.services.command import Said, Slidewire
from tests.services.pacs import renamed
from tests.services.slides import SlideOnDisk

_GRID = ("--encoder", "pixel-grid", "--out", "out")
_SRGB = ("--color-profile", "srgb")
Write = Callable[[bytes | None], Path]


def _read(said: Said) -> tuple[list[str], pa.Table]:
    table = pq.read_table(said.output("parquet")["uri"], use_threads=False)
    return json.loads(table.schema.metadata[b"slidewire"])["notes"], table


def _matrix(table: pa.Table) -> "np.ndarray[Any, Any]":
    return np.stack(table["embedding"].to_pylist())


@pytest.fixture
def with_profile(cmu_slide: SlideOnDisk, tmp_path: Path) -> Write:
    """Write the slide, always with the same UIDs, with a profile or without."""
    copy = renamed(cmu_slide, tmp_path / "slide")

    def write(profile: bytes | None) -> Path:
        for path in copy.levels:
            dataset = pydicom.dcmread(path)
            [optical_path] = dataset.OpticalPathSequence
            optical_path.ICCProfile = profile
            if profile is None:
                del optical_path.ICCProfile
            dataset.save_as(path, enforce_file_format=True)
        return copy.folder

    return write


def test_colours_are_transformed(slidewire: Slidewire, with_profile: Write) -> None:
    """Another colour space gives other numbers under another key, and a note; the profile is part of the key."""
    folder = with_profile(dicom_slide.get_adobergb_icc_profile_bytes())
    plain, srgb = slidewire.done("embed", folder, *_GRID), slidewire.done("embed", folder, *_GRID, *_SRGB)
    (_, before), (notes, after) = _read(plain), _read(srgb)
    assert before["x"].equals(after["x"])
    assert np.abs(_matrix(before) - _matrix(after)).max() > 8 / 255
    assert "colours were brought to srgb by the slide's ICC profile" in notes
    with_profile(dicom_slide.get_rommrgb_icc_profile_bytes())
    other = slidewire.done("embed", folder, *_GRID, *_SRGB)
    assert other.json["job"] != srgb.json["job"]
    assert np.abs(_matrix(_read(other)[1]) - _matrix(after)).max() > 8 / 255


@pytest.mark.parametrize("profile", [None, b"no profile at all "])
def test_a_slide_without_a_profile(slidewire: Slidewire, with_profile: Write, profile: bytes | None) -> None:
    """Its colours are left as they are, which is noted; who insists is refused."""
    folder = with_profile(profile)
    slidewire.failed("COLOR_UNAVAILABLE", "embed", folder, *_GRID, *_SRGB, "--require-profile")
    notes, left = _read(slidewire.done("embed", folder, *_GRID, *_SRGB))
    assert np.array_equal(_matrix(left), _matrix(_read(slidewire.done("embed", folder, *_GRID))[1]))
    [note] = [note for note in notes if "srgb" in note]
    assert note.startswith("colours are as they are stored")


def test_a_profile_that_changes_in_the_queue(slidewire: Slidewire, with_profile: Write) -> None:
    """A slide whose profile is another by the time a worker comes to it is not embedded under the old key."""
    folder = with_profile(dicom_slide.get_adobergb_icc_profile_bytes())
    job = slidewire.done("submit", folder, *_GRID, *_SRGB).json["job"]
    with_profile(dicom_slide.get_rommrgb_icc_profile_bytes())
    slidewire("worker", "--drain")
    assert slidewire.done("jobs", "show", job).json["error"]["code"] == "SOURCE_INVALID"


def test_finer_than_the_slide(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Refused; with --upsample interpolated, noted, and close to the slide's own pixels."""
    ask = ("embed", cmu_slide.folder, *_GRID, "--all-patches", "--patch-px", "256", "--spacing-um", "0.2495")
    slidewire.failed("SPACING_TOO_FINE", *ask)
    notes, table = _read(slidewire.done(*ask, "--upsample"))
    assert any("interpolated" in note for note in notes)
    assert set(table["level_width"].to_pylist()) == {128}
    own = slidewire.done("embed", cmu_slide.folder, *_GRID, "--all-patches", "--patch-px", "128", "--native")
    np.testing.assert_allclose(_matrix(table), _matrix(_read(own)[1]), atol=8 / 255)


def test_tissue_from_a_mask_and_from_regions(slidewire: Slidewire, cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """The left half as an image and as a polygon gives the patches that lie there, and the share kept is noted."""
    height, width = cmu_slide.pixels.shape[:2]
    mask = np.zeros((height // 10, width // 10), np.uint8)
    mask[:, : width // 20] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    ring = [[0, 0], [width // 2, 0], [width // 2, height], [0, height], [0, 0]]
    shape = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
    (tmp_path / "left.geojson").write_text(json.dumps(shape))
    ask = ("embed", cmu_slide.folder, *_GRID, "--min-tissue", "0.99")
    for option in (("--mask", tmp_path / "mask.png"), ("--regions", tmp_path / "left.geojson")):
        notes, table = _read(slidewire.done(*ask, *option))
        assert set(table["x"].to_pylist()) == {0, 224, 448, 672}
        assert any("52 of 117 patches kept (44.4 %)" in note for note in notes)


@pytest.mark.parametrize(
    "option", [("--optical-path", "1"), ("--focal-plane", "1"), ("--spacing-from", "pixel-spacing")]
)
def test_choices_of_dicom_are_refused_elsewhere(slidewire: Slidewire, tmp_path: Path, option: tuple[str, str]) -> None:
    """An image has neither optical paths nor focal planes: who asks for one has mistaken the slide."""
    Image.new("RGB", (500, 500)).save(tmp_path / "image.png")
    slidewire.failed("REQUEST_INVALID", "embed", tmp_path / "image.png", *_GRID, *option)
