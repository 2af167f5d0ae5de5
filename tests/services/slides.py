"""Slides to read: the public CMU section as DICOM pyramids, written once a run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from models.domain.errors import SourceUnreadable
from tests.services.process import unavailable
from worker.demo.pyramid import write_pyramid
from worker.demo.sample import fetch_sample, read_sample

SAMPLE_CACHE = Path(__file__).parents[2] / ".cache" / "sample"


@dataclass(frozen=True)
class SlideOnDisk:
    """A pyramid, and the pixels that it was made of.

    Parameters
    ----------
    folder : Path
        Holds nothing but the levels.
    levels : tuple of Path
        DICOM files, finest first.
    pixels : uint8 array, shape (H, W, 3)
        RGB of one tile of the mosaic.
    spacing_um : float
        Of the finest level.
    tiles : int
        The mosaic is tiles x tiles.
    """

    folder: Path
    levels: tuple[Path, ...]
    pixels: NDArray[np.uint8]
    spacing_um: float
    tiles: int

    @cached_property
    def header(self) -> pydicom.Dataset:
        """The finest level without its pixels."""
        return pydicom.dcmread(self.levels[0], stop_before_pixels=True)

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return str(self.header.StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return str(self.header.SeriesInstanceUID)

    def patch(self, x: int, y: int, side: int) -> NDArray[np.uint8]:
        """Return the source's pixels (before JPEG) of a square at (x, y) of the finest level."""
        height, width = self.pixels.shape[:2]
        rows, columns = np.arange(y, y + side) % height, np.arange(x, x + side) % width
        return self.pixels[np.ix_(rows, columns)]


def write_slide(sample: Path, folder: Path, tiles: int) -> SlideOnDisk:
    """Write the sample as a pyramid of tiles x tiles into `folder`."""
    pixels, spacing_um = read_sample(sample)
    levels = write_pyramid(pixels, spacing_um, folder, tiles=tiles)
    return SlideOnDisk(folder, levels, pixels, spacing_um, tiles)


@pytest.fixture(scope="session")
def cmu_svs() -> Path:
    """Fetch the sample as it was published: an SVS file of 2220 x 2967 px, 0.499 um/px, kept in .cache/."""
    try:
        return fetch_sample(SAMPLE_CACHE)
    except SourceUnreadable as exc:
        unavailable(str(exc))


@pytest.fixture(scope="session")
def cmu_slide(cmu_svs: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideOnDisk:
    """Write the sample as a DICOM pyramid: 2220 x 2967 px, five levels, 108 frames in the finest."""
    return write_slide(cmu_svs, tmp_path_factory.mktemp("cmu") / "slide", 1)


@pytest.fixture(scope="session")
def cmu_slide_6x6(cmu_svs: Path, tmp_path_factory: pytest.TempPathFactory) -> SlideOnDisk:
    """Write the sample laid 6 x 6: 13320 x 17802 px, eight levels, 3,710 frames in the finest, 87 MB; two seconds."""
    return write_slide(cmu_svs, tmp_path_factory.mktemp("cmu-6x6") / "slide", 6)
