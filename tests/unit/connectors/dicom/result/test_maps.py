"""The maps: valid, the same to the byte, placed where the slide lies, and read by highdicom."""

from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom.spatial import PixelToReferenceTransformer
from pydicom.dataset import Dataset

from connectors.dicom.readback.stored_objects import compare_stored
from connectors.dicom.result.derived import to_bytes
from connectors.dicom.result.maps import build_map, build_similarity, pixel_digest
from connectors.dicom.result.objects import build_objects
from connectors.protocols import Result
from models.domain.errors import ResultError, SourceError
from models.imaging.principal import principal_components
from tests.unit.connectors.dicom.placed import SIZE_PX, TILTED, on_grid, placed_header, placed_slide
from tests.unit.connectors.dicom.results import (
    FRAME_OF_REFERENCE_UID,
    INSTANCE_UID,
    SERIES_UID,
    SPECIMEN_UID,
    STUDY_UID,
    add_specimen,
    dciodvfy,
    make_result,
    poor_header,
    rich_header,
)

CELLS = [(column, row) for row in range(2, 6) for column in range(3, 12)]
CODES = ["PC1", "PC2", "PC3", "DISTANCE", "TISSUE"]
COLUMNS, ROWS = SIZE_PX[0] // 224, SIZE_PX[1] // 224


def with_tissue(result: Result) -> Result:
    """Return the result of a slide whose left half is tissue."""
    mask = np.zeros((300, 500), np.bool_)
    mask[:, :250] = True
    return replace(result, tissue=mask)


def mapped(result: Result) -> Dataset:
    """Return the map of a result as who reads its file has it."""
    dataset, _ = build_map(result)
    assert dataset is not None
    return pydicom.dcmread(BytesIO(to_bytes(dataset)))


def planes_of(dataset: Dataset) -> np.ndarray:  # type: ignore[type-arg]
    """Return the frames, by pydicom's own reading: float32, (frames, rows, columns)."""
    return np.asarray(dataset.pixel_array).reshape(-1, dataset.Rows, dataset.Columns)


def quantities(dataset: Dataset) -> list[str]:
    """Return the code of what each frame shows."""
    groups = [frame.RealWorldValueMappingSequence[0] for frame in dataset.PerFrameFunctionalGroupsSequence]
    codes = [group.QuantityDefinitionSequence[0].ConceptCodeSequence[0] for group in groups]
    assert {code.CodingSchemeDesignator for code in codes} == {"99SLIDEWIRE"}
    assert [group.LUTLabel for group in groups] == [code.CodeValue for code in codes]
    return [code.CodeValue for code in codes]


def no_specimen() -> dict[str, object]:
    """Return a slide that says where it lies, and nothing of what is on it."""
    source = placed_slide()
    for keyword in ("ContainerIdentifier", "SpecimenDescriptionSequence", "PatientName", "LossyImageCompression"):
        delattr(source, keyword)
    del source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness
    return dict(source.to_json_dict())


@pytest.mark.parametrize("header", [placed_header(), no_specimen()], ids=["rich", "poor"])
@pytest.mark.parametrize("tissue", [True, False])
def test_valid(header: dict[str, object], *, tissue: bool, tmp_path: Path) -> None:
    """No error by dciodvfy, with and without tissue, of one patch, of a similarity; no warning but of what is so."""
    results = [on_grid(CELLS, header), on_grid([(0, 0)], header)]
    files = [to_bytes(mapped(with_tissue(result) if tissue else result)) for result in results]
    files.append(to_bytes(build_similarity(results[0], 4)))
    for file in files:
        said = dciodvfy(file, tmp_path)
        assert "ParametricMap" in said
        assert not [line for line in said if line.startswith("Error")], said
        ours = ("Coding Scheme", "Laterality")  # our own codes; unknown without a specimen
        assert not [line for line in said if line.startswith("Warning") and not any(one in line for one in ours)], said


def test_the_same_to_the_byte() -> None:
    """Made again, a day later, it is the same file, and no date in it is today's."""
    one, other = (to_bytes(mapped(with_tissue(on_grid(CELLS)))) for _ in range(2))
    assert one == other
    today = f"{datetime.now():%Y%m%d}"  # noqa: DTZ005 - the clock that a mistake would read
    assert today.encode() not in one


def test_each_plane_holds_what_it_says() -> None:
    """Components, distance and tissue lie at the cells of their patches; elsewhere is NaN, and tissue everywhere."""
    result = with_tissue(on_grid(CELLS))
    dataset = mapped(result)
    assert quantities(dataset) == CODES
    planes = planes_of(dataset)
    assert planes.dtype == np.float32
    assert planes.shape == (5, ROWS, COLUMNS)
    columns, rows = np.asarray(CELLS).T
    matrix = result.embeddings.matrix
    expected = principal_components(matrix).values.T
    assert np.allclose(planes[:3, rows, columns], expected, atol=np.abs(expected).max() * 1e-4)
    distances = np.linalg.norm(matrix - matrix.mean(0), axis=1)
    assert np.allclose(planes[3, rows, columns], distances, rtol=1e-5)
    elsewhere = np.ones((ROWS, COLUMNS), bool)
    elsewhere[rows, columns] = False
    assert np.isnan(planes[:4, elsewhere]).all()
    shares = planes[4, 0]
    assert (shares[:11] == 1).all()
    assert shares[11] == pytest.approx((2500 - 2464) / 224, abs=0.05)
    assert (shares[12:] == 0).all()
    assert (planes[4] == shares).all()


def test_no_tissue_was_looked_for() -> None:
    """The plane is left out, which is noted, and the object is another one."""
    dataset, notes = build_map(on_grid(CELLS))
    assert dataset is not None
    assert quantities(dataset) == CODES[:4]
    assert len(notes) == 1
    assert "tissue" in notes[0]
    other, none = build_map(with_tissue(on_grid(CELLS)))
    assert other is not None
    assert none == ()
    assert other.SOPInstanceUID != dataset.SOPInstanceUID


def test_too_few_patches_for_three_components() -> None:
    """Components that do not exist are 0 at the patch, not noise; one patch is at its own mean."""
    planes = planes_of(mapped(on_grid([(2, 1)])))
    assert planes[:, 1, 2].tolist() == [0, 0, 0, 0]
    two = planes_of(mapped(on_grid([(2, 1), (3, 1)])))
    assert two[0, 1, 2] == -two[0, 1, 3] != 0
    assert not two[1:3, 1, 2:4].any()


def test_last_digits_do_not_make_another_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Components that differ as two processors' may are the same map; real differences show."""
    result = on_grid(CELLS)
    before = mapped(result)
    found = principal_components(result.embeddings.matrix)

    def nearly(matrix: object, count: int) -> object:
        del matrix, count
        return replace(found, values=found.values * (1 + 1e-8))

    monkeypatch.setattr("connectors.dicom.result.maps.principal_components", nearly)
    assert pixel_digest(mapped(result)) == pixel_digest(before)
    steps = planes_of(before)[0][np.isfinite(planes_of(before)[0])]
    assert len(np.unique(steps)) == len(CELLS)


@pytest.mark.parametrize("stride_px", [224, 100])
def test_it_lies_where_the_slide_lies(stride_px: int) -> None:
    """By what is written (DS has 16 characters), a patch lies at one place in slide and map, within 1e-6 mm."""
    spacing = (0.0005012345678, 0.0007523456789)
    source = placed_slide(TILTED, spacing)
    dataset = mapped(on_grid(CELLS, source.to_json_dict(), stride_px=stride_px))
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    origin = dataset.TotalPixelMatrixOriginSequence[0]
    for item in (origin, *(frame.PlanePositionSlideSequence[0] for frame in dataset.PerFrameFunctionalGroupsSequence)):
        assert item.XOffsetInSlideCoordinateSystem == origin.XOffsetInSlideCoordinateSystem
        assert item.YOffsetInSlideCoordinateSystem == origin.YOffsetInSlideCoordinateSystem
    place = [float(origin[f"{axis}OffsetInSlideCoordinateSystem"].value) for axis in "XYZ"]
    orientation = [float(part) for part in dataset.ImageOrientationSlide]
    of_map = PixelToReferenceTransformer(place, orientation, [float(part) for part in measures.PixelSpacing])
    theirs = source.TotalPixelMatrixOriginSequence[0]
    corner = [float(theirs.XOffsetInSlideCoordinateSystem), float(theirs.YOffsetInSlideCoordinateSystem), 0.0]
    of_slide = PixelToReferenceTransformer(corner, TILTED, spacing[::-1])
    cells = np.asarray(CELLS)
    first = cells * stride_px + 111  # the two middle pixels of a patch of 224: its centre is between them
    expected = (of_slide(first) + of_slide(first + 1)) / 2
    assert np.allclose(of_map(cells), expected, rtol=0, atol=1e-6)
    assert measures.SliceThickness == 0.004


def test_highdicom_reads_it() -> None:
    """As highdicom reads it, it is a Parametric Map, and its real-world values are the stored ones."""
    dataset = mapped(with_tissue(on_grid(CELLS)))
    read = hd.pm.ParametricMap.from_dataset(dataset)
    frames = read.get_frames(apply_real_world_transform=True)
    assert np.array_equal(frames, planes_of(dataset), equal_nan=True)
    single = hd.pm.ParametricMap.from_dataset(build_similarity(on_grid(CELLS), 3))
    matrix = single.get_total_pixel_matrix(apply_real_world_transform=True)
    assert matrix.shape == (ROWS, COLUMNS)
    assert np.nanmax(matrix) == 1


def test_where_it_comes_from() -> None:
    """Patient, study, specimen, frame of reference and the source image are the slide's; what was lossy stays so."""
    result = on_grid(CELLS)
    dataset = mapped(result)
    assert dataset.StudyInstanceUID == STUDY_UID
    assert dataset.FrameOfReferenceUID == FRAME_OF_REFERENCE_UID
    assert dataset.PositionReferenceIndicator == "SLIDE_CORNER"
    assert dataset.SpecimenDescriptionSequence[0].SpecimenUID == SPECIMEN_UID
    assert dataset.ContainerIdentifier == "S26-17-A-1"
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == SERIES_UID
    (derivation,) = dataset.SharedFunctionalGroupsSequence[0].DerivationImageSequence
    (image,) = derivation.SourceImageSequence
    assert image.ReferencedSOPInstanceUID == INSTANCE_UID
    assert derivation.DerivationCodeSequence[0].CodeValue == "MAPPING"
    assert result.embeddings.digest in derivation.DerivationDescription
    lossy = dataset.LossyImageCompression, float(dataset.LossyImageCompressionRatio)
    assert lossy == ("01", 23.5)
    assert dataset.SOPInstanceUID == result.key.uid("map/without-tissue")
    assert len({item.DimensionOrganizationUID for item in dataset.DimensionIndexSequence}) == 1


def test_the_similarity_to_one_patch() -> None:
    """One plane: 1 at the patch, NaN at holes and where no patch is; each patch's map is an object of its own."""
    result = on_grid(CELLS)
    result.embeddings.matrix[5] = np.nan
    one, other = build_similarity(result, 0), build_similarity(result, 1)
    assert quantities(one) == ["SIMILARITY"]
    plane = np.frombuffer(one.FloatPixelData, "<f4").reshape(ROWS, COLUMNS)
    assert plane[CELLS[0][1], CELLS[0][0]] == 1
    assert np.isnan(plane[CELLS[5][1], CELLS[5][0]])
    assert np.isfinite(plane).sum() == len(CELLS) - 1
    assert len({one.SOPInstanceUID, other.SOPInstanceUID, result.key.uid("map")}) == 3
    assert one.SeriesInstanceUID != other.SeriesInstanceUID


@pytest.mark.parametrize("header", [rich_header(), poor_header()])
def test_a_slide_that_lies_nowhere(header: dict[str, object]) -> None:
    """There is no map, and a note says why; of a similarity map it is an error."""
    result = make_result(9, 5, header)
    dataset, notes = build_map(result)
    assert dataset is None
    assert len(notes) == 1
    assert "there is no map: the slide has no" in notes[0]
    with pytest.raises(ResultError, match="the slide has no"):
        build_similarity(result, 0)


def test_no_patch_and_no_dicom() -> None:
    """Of no patch there is no map; of an image that is no DICOM the same error as of all objects."""
    dataset, notes = build_map(on_grid([]))
    assert dataset is None
    assert "no patch" in notes[0]
    with pytest.raises(SourceError):
        build_map(replace(on_grid(CELLS), header=None))


def test_among_the_objects_of_a_result() -> None:
    """The map comes after the annotations, the report refers to it or says why there is none, under another UID."""
    result = with_tissue(on_grid(CELLS))
    plain = list(build_objects(result))
    objects = list(build_objects(result, maps=True))
    assert [made.kind for made in plain] == ["annotations", "report"]
    assert [made.kind for made in objects] == ["annotations", "map", "report"]
    annotations, made, report = objects
    assert annotations.sha256 == plain[0].sha256
    assert str(made.dataset.SOPInstanceUID).encode() in b"".join(report.chunks())
    assert str(made.dataset.SOPInstanceUID).encode() not in b"".join(plain[1].chunks())
    assert report.dataset.SOPInstanceUID != plain[1].dataset.SOPInstanceUID
    without = list(build_objects(replace(result, step_px=None), maps=True))
    assert [made.kind for made in without] == ["annotations", "report"]
    assert b"there is no map" in b"".join(without[1].chunks())
    assert len({made.dataset.SOPInstanceUID for made in (plain[1], report, without[1])}) == 3


def test_other_values_under_its_uid_are_noticed() -> None:
    """The same map compares equal, one with another pixel does not, nor does something else."""
    result = with_tissue(on_grid(CELLS))
    made = next(made for made in build_objects(result, maps=True) if made.kind == "map")
    theirs = pydicom.dcmread(BytesIO(b"".join(made.chunks())))
    assert compare_stored(made.values_sha256, "map", theirs)
    pixels = bytearray(theirs.FloatPixelData)
    pixels[-1] ^= 1
    theirs.FloatPixelData = bytes(pixels)
    assert not compare_stored(made.values_sha256, "map", theirs)
    del theirs.FloatPixelData
    assert not compare_stored(made.values_sha256, "map", theirs)


def test_a_specimen_in_part() -> None:
    """What the specimen's module demands is there, if only empty, as in the other objects."""
    source = placed_slide()
    add_specimen(source)
    del source.IssuerOfTheContainerIdentifierSequence
    dataset = mapped(on_grid(CELLS, source.to_json_dict()))
    assert "IssuerOfTheContainerIdentifierSequence" in dataset
