"""Patches of a DICOM slide as EZ-WSI cuts them: pixels that owe nothing to the product."""

from collections.abc import Iterable

import numpy as np
from ez_wsi_dicomweb import dicom_slide, local_dicom_file_interface
from numpy.typing import NDArray

from tests.services.slides import SlideOnDisk


def cut(slide: SlideOnDisk, corners: Iterable[tuple[int, int]], side: int) -> NDArray[np.uint8]:
    """Return the patches of the finest level whose upper left corners (x, y) are given, (N, side, side, 3)."""
    files = local_dicom_file_interface.LocalDicomFileInterface([str(path) for path in slide.levels])
    opened = dicom_slide.LocalDicomSlide(files)
    level = opened.native_level
    return np.stack([opened.get_patch(level, x, y, side, side).image_bytes() for x, y in corners])
