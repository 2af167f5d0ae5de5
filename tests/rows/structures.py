"""Small slides of every structure: uncompressed, in many colours, so that each pixel of a patch can be told."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from connectors.endpoints import Endpoint
from connectors.protocols import Source
from connectors.sources.dicom_files import DicomFilesSource
from connectors.sources.dicomweb import DicomWebSource
from models.domain.patch import Rows
from models.domain.plan import Plan
from models.domain.request import PatchSpec
from models.domain.slide import Reading, SlideRef
from tests.services.memory_slide import random_pixels
from worker.demo.header import LevelShape, level_dataset
from worker.pipeline import Cancellation, Limits, Part, embed_part
from worker.stages.plan import plan_patches

Pixels = NDArray[np.uint8]

TILE_PX, WIDTH_PX, HEIGHT_PX = 32, 150, 100  # 5 x 4 tiles, those at the right and bottom edge not full
COLUMNS, TILES = 5, 20
MAGENTA = (255, 0, 255)  # what lies in a tile beyond the matrix; in no picture
PATCH_PX, STRIDE_PX = 24, 17
Open = Callable[["Structure", Reading], Source]


def picture(seed: int, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Pixels:
    """Return an RGB picture in which no two places look the same, and nothing is magenta, white or black."""
    return random_pixels(width_px, height_px, seed) // 2 + np.uint8(60)


def tiles_of(pixels: Pixels) -> list[Pixels]:
    """Cut a picture into tiles, row by row; what lies beyond it is magenta."""
    height, width = pixels.shape[:2]
    canvas = np.full((-(-height // TILE_PX) * TILE_PX, -(-width // TILE_PX) * TILE_PX, 3), MAGENTA, np.uint8)
    canvas[:height, :width] = pixels
    down, across = canvas.shape[0] // TILE_PX, canvas.shape[1] // TILE_PX
    return list(
        canvas.reshape(down, TILE_PX, across, TILE_PX, 3).swapaxes(1, 2).reshape(-1, TILE_PX, TILE_PX, 3).copy()
    )


def painted(pixels: Pixels, tiles: Sequence[int], color: Sequence[int] = (255, 255, 255)) -> Pixels:
    """Return a picture with some of its tiles in one colour."""
    found, columns = pixels.copy(), -(-pixels.shape[1] // TILE_PX)
    for tile in tiles:
        row, column = divmod(tile, columns)
        found[row * TILE_PX : (row + 1) * TILE_PX, column * TILE_PX : (column + 1) * TILE_PX] = color
    return found


@dataclass(frozen=True)
class Structure:
    """A slide in DICOM files of one series.

    Parameters
    ----------
    folder : Path
    study_uid, series_uid : str
    """

    folder: Path
    study_uid: str
    series_uid: str

    @classmethod
    def write(cls, folder: Path, *instances: FileDataset) -> "Structure":
        """Write instances into `folder` as one new series."""
        folder.mkdir(parents=True, exist_ok=True)
        study, series = generate_uid(), generate_uid()
        for place, instance in enumerate(instances):
            instance.StudyInstanceUID, instance.SeriesInstanceUID = study, series
            instance.save_as(folder / f"{place}.dcm", enforce_file_format=True)
        return cls(folder, study, series)


def level(
    pixels: Pixels, frames: Sequence[Pixels] | None = None, *, spacing_um: float = 0.5, uid: str = ""
) -> FileDataset:
    """Return a TILED_FULL level of a picture as a new instance; `frames` if they are not simply its tiles."""
    held = tiles_of(pixels) if frames is None else list(frames)
    shape = LevelShape(pixels.shape[1], pixels.shape[0], spacing_um)
    dataset = level_dataset("row", 0, shape, frame_px=TILE_PX, frames=len(held))
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid or generate_uid()
    dataset.PhotometricInterpretation, dataset.LossyImageCompression = "RGB", "00"
    del dataset.LossyImageCompressionMethod
    set_frames(dataset, held)
    return dataset


def set_frames(dataset: Dataset, frames: Sequence[Pixels]) -> None:
    """Give an instance uncompressed pixels and their number."""
    data = b"".join(frame.tobytes() for frame in frames)
    dataset.NumberOfFrames = len(frames)
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"


def place_frames(dataset: Dataset, places: Sequence[tuple[int, str, float]], columns: int = COLUMNS) -> None:
    """Let each frame say itself where it lies: tile, optical path, and height in micrometres."""
    groups = []
    for tile, path, height_um in places:
        row, column = divmod(tile, columns)
        position, identification, group = Dataset(), Dataset(), Dataset()
        position.ColumnPositionInTotalImagePixelMatrix = column * TILE_PX + 1
        position.RowPositionInTotalImagePixelMatrix = row * TILE_PX + 1
        position.XOffsetInSlideCoordinateSystem = position.YOffsetInSlideCoordinateSystem = "0"
        position.ZOffsetInSlideCoordinateSystem = str(height_um)
        identification.OpticalPathIdentifier = path
        group.PlanePositionSlideSequence = Items([position])
        group.OpticalPathIdentificationSequence = Items([identification])
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = Items(groups)


def sparse(pixels: Pixels, tiles: Sequence[int]) -> FileDataset:
    """Return a TILED_SPARSE level that holds some tiles of a picture, its frames in that order."""
    cut = tiles_of(pixels)
    dataset = level(pixels, [cut[tile] for tile in tiles])
    dataset.DimensionOrganizationType = "TILED_SPARSE"
    place_frames(dataset, [(tile, "1", 0.0) for tile in tiles])
    return dataset


def concatenation(pixels: Pixels, starts: Sequence[int]) -> list[FileDataset]:
    """Return a level as the parts of a concatenation that begin at these tiles."""
    cut, whole = tiles_of(pixels), generate_uid()
    stops = [*starts[1:], len(cut)]
    parts = []
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True), 1):
        part = level(pixels, cut[start:stop])
        part.ConcatenationUID, part.SOPInstanceUIDOfConcatenationSource = whole, generate_uid()
        part.InConcatenationNumber, part.InConcatenationTotalNumber = number, len(starts)
        part.ConcatenationFrameOffsetNumber = start
        parts.append(part)
    return parts


def optical_paths(dataset: Dataset, names: Mapping[str, str]) -> None:
    """Give an instance optical paths by identifier and description."""
    first = dataset.OpticalPathSequence[0]
    paths = []
    for identifier, description in names.items():
        path = deepcopy(first)
        path.OpticalPathIdentifier, path.OpticalPathDescription = identifier, description
        paths.append(path)
    dataset.OpticalPathSequence, dataset.NumberOfOpticalPaths = Items(paths), len(paths)


def open_files(slide: Structure, reading: Reading) -> DicomFilesSource:
    """Open a slide from its folder."""
    return DicomFilesSource(SlideRef("dicom-files", str(slide.folder), reading=reading))


def open_pacs(url: str, slide: Structure, reading: Reading) -> DicomWebSource:
    """Open a slide in a DICOMweb server."""
    ref = SlideRef("dicomweb", url, "", slide.study_uid, slide.series_uid, reading=reading)
    return DicomWebSource(ref, Endpoint(url, frames_per_request=7))


class _Kept:
    """An encoder that keeps what it is fed."""

    def __init__(self) -> None:
        self.fed: list[Pixels] = []

    def encode(self, pixels: Pixels) -> Rows:
        """Keep a copy; return one number a patch."""
        self.fed.extend(pixels.copy())
        return Rows(np.zeros((len(pixels), 1), np.float32))


@dataclass(frozen=True)
class Read:
    """What was read of a slide.

    Parameters
    ----------
    plan : Plan
    patches : list of uint8 arrays
        One for each box of the plan; of a hole, whatever lay there.
    holes : bool array, shape (N,)
    """

    plan: Plan
    patches: list[Pixels]
    holes: NDArray[np.bool_]

    @property
    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Where the patches lie."""
        return [(x, y, width, height) for x, y, width, height in self.plan.grid.boxes.tolist()]

    def assert_shows(self, pixels: Pixels) -> None:
        """Every patch that is no hole is what the picture has at its place."""
        assert (~self.holes).any()
        for (x, y, width, height), patch, hole in zip(self.boxes, self.patches, self.holes, strict=True):
            assert hole or np.array_equal(patch, pixels[y : y + height, x : x + width]), (x, y)


def read(source: Source, spec: PatchSpec | None = None) -> Read:
    """Read all patches of a slide, by default of its own pixels, and close it."""
    try:
        wanted = spec or PatchSpec(PATCH_PX, STRIDE_PX, spacing_um=None, tissue_fraction=None)
        plan = plan_patches(source.slide, wanted, None, 8)
        kept = _Kept()
        batches = embed_part(source, plan, Part(0, len(plan.grid)), (kept, 1), Limits(), Cancellation())
        counted, patches, holes = 0, list[Pixels](), list[bool]()
        for batch in batches:
            lost = np.isnan(batch.rows.matrix[:, 0])
            skipped = bool(lost.all())  # nothing was fed
            fed = [np.zeros((0, 0, 3), np.uint8)] * len(lost) if skipped else kept.fed[counted : counted + len(lost)]
            counted += 0 if skipped else plan.batch_size
            patches += fed
            holes += lost.tolist()
        return Read(plan, patches, np.asarray(holes, np.bool_))
    finally:
        source.close()
