"""Maps of real slides: in a folder and in a PACS, and the similarity of all patches to one, from either."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from connectors.tables.parquet import matrix_of
from models.imaging.principal import principal_components
from models.imaging.similarity import cosine_similarity
from tests.services.command import Said, Slidewire
from tests.services.hostile import hostile_server
from tests.services.pacs import SlideInPacs, assert_valid, fetch_instance, renamed
from tests.services.slides import SlideOnDisk

_ASK = ("--encoder", "pixel-grid")
_SHAPE = (13, 9)  # of 2967 x 2220 px in steps of 224 px


def _planes(dataset: pydicom.Dataset) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Return the planes of a map by their labels."""
    pixels = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(-1, dataset.Rows, dataset.Columns)
    groups = dataset.PerFrameFunctionalGroupsSequence
    return {group.RealWorldValueMappingSequence[0].LUTLabel: plane for group, plane in zip(groups, pixels, strict=True)}


def _embedded(done: Said) -> np.ndarray:  # type: ignore[type-arg]
    return matrix_of(Path(done.output("parquet")["uri"]).read_bytes())


def test_a_map_in_the_archive(slidewire: Slidewire, pacs_slide: SlideInPacs, tmp_path: Path) -> None:
    """It is stored beside the slide as it was sent, valid, with every value; asked for again, it is left alone."""
    done = slidewire.done("embed", pacs_slide.url, *_ASK, "--out", "out", "--write-back", "--maps")
    url = done.output("map")["uri"]
    assert pacs_slide.found("OT") == [url.split("/")[-3]]
    stored = tmp_path / "stored.dcm"
    stored.write_bytes(fetch_instance(pacs_slide.orthanc, url))
    assert_valid(stored)
    planes = _planes(pacs_slide.instance(url))
    assert list(planes) == ["PC1", "PC2", "PC3", "DISTANCE", "TISSUE"]
    assert {plane.shape for plane in planes.values()} == {_SHAPE}
    components = principal_components(_embedded(done)).values
    there = np.isfinite(planes["PC1"])
    assert there.sum() == done.json["patches"] == len(components)
    assert np.allclose(planes["PC1"][there], components[:, 0], atol=np.abs(components).max() * 1e-4)
    assert (planes["TISSUE"][there] >= 0.1).all()
    assert (planes["TISSUE"][~there] < 0.1).all()
    assert slidewire.done("embed", pacs_slide.url, *_ASK, "--out", "out", "--write-back", "--maps").json == done.json


def test_the_overview_is_read_once(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """A map and a picture of one job cost no more frames than the picture alone."""
    asked = []
    for number, more in enumerate(((), ("--dicom", "--maps"))):
        with hostile_server(lambda _: None, pacs_slide.orthanc.dicomweb) as server:
            slidewire.environment["SLIDEWIRE_ENDPOINTS__PACS__URL"] = server.url
            slidewire.done("embed", pacs_slide.source, *_ASK, "--out", f"out{number}", "--picture", *more)
            asked.append(sorted(one.path for one in server.asked if "/frames/" in one.path))
    assert asked[0] == asked[1] != []


def test_patches_by_hand_make_no_map(slidewire: Slidewire, cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """The job succeeds without a map, and its report says why."""
    chosen = tmp_path / "coordinates.csv"
    chosen.write_text("x,y\n10,20\n300,77\n")
    ask = ("embed", cmu_slide.folder, *_ASK, "--native", "--coordinates", chosen)
    done = slidewire.done(*ask, "--out", "out", "--dicom", "--maps")
    assert sorted(output["kind"] for output in done.json["outputs"]) == ["annotations", "parquet", "report"]
    assert b"there is no map: the patches lie on no grid" in Path(done.output("report")["uri"]).read_bytes()


def test_similarity_from_the_table(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """A picture and a map in the folder of the table; the map holds the cosines, 1 at the patch under the point."""
    done = slidewire.done("embed", cmu_slide.folder, *_ASK, "--out", "out")
    said = slidewire.done("similarity", done.json["job"][:12], "--at", "1300,1250", "--dicom")
    assert said.json["job"] == done.json["job"]
    picture, file = (Path(said.output(kind)["uri"]) for kind in ("picture", "map"))
    assert picture.parent == file.parent == Path(done.output("parquet")["uri"]).parent
    assert picture.name.endswith(".similarity-1120-1120.png")
    Image.open(picture).load()
    assert_valid(file)
    plane = _planes(pydicom.dcmread(file))["SIMILARITY"]
    assert plane.shape == _SHAPE
    assert plane[1120 // 224, 1120 // 224] == 1
    expected = cosine_similarity(_embedded(done), said.json["row"])
    assert np.allclose(plane[np.isfinite(plane)], expected)
    before = picture.read_bytes(), file.read_bytes()
    slidewire.done("similarity", done.json["job"], "--at", "1121,1121", "--dicom", "--out", "elsewhere")
    again = tuple((slidewire.folder / "elsewhere" / path.name).read_bytes() for path in (picture, file))
    assert again == before


def test_similarity_from_the_archive(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """A job without a table is read back from its annotations; the map joins the study, once."""
    slidewire.environment |= pacs_slide.endpoint
    job = slidewire.done("embed", pacs_slide.source, *_ASK, "--write-back").json["job"]
    ask = ("similarity", job, "--at", "1300,1250", "--out", "heat", "--write-back")
    first = slidewire.done(*ask)
    count = len(pacs_slide.instances())
    assert slidewire.done(*ask).json == first.json
    assert len(pacs_slide.instances()) == count
    plane = _planes(pacs_slide.instance(first.output("map")["uri"]))["SIMILARITY"]
    assert plane[1120 // 224, 1120 // 224] == 1
    assert len(list((slidewire.folder / "heat").glob("*.png"))) == 1


@pytest.mark.parametrize("at", ["5", "a,b", "1,2,3", "-1,5", "1.5,2"])
def test_no_point(slidewire: Slidewire, at: str) -> None:
    """What is no pixel is refused before anything is looked for."""
    assert "--at" in slidewire.failed("REQUEST_INVALID", "similarity", "0" * 32, f"--at={at}").json["error"]["message"]


def test_similarity_that_cannot_be(slidewire: Slidewire, cmu_slide: SlideOnDisk, tmp_path: Path) -> None:
    """No job or one that goes on, no patch there, a slide in no PACS, a table that is changed or gone, a slide gone."""
    slidewire.failed("JOB_NOT_FOUND", "similarity", "0" * 32, "--at", "1,1")
    folder = renamed(cmu_slide, tmp_path / "slide").folder
    waiting = slidewire.done("submit", folder, *_ASK, "--out", "later").json["job"]
    assert (
        "queued" in slidewire.failed("REQUEST_INVALID", "similarity", waiting, "--at", "1,1").json["error"]["message"]
    )
    done = slidewire.done("embed", folder, *_ASK, "--out", "out")
    ask = ("similarity", done.json["job"], "--at")
    said = slidewire.failed("REQUEST_INVALID", *ask, "9000,9000").json["error"]["message"]
    x, y = said.rpartition("centre at ")[2].rstrip(".").split(",")
    slidewire.done(*ask, f"{x},{y}")
    slidewire.failed("REQUEST_INVALID", *ask, f"{x},{y}", "--write-back")
    table = Path(done.output("parquet")["uri"])
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    slidewire.failed("RESULT_CORRUPT", *ask, f"{x},{y}")
    table.unlink()
    slidewire.failed("RESULT_NOT_FOUND", *ask, f"{x},{y}")
    table.write_bytes(whole)
    shutil.rmtree(folder)
    slidewire.failed("NOT_A_SLIDE", *ask, f"{x},{y}")
