"""A DICOM Segmentation over a slide (PS3.3 A.51, A.101) as a mask: what any of its segments holds is tissue."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.errors
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from connectors.dicom.attributes import items_of, number, text
from connectors.dicom.segmentation_frames import read_frames
from models.domain.errors import SourceUnreadable, TissueFileInvalid
from models.domain.slide import Level, Slide
from models.imaging.tissue import TissueMask, covers_slide

_SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
_LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
_LONGEST_PX = 4096
_MOST_SIDE_PX, _MOST_FRAMES, _MOST_TILE_PX = 1 << 21, 1 << 24, 1 << 26
_OFF_SHARE = 0.02  # of the slide's side that an origin may be off
_FRAME_OF_REFERENCE = "00200052"
_ORIGIN, _X_OFFSET, _Y_OFFSET = "00480008", "0040072A", "0040073A"
# What reading a damaged object raises, or one that pydicom has no decoder for.
_DAMAGE = (
    SourceUnreadable,
    pydicom.errors.InvalidDicomError,
    pydicom.errors.BytesLengthException,
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    EOFError,
    OSError,
    RuntimeError,
    OverflowError,
)


@dataclass(frozen=True, slots=True)
class _Matrix:
    """The total pixel matrix of a segmentation, its tiles, and how many of its pixels become one of the mask."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    factor: int

    @property
    def tiles(self) -> tuple[int, int]:
        """Columns and rows of tiles."""
        return -(-self.width // self.tile_width), -(-self.height // self.tile_height)


_Place = tuple[int, int, int]
"""Frame index, and column and row of its first pixel, all from 0."""


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM (PS3.10 7.1); one that cannot be read is not."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_segmentation(path: Path, slide: Slide, header: Mapping[str, Any] | None, segment: str = "") -> TissueMask:
    """Read a Segmentation as a mask of at most 4096 px.

    Parameters
    ----------
    path : Path
        A whole instance: BINARY, FRACTIONAL (half or more counts) or LABELMAP; whole, TILED_FULL or TILED_SPARSE.
    slide : Slide
        It must refer to this slide: by its Frame of Reference, or by an instance of it.
    header : DICOM JSON of the slide's level 0, or None
    segment : str
        Number or label of the one segment that is tissue; "": all of them are.

    Raises
    ------
    TissueFileInvalid
        It is no Segmentation, is damaged, is of another slide, covers only a part of it, or marks nothing.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with warnings.catch_warnings(action="ignore"):  # pydicom's: they print values and paths
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
        if str(dataset.get("SOPClassUID", "")) not in {_SEGMENTATION, _LABEL_MAP}:
            raise TissueFileInvalid("The mask is a DICOM object, but no Segmentation.")
        _check_reference(dataset, slide, header)
        matrix = _matrix(dataset, slide.levels[0])
        _check_origin(dataset, header, slide.levels[0])
        wanted = _wanted(dataset, segment)
        mask = _mask(path, dataset, matrix, wanted)
    except _DAMAGE as exc:
        raise TissueFileInvalid(f"The Segmentation is damaged or cannot be decoded ({type(exc).__name__}).") from exc
    if not mask.any():
        raise TissueFileInvalid("The Segmentation marks nothing as tissue.")
    looked_at = f"{'one segment' if segment else 'all segments'} of a DICOM Segmentation"
    return TissueMask(mask, "mask", digest, looked_at)


def _check_reference(dataset: Dataset, slide: Slide, header: Mapping[str, Any] | None) -> None:
    if header is None:
        raise TissueFileInvalid("A DICOM Segmentation belongs to a DICOM slide: give an image as the mask.")
    same_frame = text(header, _FRAME_OF_REFERENCE) == str(dataset.get("FrameOfReferenceUID", "")) != ""
    own = {instance.uid for level in slide.levels for instance in level.instances}
    if not same_frame and not own & set(_referenced(dataset)):
        raise TissueFileInvalid(
            "The Segmentation is of another slide: it shares neither Frame of Reference nor an instance with this one."
        )


def _referenced(dataset: Dataset) -> Iterator[str]:
    """Yield the SOP Instance UIDs that a segmentation names as its source."""
    holders = [*(dataset.get("ReferencedSeriesSequence") or []), dataset]
    for holder in holders:
        for name in ("ReferencedInstanceSequence", "SourceImageSequence"):
            for item in holder.get(name) or []:
                yield str(item.get("ReferencedSOPInstanceUID", ""))


def _matrix(dataset: Dataset, finest: Level) -> _Matrix:
    tile = int(dataset.Columns), int(dataset.Rows)
    width = int(dataset.get("TotalPixelMatrixColumns") or tile[0])
    height = int(dataset.get("TotalPixelMatrixRows") or tile[1])
    sane = 0 < width <= _MOST_SIDE_PX and 0 < height <= _MOST_SIDE_PX and 0 < tile[0] * tile[1] <= _MOST_TILE_PX
    if not sane or not 0 < int(dataset.get("NumberOfFrames", 1)) <= _MOST_FRAMES:
        raise TissueFileInvalid(f"The Segmentation has no possible size: {width} x {height} px.")
    if not covers_slide((width, height), (finest.width_px, finest.height_px)):
        raise TissueFileInvalid(
            f"The Segmentation has {width} x {height} px, the slide {finest.width_px} x {finest.height_px} px at "
            "level 0: it has another aspect ratio, so it does not cover the whole slide."
        )
    return _Matrix(width, height, *tile, max(1, -(-max(width, height) // _LONGEST_PX)))


def _check_origin(dataset: Dataset, header: Mapping[str, Any] | None, finest: Level) -> None:
    """Refuse a matrix that lies elsewhere on the glass (PS3.3 C.8.12.2.1.1), if both say where they lie."""
    theirs = dataset.get("TotalPixelMatrixOriginSequence")
    ours = items_of(header or {}, _ORIGIN)
    if not theirs or not ours or finest.spacing_um is None:
        return
    sides_mm = (finest.width_px * finest.spacing_um[0] / 1000, finest.height_px * finest.spacing_um[1] / 1000)
    for tag in (_X_OFFSET, _Y_OFFSET):
        if abs(float(theirs[0][tag].value) - number(ours[0], tag)) > _OFF_SHARE * max(sides_mm):
            raise TissueFileInvalid("The Segmentation begins at another place of the glass than the slide.")


def _wanted(dataset: Dataset, segment: str) -> frozenset[int]:
    """Return the numbers of the segments that are tissue."""
    known = {int(item.SegmentNumber): str(item.get("SegmentLabel", "")) for item in dataset.SegmentSequence}
    if not segment:
        return frozenset(known)
    named = [number for number, label in known.items() if segment in {label, str(number)}]
    if not named:
        raise TissueFileInvalid(f"The Segmentation has no such segment; it has {len(known)}, numbered or by label.")
    return frozenset(named)


def _mask(path: Path, dataset: Dataset, matrix: _Matrix, wanted: frozenset[int]) -> NDArray[np.bool_]:
    """Return blocks of factor x factor pixels: tissue where half of them or more are; one frame in memory at a time."""
    kind = str(dataset.get("SegmentationType", "LABELMAP"))
    label_map = kind == "LABELMAP"
    places = list(_places(dataset, matrix, frozenset() if label_map else wanted))
    labels = np.asarray(sorted(wanted - {int(dataset.get("PixelPaddingValue", 0))}))  # PS3.3 C.8.20.2
    half = int(dataset.get("MaximumFractionalValue", 255)) / 2 if kind == "FRACTIONAL" else 0
    factor = matrix.factor
    counts = np.zeros((-(-matrix.height // factor), -(-matrix.width // factor)), np.uint32)
    frames = read_frames(path, dataset, [index for index, _, _ in places])
    for (_, left, top), frame in zip(places, frames, strict=True):
        inside = frame[: matrix.height - top, : matrix.width - left]
        tissue = np.isin(inside, labels) if label_map else (inside >= half if half else inside != 0)
        _count(counts, tissue, (left, top), factor)
    rows, columns = (np.minimum(factor, side - np.arange(0, side, factor)) for side in (matrix.height, matrix.width))
    return np.asarray(2 * counts >= np.outer(rows, columns)) & (counts > 0)


def _count(counts: NDArray[np.uint32], tissue: NDArray[np.bool_], corner: tuple[int, int], factor: int) -> None:
    """Add a tile's pixels to the blocks that they fall into."""
    place: list[slice] = []
    for axis, first in ((0, corner[1]), (1, corner[0])):
        blocks = (first + np.arange(tissue.shape[axis])) // factor
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        tissue = np.add.reduceat(tissue.astype(np.uint32), starts, axis=axis)
        place.append(slice(int(blocks[0]), int(blocks[-1]) + 1))
    counts[place[0], place[1]] += tissue.astype(np.uint32)


def _places(dataset: Dataset, matrix: _Matrix, wanted: frozenset[int]) -> Iterator[_Place]:
    """Yield where the wanted frames lie; `wanted` empty: all of them (a label map's frames hold every segment)."""
    count = int(dataset.get("NumberOfFrames", 1))
    if dataset.get("DimensionOrganizationType") == "TILED_FULL" or "PerFrameFunctionalGroupsSequence" not in dataset:
        yield from _full(dataset, matrix, wanted, count)
        return
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != count:
        raise TissueFileInvalid(f"The Segmentation describes {len(groups)} of its {count} frames.")
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for index, group in enumerate(groups):
        if wanted and _segment_of(group, shared[0]) not in wanted:
            continue
        position = (group.get("PlanePositionSlideSequence") or shared[0].get("PlanePositionSlideSequence") or [None])[0]
        alone = matrix.tiles == (1, 1) and position is None
        left = 0 if alone else int(position.ColumnPositionInTotalImagePixelMatrix) - 1
        top = 0 if alone else int(position.RowPositionInTotalImagePixelMatrix) - 1
        if not (0 <= left < matrix.width and 0 <= top < matrix.height):
            raise TissueFileInvalid(f"Frame {index + 1} of the Segmentation lies outside its matrix.")
        yield index, left, top


def _segment_of(group: Dataset, shared: Dataset) -> int:
    items = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    if not items:
        raise TissueFileInvalid("A frame of the Segmentation does not say which segment it shows.")
    return int(items[0].ReferencedSegmentNumber)


def _full(dataset: Dataset, matrix: _Matrix, wanted: frozenset[int], count: int) -> Iterator[_Place]:
    """Yield the places of TILED_FULL frames: row by row, segment after segment (PS3.3 C.7.6.17.3)."""
    columns, rows = matrix.tiles
    numbers = [int(item.SegmentNumber) for item in dataset.SegmentSequence] if wanted else [0]
    if count != columns * rows * len(numbers):
        raise TissueFileInvalid(f"The Segmentation has {count} of {columns * rows * len(numbers)} frames.")
    for position, segment in enumerate(numbers):
        if wanted and segment not in wanted:
            continue
        for tile in range(columns * rows):
            row, column = divmod(tile, columns)
            yield position * columns * rows + tile, column * matrix.tile_width, row * matrix.tile_height
