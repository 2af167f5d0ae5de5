"""``slidewire report``: a page for every job, whatever its state and whatever is left of it."""

from pathlib import Path

import pytest

from tests.services.command import Slidewire
from tests.services.gcs import GcsServer
from tests.services.pacs import SlideInPacs, renamed
from tests.services.slides import SlideOnDisk

_GRID = ("--encoder", "pixel-grid", "--stride-px", "500")


@pytest.fixture
def own_slide(cmu_slide: SlideOnDisk, tmp_path: Path) -> SlideOnDisk:
    """Give a slide that may be moved away."""
    return renamed(cmu_slide, tmp_path / "own-slide")


def _page(said: dict[str, object]) -> str:
    return Path(str(said["page"])).read_text(encoding="utf-8")


def _names(said: dict[str, object]) -> set[str]:
    """Return the names of the pictures, all of which are there."""
    _, *pictures = [Path(file["uri"]) for file in said["files"]]  # type: ignore[attr-defined]
    assert all(picture.is_file() for picture in pictures)
    return {picture.stem for picture in pictures}


def test_a_job_that_succeeded(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Its page lies beside the table with a PNG for each figure; nothing of the slide's header is in it."""
    slidewire.failed("JOB_NOT_FOUND", "report")
    job = slidewire.done("embed", cmu_slide.folder, *_GRID, "--out", "out")
    said = slidewire.done("report", job.json["job"][:8]).json
    table = Path(job.output("parquet")["uri"])
    assert Path(said["page"]) == table.with_suffix(".report") / "report.html"
    pictures = {"slide", "map", "clusters", "scatter", "norms", "stain", "focus", "examples", "timeline"}
    assert _names(said) == pictures
    page = _page(said)
    header = cmu_slide.header
    private = (header.PatientName, header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID)
    assert not any(str(value) in page for value in private if str(value))
    assert job.output("parquet")["sha256"] in page


def test_a_job_that_failed(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Its page says what failed and how far it got, and shows the slide."""
    (slidewire.folder / "blocked").touch()
    slidewire.done("submit", cmu_slide.folder, *_GRID, "--out", "blocked/a")
    assert slidewire("worker", "--drain").rc == 0
    said = slidewire.done("report").json  # the newest job
    assert Path(said["page"]).is_relative_to(slidewire.folder / "slidewire-report")
    page = _page(said)
    assert "OUTPUT_UNWRITABLE" in page
    assert "The job has left no embeddings yet" in page
    assert _names(said) == {"slide", "stain", "focus", "timeline"}


@pytest.mark.faults
def test_what_is_gone(slidewire: Slidewire, own_slide: SlideOnDisk, cmu_slide: SlideOnDisk) -> None:
    """What is not what the job wrote or read, or is gone, is not shown, neither table nor slide; the page says why."""
    job = slidewire.done("embed", own_slide.folder, *_GRID, "--out", "out")
    table = Path(job.output("parquet")["uri"])
    content = table.read_bytes()
    own_slide.folder.rename(own_slide.folder.with_name("elsewhere"))
    said = slidewire.done("report", job.json["job"]).json
    assert _names(said) == {"map", "clusters", "scatter", "norms", "timeline"}
    assert "Nothing is shown of the slide itself" in _page(said)
    table.write_bytes(content[:-1] + b"x")
    said = slidewire.done("report", job.json["job"]).json
    assert _names(said) == {"timeline"}
    assert "not the one that it wrote" in _page(said)
    table.unlink()
    renamed(cmu_slide, own_slide.folder)
    said = slidewire.done("report", job.json["job"]).json
    assert _names(said) == {"timeline"}
    assert "cannot be read (FileNotFoundError)" in _page(said)
    assert "The slide has changed since it was submitted" in _page(said)


@pytest.mark.faults
def test_a_job_that_waits(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Nobody has come yet: the page says so. It goes where --out says, or the error is told by its code."""
    slidewire.failed("JOB_NOT_FOUND", "report", "ffff")
    job = slidewire.done("submit", cmu_slide.folder, *_GRID, "--out", "out").json["job"]
    said = slidewire("report", job, "--out", "here")
    assert said.rc == 0
    page = Path(said.stdout.splitlines()[0])
    assert page.parent == slidewire.folder / "here"
    assert "none has come yet" in page.read_text(encoding="utf-8")
    (slidewire.folder / "file").touch()
    slidewire.failed("OUTPUT_UNWRITABLE", "report", job, "--out", "file/x")


@pytest.mark.faults
def test_without_a_table_from_the_pacs(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Embeddings that went into the PACS alone are read back from there; the slide's name is all it says of them."""
    job = slidewire.done("embed", pacs_slide.url, *_GRID, "--write-back").json
    said = slidewire.done("report", job["job"]).json
    assert {"map", "scatter", "examples"} <= _names(said)
    page = _page(said)
    assert "in the PACS" in page
    stored = [uid for output in job["outputs"] for uid in (output["series_uid"], output["instance_uid"])]
    assert not any(part in page for part in (pacs_slide.slide.study_uid, "127.0.0.1", *stored))


@pytest.mark.faults
def test_into_a_bucket(slidewire: Slidewire, cmu_slide: SlideOnDisk, gcs: GcsServer) -> None:
    """A table in a bucket is read from there, and the page goes beside it."""
    gcs.create_bucket("reports")
    job = slidewire.done("embed", cmu_slide.folder, *_GRID, "--out", "gs://reports/run").json["job"]
    said = slidewire.done("report", job).json
    assert said["page"].startswith("gs://reports/run/")
    page = gcs.download("reports", said["page"].removeprefix("gs://reports/")).decode()
    assert "What it left" in page
    assert "map" in {Path(file["uri"]).stem for file in said["files"]}
