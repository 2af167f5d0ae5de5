"""Local DICOM files that are damaged or incomplete."""

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from connectors.endpoints import Endpoints
from connectors.registry import open_source
from models.domain.errors import SlidewireError
from models.imaging.decode import decode_frame
from tests.services.slides import SlideOnDisk

ENDPOINTS = Endpoints()


def changed(slide: SlideOnDisk, folder: Path, change: Callable[[pydicom.Dataset], None]) -> Path:
    """Write the smallest level with something changed; return its folder."""
    dataset = pydicom.dcmread(slide.levels[-1])
    change(dataset)
    folder.mkdir()
    dataset.save_as(folder / "level.dcm")
    return folder


def test_a_volume_of_zero_is_no_spacing(cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """An Imaged Volume of zero and no Pixel Spacing leave the spacing unknown, not zero."""

    def change(dataset: pydicom.Dataset) -> None:
        dataset.ImagedVolumeWidth = dataset.ImagedVolumeHeight = 0.0
        del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence

    source = open_source(ENDPOINTS.locate(str(changed(cmu_slide, tmp_path / "slide", change))), ENDPOINTS)
    assert source.slide.levels[0].spacing_um is None
    assert any("spacing is unknown" in note for note in source.slide.notes)
    source.close()


def read_all(path: Path) -> int:
    """Open a slide and read every frame of its finest level; return how many there are."""
    source = open_source(ENDPOINTS.locate(str(path)), ENDPOINTS)
    level = source.slide.levels[0]
    frames = [decode_frame(frame, level) for frame in source.frames(0, range(level.rows * level.columns))]
    source.close()
    return len(frames)


@pytest.mark.filterwarnings("ignore:.*file:UserWarning")  # pydicom's own remark on it, by the way
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_a_torn_file_is_an_error_of_ours(cmu_slide: SlideOnDisk, tmp_path: Path, share: float) -> None:
    """Wherever a file is cut off, opening it or reading its frames ends in an error with a code."""
    data = cmu_slide.levels[-2].read_bytes()
    path = tmp_path / "torn.dcm"
    path.write_bytes(data)
    assert read_all(path) > 0
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SlidewireError):
        read_all(path)
