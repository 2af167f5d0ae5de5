"""Export end to end: a job's objects out of a real archive, by whole instance, and out of files, into tables."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from connectors.export import Choice
from models.domain.errors import ResultNotFound
from tests.services.command import Slidewire
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.pacs import SlideInPacs, fetch_instance
from worker import load_settings, read_embeddings

_ASK = ("--encoder", "pixel-grid", "--write-back")


def test_a_stored_result_comes_back_as_every_table(
    slidewire: Slidewire, pacs_slide: SlideInPacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by a job, read by the slide and by the result's own series, as file, as tables, as objects, in Python."""
    done = slidewire.done("embed", pacs_slide.url, *_ASK, "--out", "job")
    table = Path(done.output("parquet")["uri"]).read_bytes()
    stored = fetch_instance(pacs_slide.orthanc, done.output("annotations")["uri"])
    series = f"{pacs_slide.study_url}/series/{done.output('annotations')['series_uid']}"
    for source in (pacs_slide.url, series):
        said = slidewire.done("export", source, "--out", "back.parquet").json
        assert (said["patches"], said["outputs"][0]["kind"]) == (done.json["patches"], "parquet")
        assert Path(said["uri"]).read_bytes() == table
    again = slidewire.done("export", series, "--out", "again", "--table", "numpy", "--dicom")
    assert Path(again.output("parquet")["uri"]).read_bytes() == table
    assert Path(again.output("annotations")["uri"]).read_bytes() == stored
    with np.load(again.output("numpy")["uri"]) as arrays:
        written = arrays["features"]
    monkeypatch.chdir(slidewire.folder)
    for place in (series, again.output("annotations")["uri"], again.output("numpy")["uri"], "back.parquet"):
        read = read_embeddings(place, settings=load_settings())
        assert np.array_equal(read.matrix, written)
        assert read.digest_verified
    with pytest.raises(ResultNotFound):
        read_embeddings("again", Choice(kind="map"), load_settings())


def test_files_are_exported_without_an_archive(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Folders and files of results, several at once into a folder; two results do not fit into one file."""
    first = slidewire.done("embed", pacs_slide.url, "--encoder", "pixel-grid", "--out", "one", "--dicom")
    slidewire.done("embed", pacs_slide.url, "--encoder", "pixel-grid", "--patch-px", "96", "--out", "two", "--dicom")
    said = slidewire.done("export", "one", "two", "--out", "all").json
    assert sorted(len(result["outputs"]) for result in said["results"]) == [1, 1]
    slidewire.failed("REQUEST_INVALID", "export", "one", "two", "--out", "all.npz")
    assert not (slidewire.folder / "all.npz").exists()
    slidewire.failed("REQUEST_INVALID", "export", "one", "--out", "x.npz", "--table", "numpy")
    slidewire.failed("REQUEST_INVALID", "export", "one", "--out", "all", "--table", "nonsense")
    table = slidewire.done("export", first.output("parquet")["uri"], "--out", "x.npz").json
    assert table["patches"] == first.json["patches"]


def test_metadata_that_are_cut_change_nothing(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """A server whose /metadata hold one number of each list, or none at all: export reads the whole instance."""
    done = slidewire.done("embed", pacs_slide.url, *_ASK, "--out", "job")
    table = Path(done.output("parquet")["uri"]).read_bytes()
    listed: list[str] = []

    def answer(asked: Asked) -> Answer | None:
        listed.append(asked.path)
        if not asked.path.endswith(f"{done.output('annotations')['series_uid']}/metadata"):
            return None
        kept = {"00080016": "1.2.840.10008.5.1.4.1.1.91.1", "00080018": done.output("annotations")["instance_uid"]}
        item = {tag: {"vr": "UI", "Value": [value]} for tag, value in kept.items()}
        series = {"0020000E": {"vr": "UI", "Value": [pacs_slide.slide.series_uid]}}
        cut = {**item, "00081115": {"vr": "SQ", "Value": [series]}, "006A0002": {"vr": "SQ", "Value": [{}]}}
        return Answer(200, json.dumps([cut]).encode(), {"Content-Type": "application/dicom+json"})

    with hostile_server(answer, pacs_slide.orthanc.dicomweb) as server:
        url = server.url + pacs_slide.url.removeprefix(pacs_slide.orthanc.dicomweb)
        said = slidewire.done("export", url, "--out", "back.parquet").json
    assert Path(said["uri"]).read_bytes() == table
    assert [path for path in listed if path.endswith(done.output("annotations")["instance_uid"])]


def test_a_deidentified_copy_names_nobody(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """The numbers are the same; neither name nor UID of slide and study is in any file or name; a key is needed."""
    done = slidewire.done("embed", pacs_slide.url, *_ASK)
    ask = ("export", pacs_slide.url, "--out", "shared", "--dicom", "--table", "numpy", "--deidentify")
    slidewire.failed("SETTINGS_INVALID", *ask)
    assert not (slidewire.folder / "shared").exists()
    slidewire.environment |= {"SLIDEWIRE_DEIDENTIFY_KEY": "env:SECRET", "SECRET": hashlib.sha256(b"key").hexdigest()}
    said = slidewire.done(*ask, "--dates", "shift")
    uids = (pacs_slide.slide.study_uid, pacs_slide.slide.series_uid, done.output("annotations")["instance_uid"])
    files = [path for path in (slidewire.folder / "shared").rglob("*") if path.is_file()]
    assert len(files) == 4
    for path in files:
        assert not [uid for uid in uids if uid.encode() in path.read_bytes() or uid in path.name]
    assert said.json["patches"] == done.json["patches"]
    before = slidewire.done("export", pacs_slide.url, "--out", "back.npz").json["uri"]
    with np.load(before) as ours, np.load(said.output("numpy")["uri"]) as theirs:
        assert np.array_equal(ours["features"], theirs["features"])
