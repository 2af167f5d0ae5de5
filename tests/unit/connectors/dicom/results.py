"""Results to build DICOM objects from: the header of a slide, rich and poor, and seeded embeddings."""

import subprocess
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, VLWholeSlideMicroscopyImageStorage

from connectors.dicom.result.annotations import annotate
from connectors.protocols import Result
from models.domain.embedding import Embeddings, Output, Provenance, ResultKey

STUDY_UID = "1.2.826.0.1.3680043.9.7433.3.1"
SERIES_UID = "1.2.826.0.1.3680043.9.7433.3.2"
INSTANCE_UID = "1.2.826.0.1.3680043.9.7433.3.3"
FRAME_OF_REFERENCE_UID = "1.2.826.0.1.3680043.9.7433.3.4"
SPECIMEN_UID = "1.2.826.0.1.3680043.9.7433.3.5"


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a code sequence."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def slide() -> Dataset:
    """Return level 1 of a slide as a scanner writes it, without pixels."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = VLWholeSlideMicroscopyImageStorage
    dataset.SOPInstanceUID = UID(INSTANCE_UID)
    dataset.StudyInstanceUID = UID(STUDY_UID)
    dataset.SeriesInstanceUID = UID(SERIES_UID)
    dataset.FrameOfReferenceUID = UID(FRAME_OF_REFERENCE_UID)
    dataset.PositionReferenceIndicator = "SLIDE_CORNER"
    dataset.Modality = "SM"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "RESAMPLED"]
    dataset.PatientName = "Müller^Jürgen=山田^太郎"
    dataset.PatientID = "P-0042"
    dataset.PatientBirthDate = "19560304"
    dataset.PatientSex = "O"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Basic profile"
    dataset.StudyDate = "20260110"
    dataset.StudyTime = "081500"
    dataset.StudyID = "S1"
    dataset.AccessionNumber = "A1"
    dataset.ReferringPhysicianName = "Curie^Marie"
    dataset.PatientAge = "069Y"
    dataset.AcquisitionDateTime = "20260111101112.5+0100"
    dataset.ContentDate = "20260112"
    dataset.ContentTime = "120000"
    dataset.Manufacturer = "Scanner Works"
    dataset.ManufacturerModelName = "S-360"
    dataset.DeviceSerialNumber = "77"
    dataset.SoftwareVersions = ["1.0", "fw 3"]
    dataset.TotalPixelMatrixColumns = 50000
    dataset.TotalPixelMatrixRows = 40000
    dataset.Rows = dataset.Columns = 256
    dataset.NumberOfFrames = 30772
    add_specimen(dataset)
    path = Dataset()
    path.OpticalPathIdentifier = "1"
    path.IlluminationColorCodeSequence = [code("414298005", "SCT", "Full Spectrum")]
    path.IlluminationTypeCodeSequence = [code("111744", "DCM", "Brightfield illumination")]
    path.ICCProfile = b"\x00\x01"
    dataset.OpticalPathSequence = [path]
    return dataset


def add_specimen(dataset: Dataset) -> None:
    """Add container and specimen (PS3.3 C.7.6.22)."""
    dataset.ContainerIdentifier = "S26-17-A-1"
    dataset.IssuerOfTheContainerIdentifierSequence = []
    dataset.ContainerTypeCodeSequence = [code("433466003", "SCT", "Microscope slide")]
    specimen = Dataset()
    specimen.SpecimenIdentifier = "S26-17-A"
    specimen.SpecimenUID = UID(SPECIMEN_UID)
    specimen.IssuerOfTheSpecimenIdentifierSequence = []
    stained = Dataset()
    stained.ValueType = "CODE"
    stained.ConceptNameCodeSequence = [code("424361007", "SCT", "Using substance")]
    stained.ConceptCodeSequence = [code("12710003", "SCT", "hematoxylin stain")]
    step = Dataset()
    step.SpecimenPreparationStepContentItemSequence = [stained]
    specimen.SpecimenPreparationSequence = [step]
    dataset.SpecimenDescriptionSequence = [specimen]


def rich_header() -> dict[str, Any]:
    """Return the slide as DICOM JSON."""
    header: dict[str, Any] = slide().to_json_dict()
    return header


def poor_header() -> dict[str, Any]:
    """Return a header with the four UIDs and nothing else that a result could use."""
    return {
        "00080016": {"vr": "UI", "Value": [str(VLWholeSlideMicroscopyImageStorage)]},
        "00080018": {"vr": "UI", "Value": [INSTANCE_UID]},
        "0020000D": {"vr": "UI", "Value": [STUDY_UID]},
        "0020000E": {"vr": "UI", "Value": [SERIES_UID]},
        "00480007": {"vr": "UL", "Value": [40000]},
    }


def make_result(
    count: int, dimension: int, header: dict[str, Any] | None, notes: tuple[str, ...] = ("No ICC profile.",)
) -> Result:
    """Return a result of `count` patches, read from level 1 of a slide whose level 0 is four times as fine."""
    random = np.random.default_rng(7)
    matrix = random.standard_normal((count, dimension)).astype(np.float32)
    corners = np.stack([np.arange(count) % 20, np.arange(count) // 20], axis=1) * 224
    boxes = np.hstack([corners, np.full((count, 2), 224)]).astype(np.int32)
    pixels = boxes[:, :2] * np.array([4.0, 200001 / 50000])
    key = ResultKey.of({"slide": SERIES_UID, "dimension": dimension})
    provenance = Provenance(
        result_key=key.sha256,
        slidewire="0.1.0",
        encoder="efficientnet-lite0",
        encoder_revision="r1",
        encoder_licence="Apache-2.0",
        encoder_source="https://example.org/lite0",
        weights_sha256="ab" * 32,
        preprocessing="(x - 127) / 128, 224 px",
        dimension=dimension,
        patch_px=224,
        stride_px=224,
        patches=count,
        spacing_um=(1.0 / 3, 0.499),
        requested_spacing_um=0.5,
        level=1,
        level_scale=(4.0, 200001 / 50000),
        level_0_spacing_um=(0.12475, 0.125),
        tissue_fraction=0.1,
        grid_patches=count + 5,
        notes=notes,
    )
    embeddings = Embeddings(matrix, boxes, pixels, pixels * np.array([0.12475, 0.125]))
    return Result(key, "slide-lite0", embeddings, provenance, header)


def placed_header() -> dict[str, Any]:
    """Return the rich header with what a map needs besides: where the image lies on the glass."""
    offsets = {"0040072A": {"vr": "DS", "Value": [10.0]}, "0040073A": {"vr": "DS", "Value": [20.0]}}
    measures = {"00280030": {"vr": "DS", "Value": [0.0005, 0.0005]}, "00180050": {"vr": "DS", "Value": [0.004]}}
    shared = {"00289110": {"vr": "SQ", "Value": [measures]}}
    return rich_header() | {
        "00480006": {"vr": "UL", "Value": [20 * 224]},
        "00480007": {"vr": "UL", "Value": [10 * 224]},
        "00480008": {"vr": "SQ", "Value": [offsets]},
        "00480102": {"vr": "DS", "Value": [0, -1, 0, -1, 0, 0]},
        "52009229": {"vr": "SQ", "Value": [shared]},
    }


def full_result(header: dict[str, Any]) -> Result:
    """Return a result that all kinds of object are made of."""
    result = make_result(30, 4, header)
    table = Output("parquet", "gs://bucket/slide.parquet", "ab" * 32)
    return replace(result, step_px=(224.0, 224.0), tissue=np.ones((20, 40), bool), written=(table,))


def annotation_files(result: Result) -> list[bytes]:
    """Return the files of a result's annotations, one a part."""
    whole = replace(result, embeddings=result.embeddings.whole())
    holes = result.embeddings.boxes[result.embeddings.holes]
    return [b"".join(made.chunks()) for made in annotate(whole, holes)]


def annotations(result: Result) -> Dataset:
    """Return the annotations of a small result, as they are read from their file."""
    [data] = annotation_files(result)
    return pydicom.dcmread(BytesIO(data))


def dciodvfy(data: bytes, folder: Path) -> list[str]:
    """Return what David Clunie's validator says about a file, line by line."""
    path = folder / "object.dcm"
    path.write_bytes(data)
    tool = Path(sys.executable).with_name("dciodvfy")
    done = subprocess.run([tool, path], capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()
