"""The frames of a Segmentation's file, one in memory at a time.

pydicom decodes compressed frames. Bit-packed ones are unpacked here: where a frame does not begin on a byte pydicom
3.0 may lose its end, and where the file is cut short it fills up with zeros.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian

from connectors.dicom.pixel_data import pixel_element
from models.domain.errors import TissueFileInvalid

_BITS = (1, 8, 16)


def read_frames(path: Path, dataset: Dataset, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
    """Yield frames in the order asked.

    Parameters
    ----------
    path : Path
    dataset : Dataset
        The file's, without pixels.
    indices : sequence of int
        From 0.

    Yields
    ------
    unsigned array, shape (Rows, Columns)

    Raises
    ------
    TissueFileInvalid
        The file is cut short, or of a kind that is not read.
    Exception
        What pydicom raises on damaged frames.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    bits = int(dataset.BitsAllocated)
    if bits not in _BITS or int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise TissueFileInvalid(f"The Segmentation has pixels of {bits} bits: only 1, 8 and 16 are read.")
    if syntax in {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}:
        raise TissueFileInvalid(f"The Segmentation is stored as {syntax.name}: have it rewritten little-endian.")
    if not indices:
        return  # pydicom would yield all
    if syntax.is_encapsulated:
        yield from iter_pixels(path, indices=indices, raw=True)
    else:
        yield from _native(path, dataset, bits, indices)


def _native(path: Path, dataset: Dataset, bits: int, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    pixels = rows * columns
    with path.open("rb") as file:

        def read(at: int, length: int) -> bytes:
            file.seek(at)
            return file.read(length)

        implicit = pydicom.dcmread(file, stop_before_pixels=True).original_encoding[0]
        element = pixel_element(read, file.tell(), implicit=bool(implicit), little_endian=True)
        needed = -(-int(dataset.get("NumberOfFrames", 1)) * pixels * bits // 8)
        if element.length is None or element.length < needed or element.start + needed > path.stat().st_size:
            raise TissueFileInvalid(f"The Segmentation is cut short: its frames take {needed} bytes.")
        for index in indices:
            first = index * pixels * bits
            data = read(element.start + first // 8, -(-(first % 8 + pixels * bits) // 8))
            yield _unpacked(data, bits, first % 8, pixels).reshape(rows, columns)


def _unpacked(data: bytes, bits: int, skip: int, pixels: int) -> NDArray[Any]:
    if bits == 1:  # PS3.5 8.1.1: the first pixel in the lowest bit; frames follow without padding
        return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[skip : skip + pixels]
    return np.frombuffer(data, np.uint8 if bits == 8 else "<u2")
