"""The header of a VL Whole Slide Microscopy image of a made-up patient (PS3.3 A.32.8), without its pixels."""

from dataclasses import dataclass
from functools import cache
from typing import Final
from uuid import UUID, uuid5

from PIL import ImageCms
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage
from pydicom.valuerep import format_number_as_ds

_NAMESPACE: Final = UUID("5b0a7a0e-6f0c-5d1e-8f57-3c8f1a2b4d6e")  # of demonstration slides; never changes
_DATE: Final = "20260105"
_TIME: Final = "120000"


@dataclass(frozen=True, slots=True)
class LevelShape:
    """Size of a level: its total pixel matrix, and micrometres per pixel in x and y."""

    width_px: int
    height_px: int
    spacing_um: float


def level_dataset(seed: str, number: int, shape: LevelShape, *, frame_px: int, frames: int) -> FileDataset:
    """Return all of a level but its pixels.

    Parameters
    ----------
    seed : str
        Names the slide; all UIDs follow from it.
    number : int
        Index of the level, 0 the finest.
    shape : LevelShape
    frame_px : int
        Side of a tile.
    frames : int
        Tiles of the level.

    Returns
    -------
    FileDataset
        With its file meta information, for baseline JPEG.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(seed, f"level/{number}")
    meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _add_patient_and_series(dataset, seed)
    _add_specimen(dataset, seed)
    _add_image(dataset, number, frame_px=frame_px, frames=frames)
    _add_geometry(dataset, seed, shape)
    _add_optical_path(dataset)
    return dataset


def _add_patient_and_series(dataset: Dataset, seed: str) -> None:
    dataset.PatientName = "Sample^Slidewire"
    dataset.PatientID = "SLIDEWIRE-DEMO"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = _uid(seed, "study")
    dataset.StudyID = "1"
    dataset.StudyDate = dataset.ContentDate = dataset.SeriesDate = _DATE
    dataset.StudyTime = dataset.ContentTime = dataset.SeriesTime = _TIME
    dataset.AcquisitionDateTime = _DATE + _TIME
    dataset.AccessionNumber = f"DEMO-{seed[:8].upper()}"
    dataset.ReferringPhysicianName = ""
    dataset.Modality = "SM"
    dataset.SeriesInstanceUID = _uid(seed, "series")
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = "Sample slide"
    dataset.FrameOfReferenceUID = _uid(seed, "frame-of-reference")
    dataset.PositionReferenceIndicator = "SLIDE_CORNER"
    dataset.Manufacturer = "Slidewire"
    dataset.ManufacturerModelName = "Sample slide writer"
    dataset.DeviceSerialNumber = "0"
    dataset.SoftwareVersions = "1"
    dataset.BurnedInAnnotation = "NO"
    dataset.AcquisitionContextSequence = Sequence()


def _add_specimen(dataset: Dataset, seed: str) -> None:
    specimen = Dataset()
    specimen.SpecimenIdentifier = f"DEMO-{seed[:8].upper()}-1"
    specimen.SpecimenUID = _uid(seed, "specimen")
    specimen.IssuerOfTheSpecimenIdentifierSequence = Sequence()
    specimen.SpecimenPreparationSequence = Sequence()
    specimen.SpecimenShortDescription = "H&E section"
    dataset.ContainerIdentifier = specimen.SpecimenIdentifier
    dataset.IssuerOfTheContainerIdentifierSequence = Sequence()
    dataset.ContainerTypeCodeSequence = _code("433466003", "SCT", "Microscope slide")
    dataset.SpecimenDescriptionSequence = Sequence([specimen])


def _add_image(dataset: Dataset, number: int, *, frame_px: int, frames: int) -> None:
    kind = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"] if number == 0 else ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
    dataset.ImageType = kind
    dataset.InstanceNumber = number + 1
    dataset.VolumetricProperties = "VOLUME"
    dataset.SpecimenLabelInImage = "NO"
    dataset.FocusMethod = "AUTO"
    dataset.ExtendedDepthOfField = "NO"
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PlanarConfiguration = 0
    dataset.Rows = dataset.Columns = frame_px
    dataset.NumberOfFrames = frames
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "01"
    dataset.LossyImageCompressionMethod = "ISO_10918_1"


def _add_geometry(dataset: Dataset, seed: str, shape: LevelShape) -> None:
    spacing_mm = shape.spacing_um / 1000
    measures = Dataset()
    measures.PixelSpacing = [format_number_as_ds(spacing_mm)] * 2
    measures.SliceThickness = "0.001"
    frame_type = Dataset()
    frame_type.FrameType = dataset.ImageType
    identification = Dataset()
    identification.OpticalPathIdentifier = "1"
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.WholeSlideMicroscopyImageFrameTypeSequence = Sequence([frame_type])
    shared.OpticalPathIdentificationSequence = Sequence([identification])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    organization = Dataset()
    organization.DimensionOrganizationUID = _uid(seed, "dimensions")
    dataset.DimensionOrganizationSequence = Sequence([organization])
    dataset.DimensionOrganizationType = "TILED_FULL"
    origin = Dataset()
    # Where the slide's coordinates put the first pixel (PS3.3 C.8.12.2.1.1): all levels share one upper left corner.
    origin.XOffsetInSlideCoordinateSystem = "20.0"
    origin.YOffsetInSlideCoordinateSystem = "40.0"
    dataset.TotalPixelMatrixOriginSequence = Sequence([origin])
    dataset.ImageOrientationSlide = ["0", "-1", "0", "-1", "0", "0"]
    dataset.TotalPixelMatrixColumns = shape.width_px
    dataset.TotalPixelMatrixRows = shape.height_px
    dataset.TotalPixelMatrixFocalPlanes = 1
    dataset.ImagedVolumeWidth = shape.width_px * spacing_mm
    dataset.ImagedVolumeHeight = shape.height_px * spacing_mm
    dataset.ImagedVolumeDepth = 0.001


def _add_optical_path(dataset: Dataset) -> None:
    path = Dataset()
    path.OpticalPathIdentifier = "1"
    path.IlluminationTypeCodeSequence = _code("111744", "DCM", "Brightfield illumination")
    path.IlluminationColorCodeSequence = _code("371251000", "SCT", "White")
    path.ICCProfile = _srgb()
    path.ColorSpace = "SRGB"
    dataset.NumberOfOpticalPaths = 1
    dataset.OpticalPathSequence = Sequence([path])


@cache
def _srgb() -> bytes:
    """Return an sRGB profile; its date is set, for littleCMS writes the time of day (ICC.1 7.2.8)."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    year, month, day, hour = int(_DATE[:4]), int(_DATE[4:6]), int(_DATE[6:]), int(_TIME[:2])
    profile[24:36] = b"".join(part.to_bytes(2, "big") for part in (year, month, day, hour, 0, 0))
    return bytes(profile) + b"\0" * (len(profile) % 2)


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return Sequence([item])


def _uid(seed: str, part: str) -> str:
    return f"2.25.{uuid5(_NAMESPACE, f'{seed}/{part}').int}"
