"""Frames that cannot be had: an error as a rule, a recorded hole where the request allows it, never a made-up pixel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.services.command import Slidewire
from tests.services.hostile import Answer, Asked, hostile_server, passed_on
from tests.services.pacs import SlideInPacs, assert_valid

_LOST = (40, 41)  # 1-based, of the finest level: 9 columns of 256 px; the fifth row of tiles, columns 3 and 4
_PATCHES = ("--encoder", "pixel-grid", "--all-patches", "--out", "out", "--dicom")


def _numbers(asked: Asked) -> list[int]:
    tail = asked.path.rpartition("/frames/")[2]
    return [int(number) for number in tail.split(",")] if "/frames/" in asked.path else []


def _url(base: str, slide: SlideInPacs) -> str:
    return f"{base}/studies/{slide.slide.study_uid}/series/{slide.slide.series_uid}"


def _without(lost: tuple[int, ...]) -> Callable[[Asked], Answer | None]:
    return lambda asked: Answer(404) if set(_numbers(asked)) & set(lost) else None


def _touching(table: "dict[str, list[int]]", columns: set[int], row: int) -> list[bool]:
    """Say which patches overlap tiles of one row, by the positions that the table gives."""
    found = []
    for x, y in zip(table["level_x"], table["level_y"], strict=True):
        across = set(range(x // 256, (x + 223) // 256 + 1))
        found.append(bool(across & columns) and row in range(y // 256, (y + 223) // 256 + 1))
    return found


def test_a_lost_frame_ends_the_job(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """Without --missing mask nothing is written, and the frame is named."""
    with hostile_server(_without(_LOST), pacs_slide.orthanc.dicomweb) as server:
        said = slidewire.failed("FRAME_MISSING", "embed", _url(server.url, pacs_slide), *_PATCHES)
    assert "frame 40" in said.json["error"]["message"]
    assert not list((slidewire.folder / "out").glob("*"))


def test_lost_frames_become_holes(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """With it, exactly the patches on these tiles have no embedding; table, annotations, report and reply say so."""
    whole = slidewire.done("embed", pacs_slide.url, *_PATCHES)
    with hostile_server(_without(_LOST), pacs_slide.orthanc.dicomweb) as server:
        url = _url(server.url, pacs_slide)
        said = slidewire.done("embed", url, *_PATCHES, "--missing", "mask", "--write-back")
    table = pq.read_table(said.output("parquet")["uri"], use_threads=False)
    holes = _touching(table.to_pydict(), {3, 4}, 4)
    assert 0 < sum(holes) < len(holes)
    assert [value is None for value in table["embedding"].to_pylist()] == holes
    assert said.json["holes"] == sum(holes)
    reference = pq.read_table(whole.output("parquet")["uri"], use_threads=False)["embedding"].to_pylist()
    ours = table["embedding"].to_pylist()
    assert all(np.array_equal(one, other) for one, other, hole in zip(ours, reference, holes, strict=True) if not hole)
    for kind in ("annotations", "report"):
        [local] = [o for o in said.json["outputs"] if o["kind"] == kind and not o["uri"].startswith("http")]
        assert_valid(Path(local["uri"]))
    stored = {o["kind"]: o["uri"] for o in said.json["outputs"] if o["uri"].startswith("http")}
    group = pacs_slide.instance(stored["annotations"]).AnnotationGroupSequence[0]
    assert group.NumberOfAnnotations == len(holes) - sum(holes)
    text = pacs_slide.instance(stored["report"]).to_json()
    assert f"{sum(holes)} of {len(holes)} patches are holes" in text


@pytest.mark.parametrize("kind", ["table", "folder"])
def test_holes_do_not_take_the_place_of_the_whole(slidewire: Slidewire, pacs_slide: SlideInPacs, kind: str) -> None:
    """A result with holes has another name than the whole one, and other UIDs: neither overwrites the other."""
    with hostile_server(_without(_LOST), pacs_slide.orthanc.dicomweb) as server:
        url = _url(server.url, pacs_slide)
        holed = slidewire.done("embed", url, *_PATCHES, "--missing", "mask")
    mended = slidewire.beside("again").done("embed", pacs_slide.url, *_PATCHES, "--missing", "mask")
    assert "holes" not in mended.json
    name = "parquet" if kind == "table" else "annotations"
    assert Path(holed.output(name)["uri"]).name != Path(mended.output(name)["uri"]).name


def test_a_frame_damaged_on_its_way_is_fetched_again(slidewire: Slidewire, pacs_slide: SlideInPacs) -> None:
    """A torn JPEG is asked for once more; when the bytes come whole, nothing is lost and nothing is said."""
    torn: list[str] = []

    def once(asked: Asked) -> Answer | None:
        if 40 not in _numbers(asked) or torn:
            return None
        torn.append(asked.path)
        given = passed_on(asked, pacs_slide.orthanc.dicomweb)
        position = _numbers(asked).index(40)
        boundary = given.headers["Content-Type"].partition("boundary=")[2].strip('"').encode()
        parts = given.body.split(b"--" + boundary)
        parts[position + 1] = parts[position + 1][:-400] + parts[position + 1][-2:]
        return Answer(200, (b"--" + boundary).join(parts), given.headers)

    whole = slidewire.done("embed", pacs_slide.url, *_PATCHES)
    with hostile_server(once, pacs_slide.orthanc.dicomweb) as server:
        said = slidewire.beside("torn").done("embed", _url(server.url, pacs_slide), *_PATCHES)
    assert torn
    assert said.output("parquet")["sha256"] == whole.output("parquet")["sha256"]
