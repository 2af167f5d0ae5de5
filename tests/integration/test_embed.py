"""`slidewire embed` on every kind of source, with every way to choose patches, into every kind of output."""

import hashlib
import json
import os
import pty
import re
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
import requests
from numpy.typing import NDArray
from PIL import Image

from models.encoders.pixel_grid import MODEL
from tests.services.command import PROGRAM, Slidewire
from tests.services.gcs import GcsServer
from tests.services.hostile import Answer, Asked, hostile_server, passed_on
from tests.services.orthanc import Orthanc
from tests.services.pacs import SlideInPacs, assert_valid, fetch_instance, load
from tests.services.slides import SlideOnDisk
from worker.demo.pyramid import write_pyramid

_GRID = ("--encoder", "pixel-grid")
_TOKEN = "canary-bearer-token-4711"


def _table(uri: str) -> tuple[dict[str, Any], Any]:
    """Return a table's provenance and the table."""
    table = pq.read_table(uri, use_threads=False)
    return json.loads(table.schema.metadata[b"slidewire"]), table


def _matrix(uri: str) -> NDArray[np.float32]:
    column = pq.read_table(uri, use_threads=False)["embedding"].combine_chunks()
    return np.asarray(column.flatten().to_numpy()).reshape(len(column), column.type.list_size)


def _expected(patches: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return what pixel-grid makes of patches."""
    return MODEL.load(None, {}).encode(np.stack(patches)).matrix


@pytest.fixture
def photo(cmu_slide: SlideOnDisk, tmp_path: Path) -> Path:
    """Write a part of the slide as PNG: 900 x 700 px, of no known spacing."""
    path = tmp_path / "photo.png"
    Image.fromarray(cmu_slide.pixels[1000:1700, 600:1500]).save(path)
    return path


@pytest.fixture
def white(tmp_path: Path) -> SlideOnDisk:
    """Write a pyramid of nothing but glass."""
    pixels = np.full((1200, 1500, 3), 255, np.uint8)
    folder = tmp_path / "white"
    return SlideOnDisk(folder, write_pyramid(pixels, 0.5, folder), pixels, 0.5, 1)


def test_pacs_and_folder_give_the_same_bytes(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """The same slide from Orthanc and from its files gives the same table, byte for byte, by the installed program."""
    pacs = slidewire.program("embed", pacs_slide.url, *_GRID, "--out", "pacs", "--json")
    assert (pacs.rc, pacs.stderr) == (0, "")
    assert set(pacs.json) == {"job", "state", "patches", "dimension", "encoder", "outputs"}
    assert (pacs.json["state"], pacs.json["dimension"], pacs.json["encoder"]) == ("succeeded", 192, "pixel-grid")
    files = slidewire.done("embed", pacs_slide.slide.folder, *_GRID, "--out", "files")
    assert files.output("parquet")["sha256"] == pacs.output("parquet")["sha256"]
    provenance, table = _table(files.output("parquet")["uri"])
    assert provenance["patches"] == len(table) == files.json["patches"]
    assert provenance["grid_patches"] == (2220 // 224) * (2967 // 224)
    assert 0 < len(table) < provenance["grid_patches"], "glass was left out"
    assert provenance["spacing_um"] == pytest.approx([0.499, 0.499], rel=1e-3)


def test_one_file_is_a_slide(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """A single .dcm gives what its level in the folder gives."""
    ask = (*_GRID, "--all-patches", "--out")
    whole = slidewire.done("embed", cmu_slide.folder, *ask, "whole").output("parquet")
    alone = slidewire.done("embed", cmu_slide.levels[0], *ask, "alone").output("parquet")
    assert np.array_equal(_matrix(whole["uri"]), _matrix(alone["uri"]))


@pytest.mark.faults
def test_efficientnet_embeds_the_slide(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """The encoder with real weights gives one finite vector of 1280 numbers a patch, and says which weights."""
    done = slidewire.program(
        "embed", cmu_slide.folder, "-e", "efficientnet-lite0", "--spacing-um", "1", "--out", "out", "--json"
    )
    assert (done.rc, done.stderr) == (0, "")
    provenance, table = _table(done.output("parquet")["uri"])
    matrix = _matrix(done.output("parquet")["uri"])
    assert matrix.shape == (len(table), 1280) == (done.json["patches"], done.json["dimension"])
    assert np.isfinite(matrix).all()
    assert matrix.std() > 0
    assert provenance["weights_sha256"].startswith("57934424")


def test_an_image_is_taken_as_it_is(slidewire: Slidewire, photo: Path) -> None:
    """A PNG has no spacing: its own pixels are used, which is recorded, and micrometres stay empty."""
    done = slidewire.done("embed", photo, *_GRID, "--all-patches", "--out", "out")
    provenance, table = _table(done.output("parquet")["uri"])
    assert len(table) == 4 * 3
    assert provenance["spacing_um"] is None
    assert any("native" in note for note in provenance["notes"])
    assert table["x_um"].null_count == len(table)
    pixels = np.asarray(Image.open(photo))
    patches = [pixels[y : y + 224, x : x + 224] for x, y in zip(*(table[c].to_pylist() for c in "xy"), strict=True)]
    assert np.array_equal(_matrix(done.output("parquet")["uri"]), _expected(patches))


def test_from_bucket_to_bucket(slidewire: Slidewire, gcs: GcsServer, photo: Path) -> None:
    """An image in Cloud Storage gives the numbers of the same file on disk, and the table goes to a bucket."""
    local = slidewire.done("embed", photo, *_GRID, "--out", "out").output("parquet")
    uri = gcs.upload("slides", "a folder/photo.png", photo.read_bytes())
    gcs.create_bucket("tables")
    remote = slidewire.done("embed", uri, *_GRID, "--out", "gs://tables/run-1").output("parquet")
    assert remote["uri"].startswith("gs://tables/run-1/photo.pixel-grid.")
    stored = gcs.download("tables", remote["uri"].removeprefix("gs://tables/"))
    assert gcs.names("tables") == [remote["uri"].removeprefix("gs://tables/")]
    assert stored == Path(local["uri"]).read_bytes()


def test_coordinates_keep_their_order(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """A list of patches comes out row for row in the order it was given, repeats and all."""
    wanted = [(1500, 2000), (3, 5), (700, 300), (3, 5), (1996, 2743), (256, 256)]
    listed = slidewire.folder / "patches.csv"
    listed.write_text("name,y,x\n" + "".join(f"p{n},{y},{x}\n" for n, (x, y) in enumerate(wanted)))
    done = slidewire.done("embed", cmu_slide.folder, *_GRID, "--coordinates", listed, "--out", "out")
    _, table = _table(done.output("parquet")["uri"])
    assert list(zip(table["x"].to_pylist(), table["y"].to_pylist(), strict=True)) == wanted
    truth = _expected([cmu_slide.patch(x, y, 224) for x, y in wanted])
    assert np.abs(_matrix(done.output("parquet")["uri"]) - truth).max() < 0.05, "JPEG changes a mean colour little"


@pytest.mark.parametrize(("asked", "level"), [("--native", 0), ("1.0", 1), ("2.0", 2)])
def test_a_spacing_near_a_level_is_that_level(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, asked: str, level: int
) -> None:
    """--native reads the finest level, 1 and 2 um/px the levels within 5 % of it, with their true spacing recorded."""
    spacing = (asked,) if asked == "--native" else ("--spacing-um", asked)
    done = slidewire.done("embed", cmu_slide.folder, *_GRID, *spacing, "--all-patches", "--out", "out")
    provenance, table = _table(done.output("parquet")["uri"])
    assert set(table["level"].to_pylist()) == {level} == {provenance["level"]}
    assert provenance["spacing_um"] == pytest.approx([0.499 * 2**level] * 2, rel=0.01)
    assert set(table["level_width"].to_pylist()) == {224}
    assert table["x"].to_pylist()[1] == pytest.approx(224 * 2**level, abs=2)
    assert table["x_um"].to_pylist()[1] == pytest.approx(224 * 0.499 * 2**level, rel=0.01)


def test_a_spacing_between_levels_is_resampled(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """0.75 um/px is averaged from the next finer level, which is recorded, and is what EZ-WSI makes of it."""
    from ez_wsi_dicomweb import dicom_slide, local_dicom_file_interface, pixel_spacing, slide_level_map

    done = slidewire.done("embed", cmu_slide.folder, *_GRID, "--spacing-um", "0.75", "--all-patches", "--out", "out")
    provenance, table = _table(done.output("parquet")["uri"])
    assert provenance["spacing_um"] == pytest.approx([0.75, 0.75], rel=1e-3)
    assert any("resampled" in note for note in provenance["notes"])
    paths = [str(level) for level in cmu_slide.levels]
    slide = dicom_slide.LocalDicomSlide(local_dicom_file_interface.LocalDicomFileInterface(paths))
    resized = slide_level_map.ResizedLevel(slide.native_level, pixel_spacing.PixelSpacing(0.00075, 0.00075))
    columns = resized.width // 224
    assert len(table) == columns * (resized.height // 224)
    chosen = [0, 3, columns + 2, len(table) - 1]
    theirs = [slide.get_patch(resized, n % columns * 224, n // columns * 224, 224, 224).image_bytes() for n in chosen]
    ours = _matrix(done.output("parquet")["uri"])[chosen]
    # Theirs is averaged over whole frames first; a cell's mean may differ by a rounding of its pixels.
    assert np.abs(ours - _expected(theirs)).max() < 1 / 255


def test_a_patch_request_of_path_foundation(
    slidewire: Slidewire, gcs: GcsServer, pacs_slide: SlideInPacs, photo: Path
) -> None:
    """Google's request JSON is queued as it is: a level by its instances, an image; a bad one does not sink them."""
    level = pacs_slide.slide.levels[1]
    uid = str(pydicom.dcmread(level, stop_before_pixels=True).SOPInstanceUID)
    corners = [{"x_origin": x, "y_origin": y, "width": 224, "height": 224} for x, y in ((500, 600), (0, 0), (100, 900))]
    uri = gcs.upload("slides", "photo.png", photo.read_bytes())
    dicom = {"series_path": pacs_slide.url, "instance_uids": [uid]}
    bad = {"series_path": f"{pacs_slide.study_url}/series/1.2.3", "instance_uids": [uid]}
    instances = [
        {"dicom_path": dicom, "bearer_token": _TOKEN, "patch_coordinates": corners},
        {"dicom_path": bad, "bearer_token": _TOKEN, "patch_coordinates": corners},
        {"image_file_uri": uri, "bearer_token": _TOKEN, "patch_coordinates": corners[1:2]},
    ]
    asked = slidewire.folder / "request.json"
    asked.write_text(json.dumps({"instances": instances}))
    said = slidewire("embed", "--request", asked, *_GRID, "--out", "out", "--json")
    assert said.rc == 1
    assert said.stderr.startswith("slidewire: SERIES_NOT_FOUND: ")
    assert said.stderr.count("\n") == 1
    first, second, third = said.json["jobs"]
    assert [job["state"] for job in (first, second, third)] == ["succeeded", "failed", "succeeded"]
    assert said.json["error"]["code"] == second["error"]["code"] == "SERIES_NOT_FOUND"

    provenance, table = _table(first["outputs"][0]["uri"])
    assert table["level_x"].to_pylist() == [500, 0, 100]
    assert table["level_y"].to_pylist() == [600, 0, 900]
    assert any("bearer token" in note for note in provenance["notes"])
    same = slidewire.folder / "same.csv"
    same.write_text("x,y\n" + "".join(f"{corner['x_origin']},{corner['y_origin']}\n" for corner in corners))
    alone = slidewire.done("embed", level, *_GRID, "--coordinates", same, "--native", "--out", "alone")
    assert np.array_equal(_matrix(first["outputs"][0]["uri"]), _matrix(alone.output("parquet")["uri"]))
    assert third["patches"] == 1

    asked.unlink()
    everything = [path for path in slidewire.folder.rglob("*") if path.is_file()]
    assert not [path for path in everything if _TOKEN.encode() in path.read_bytes()]
    assert _TOKEN not in said.stdout + said.stderr


def test_every_object_is_valid_dicom(slidewire: Slidewire, pacs_slide: SlideInPacs, tmp_path: Path) -> None:
    """No error in the files for dciodvfy, nor in what Orthanc gives back, which is what was sent, bit for bit."""
    done = slidewire.done("embed", pacs_slide.url, *_GRID, "--out", "out", "--dicom", "--write-back", "--picture")
    kinds = sorted(output["kind"] for output in done.json["outputs"])
    assert kinds == ["annotations", "annotations", "parquet", "picture", "report", "report"]
    for output in done.json["outputs"]:
        if output["kind"] in {"annotations", "report"}:
            path = Path(output["uri"])
            if output["uri"].startswith("http"):
                path = tmp_path / "stored.dcm"
                path.write_bytes(fetch_instance(pacs_slide.orthanc, output["uri"]))
            assert hashlib.sha256(path.read_bytes()).hexdigest() == output["sha256"]
            assert_valid(path)
    picture = Image.open(done.output("picture")["uri"])
    picture.load()
    width, height = picture.size
    pixels = np.asarray(picture.convert("RGB"))
    left, right = pixels[64 : height - 28, 28 : width // 2 - 14], pixels[64 : height - 28, width // 2 + 14 : width - 28]
    assert left.shape == right.shape
    assert left.std() > 5
    assert right.std() > 5
    assert not np.array_equal(left, right)


def test_a_lost_output_is_made_again(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Asked again, a job whose output is there is left alone, and one whose output is gone or changed is done again."""
    ask = ("embed", pacs_slide.url, *_GRID, "--out", "out", "--write-back")
    first = slidewire.done(*ask)
    path = Path(first.output("parquet")["uri"])
    before = path.read_bytes()
    untouched = path.stat().st_mtime_ns
    assert slidewire.done(*ask).json == first.json
    assert path.stat().st_mtime_ns == untouched
    path.write_bytes(before[:-1])
    assert slidewire.done(*ask).json == first.json
    assert path.read_bytes() == before
    path.unlink()
    assert slidewire.done(*ask).json == first.json
    assert path.read_bytes() == before
    held = pacs_slide.instances()
    uid = first.output("annotations")["instance_uid"]
    [found] = requests.post(f"{pacs_slide.orthanc.url}/tools/lookup", data=uid, timeout=30).json()
    requests.delete(f"{pacs_slide.orthanc.url}/instances/{found['ID']}", timeout=30).raise_for_status()
    assert slidewire.done(*ask).json == first.json
    assert pacs_slide.instances() == held


@pytest.mark.parametrize("kind", ["image", "pacs"])
def test_glass_gives_an_empty_table(
    slidewire: Slidewire, orthanc: Orthanc, white: SlideOnDisk, kind: str, tmp_path: Path
) -> None:
    """A slide without tissue is no error: an empty table with all its columns, a report, and no annotations."""
    if kind == "image":
        source: object = tmp_path / "white.png"
        Image.fromarray(white.pixels).save(tmp_path / "white.png")
        done = slidewire.done("embed", source, *_GRID, "--out", "out", "--picture")
    else:
        pacs = load(orthanc, white)
        done = slidewire.done("embed", pacs.url, *_GRID, "--out", "out", "--write-back")
        assert [output["kind"] for output in done.json["outputs"]] == ["parquet", "report"]
        assert (pacs.found("ANN"), len(pacs.found("SR"))) == ([], 1)
        stored = tmp_path / "report.dcm"
        stored.write_bytes(fetch_instance(orthanc, done.output("report")["uri"]))
        assert_valid(stored)
    assert (done.json["patches"], done.json["dimension"], done.json["state"]) == (0, 192, "succeeded")
    provenance, table = _table(done.output("parquet")["uri"])
    assert len(table) == 0
    assert table.schema.field("embedding").type.list_size == 192
    assert provenance["patches"] == 0 < provenance["grid_patches"]


def test_progress_is_shown_on_a_terminal_only(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """On a terminal standard error shows patches and patches/s; in a pipe it stays empty; the object is the same."""
    controller, terminal = pty.openpty()
    command = [str(PROGRAM), "embed", str(cmu_slide.folder), *_GRID, "--out", "out", "--json"]
    with subprocess.Popen(
        command, env=slidewire.variables() | {"TERM": "xterm"}, cwd=slidewire.folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=terminal,
    ) as process:  # fmt: skip
        os.close(terminal)
        shown = BytesIO()
        while True:
            try:
                shown.write(os.read(controller, 65536))
            except OSError:  # the other end is closed
                break
        assert process.stdout is not None
        answer = json.loads(process.stdout.read())
    os.close(controller)
    assert process.returncode == 0
    bar = shown.getvalue().decode()
    assert "patches/s" in bar
    assert f"{answer['patches']}/{answer['patches']}" in bar
    assert slidewire.done("embed", cmu_slide.folder, *_GRID, "--out", "out").json == answer


def test_without_json_a_person_reads_lines(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Without --json the state, each output and what was read have a line of their own."""
    said = slidewire("embed", cmu_slide.folder, *_GRID, "--out", "out")
    assert (said.rc, said.stderr) == (0, "")
    first, second, last = said.stdout.splitlines()
    assert first.startswith("succeeded: ")
    assert re.fullmatch(r"  read from the slide: \d+\.\d MB in \d+ requests", last)
    assert second.split()[0] == "parquet"
    assert Path(second.split()[1]).is_file()


def test_frames_that_are_mislabelled(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """A server that calls JPEG frames JPEG 2000 (dcm4chee does) is not believed, and the result says so."""

    def mislabel(asked: Asked) -> Answer | None:
        if "/frames/" not in asked.path:
            return None
        true = passed_on(asked, pacs_slide.orthanc.dicomweb)
        return Answer(
            true.status, true.body.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.90"), true.headers
        )

    honest = slidewire.done("embed", pacs_slide.url, *_GRID, "--out", "honest").output("parquet")
    with hostile_server(mislabel, pacs_slide.orthanc.dicomweb) as server:
        lying = server.url + pacs_slide.url.removeprefix(pacs_slide.orthanc.dicomweb)
        said = slidewire.done("embed", lying, *_GRID, "--out", "lied-to").output("parquet")
    (true_about, true_table), (about, table) = (_table(output["uri"]) for output in (honest, said))
    assert table["embedding"].equals(true_table["embedding"])
    [note] = set(about["notes"]) - set(true_about["notes"])
    assert "1.2.840.10008.1.2.4.90" in note
