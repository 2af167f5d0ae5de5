"""The page: whole in itself, the same each time, safe whatever a name holds, and there however little there is."""

import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.domain.job import JobState
from tests.services.stories import failed, told
from worker.report.figures import Figure, _pictures, figures_of
from worker.report.page import PAGE_FILE, render, write_report
from worker.report.story import Story

_EVIL = "<script>alert(1)</script>\"' onload=x"
_VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """A page taken apart: that its elements are closed is seen to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags, self.ids, self.addresses = "", [], [], []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember what the element is, and what it refers to."""
        self.tags.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [value for name, value in attrs if name in {"src", "href", "xlink:href", "action"}]
        if tag not in _VOID:
            self._open.append(tag)
        assert tag != "img" or given["alt"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element of an SVG that is closed at once."""
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Close the last element that was opened."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Remember the text."""
        if self._open[-1:] != ["style"]:
            self.text += data


def page_of(story: Story, figures: dict[str, Figure] | None = None) -> Page:
    """Return a job's page, taken apart; without figures, which take time, unless some are given."""
    return Page(render(story, figures or {}))


@pytest.fixture(scope="module")
def usual() -> tuple[Story, dict[str, Figure]]:
    """Tell a usual story, with all its figures."""
    story = told(matrix())
    return story, figures_of(story)


def matrix(rows: int = 60) -> np.ndarray:
    """Return embeddings in three groups."""
    random = np.random.default_rng(1)
    return (np.repeat(random.normal(size=(3, 8)) * 9, rows // 3, axis=0) + random.normal(size=(rows, 8))).astype(
        np.float32
    )


def test_needs_nothing_else(usual: tuple[Story, dict[str, Figure]]) -> None:
    """It refers to nothing but itself, has no script, and forbids both."""
    page = page_of(*usual)
    assert "script" not in page.tags
    assert {address for address in page.addresses if not address.startswith(("data:", "#"))} == set()
    assert len(page.ids) == len(set(page.ids))
    text = render(*usual)
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text
    assert re.findall(r"@import|url\((?!#)", text) == []


def test_references_inside_charts_hold(usual: tuple[Story, dict[str, Figure]]) -> None:
    """What a chart refers to by # is in the page."""
    page = page_of(*usual)
    inside = {address[1:] for address in page.addresses if address.startswith("#")}
    assert inside
    assert inside <= set(page.ids)


@pytest.mark.parametrize("place", ["note", "encoder", "slide", "error", "option", "incident", "output"])
def test_what_comes_from_outside_is_escaped(place: str) -> None:
    """Markup in a name or a note is shown as it is, and never becomes an element."""
    story = told(matrix())
    output = replace(story.job.outputs[0], uri=f"/x/{_EVIL.replace('/', '')}")
    evil = {
        "note": lambda: replace(story, provenance=replace(story.provenance, notes=(_EVIL,))),
        "encoder": lambda: replace(story, request=replace(story.request, encoder=_EVIL)),
        "slide": lambda: replace(story, plan=replace(story.plan, slide=replace(story.plan.slide, name=_EVIL))),
        "error": lambda: failed(story, _EVIL),
        "option": lambda: replace(story, request=replace(story.request, options=(("a", _EVIL),))),
        "incident": lambda: replace(
            story, timeline=replace(story.timeline, incidents=(replace(story.timeline.incidents[0], detail=_EVIL),))
        ),
        "output": lambda: replace(story, job=replace(story.job, outputs=(output,))),
    }[place]()
    page = page_of(evil)
    assert "script" not in page.tags
    assert "alert(1)" in page.text
    assert "onload=x" in page.text
    assert "/" not in evil.name


def test_a_failed_job() -> None:
    """It says what failed, how far it got, how to go on, and what cannot be shown; there is no empty section."""
    story = failed(told(matrix()), "The slide is gone.")
    page = page_of(replace(story, job=replace(story.job, patches_done=13)))
    assert "SOURCE_INVALID The slide is gone." in " ".join(page.text.split())
    assert "13 of 60 patches" in " ".join(page.text.split())
    assert "slidewire jobs retry 1f1f1f1f" in page.text
    assert "Nothing is shown of the slide itself: gone." in page.text
    assert "img" not in page.tags
    assert "Clusters" not in page.text
    assert "Quality" not in page.text


@pytest.mark.parametrize("state", list(JobState))
def test_any_state(state: JobState) -> None:
    """Whatever state a job is in, its page says so."""
    assert str(state) in page_of(told(None, 5, state=state)).text


@pytest.mark.parametrize("rows", [0, 1])
def test_hardly_anything(rows: int) -> None:
    """No patches, or one: a page without a warning."""
    story = told(matrix()[:rows])
    figures = figures_of(story)
    assert "slide" in figures
    assert page_of(story, figures).text.count("succeeded") == 1


def test_equal_embeddings() -> None:
    """A model that gives the same for all patches has a page of one cluster."""
    story = told(np.ones((30, 4), np.float32))
    assert "1 group of patches" in page_of(story, figures_of(story)).text


def test_holes_and_fallbacks(usual: tuple[Story, dict[str, Figure]]) -> None:
    """They are counted on the page, and seen on the map where they are."""
    values = matrix()
    marks = np.zeros(60, bool)
    marks[7] = True
    values[3] = np.nan
    story = told(values, fallbacks=marks)
    figures = {figure.name: figure for figure in _pictures(story)}
    text = " ".join(page_of(story, figures).text.split())
    assert "1 holes" in text
    assert "1 fallbacks: embedded without stain normalisation" in text
    with_, without = (
        np.asarray(Image.open(BytesIO(drawn["map"].png)).convert("L"), float) for drawn in (figures, usual[1])
    )
    cell = with_.shape[0] // 8
    hole, mark, other = (slice(3 * cell, 4 * cell), slice(7 * cell, 8 * cell), slice(5 * cell, 6 * cell))
    assert with_[:cell, hole].std() > 60
    assert with_[:cell, mark].max() > 250
    assert with_[:cell, mark].min() < 30
    assert with_[5 : cell - 5, other][:, 5:-5].std() == without[5 : cell - 5, other][:, 5:-5].std() == 0


def test_all_holes() -> None:
    """Of a slide of which nothing could be read there is a page, without clusters."""
    story = told(np.full((4, 3), np.nan, np.float32))
    page = page_of(story, {figure.name: figure for figure in _pictures(story)})
    assert "Clusters" not in page.text
    assert "4 holes" in " ".join(page.text.split())


def test_huge_notes() -> None:
    """Of very many and very long notes the first are shown, shortened, and the rest counted."""
    story = told(matrix())
    notes = tuple(f"note {number} " + "x" * 5000 for number in range(1000))
    page = page_of(replace(story, provenance=replace(story.provenance, notes=notes)))
    assert "note 49 " in page.text
    assert "note 50 " not in page.text
    assert "950 more" in page.text
    assert page.text.count("x" * 500) == 50
    assert len(page.text) < 60_000


def test_many_incidents() -> None:
    """Of very many incidents the last are shown, and the rest counted."""
    story = told(matrix())
    [one] = story.timeline.incidents
    many = tuple(replace(one, detail=f"number {number}") for number in range(500))
    text = page_of(replace(story, timeline=replace(story.timeline, incidents=many))).text
    assert "number 499" in text
    assert "number 3\n" not in text
    assert "460 earlier ones" in text


def test_where_results_lie_stays_private() -> None:
    """Of a file the name is told, of an object in a PACS that it is there: no folder, no URL, no UID."""
    story = told(matrix())
    stored = replace(
        story.job.outputs[0],
        uri="https://pacs.test/studies/1.2.3/instances/1.2.4",
        series_uid="1.2.5",
        instance_uid="1.2.4",
    )
    text = render(replace(story, job=replace(story.job, outputs=(*story.job.outputs, stored))), {})
    assert "slide.parquet" in text
    assert "in the PACS" in text
    assert not any(secret in text for secret in ("/nowhere", "pacs.test", "1.2.3", "1.2.4", "1.2.5"))


def test_the_same_bytes_again(usual: tuple[Story, dict[str, Figure]], tmp_path: Path) -> None:
    """The same story gives the same files, page and pictures, and each is what its digest says."""
    page, *pictures = write_report(told(matrix()), str(tmp_path / "a"))
    assert Path(page.uri).name == PAGE_FILE
    assert Path(page.uri).read_text() == render(*usual)
    assert {Path(file.uri).stem for file in pictures} == {
        "slide", "map", "clusters", "scatter", "norms", "stain", "focus", "examples", "timeline"
    }  # fmt: skip
    for file in pictures:
        content = Path(file.uri).read_bytes()
        assert content == usual[1][Path(file.uri).stem].png
        assert file.sha256 == hashlib.sha256(content).hexdigest()


def test_each_cluster_has_its_number(usual: tuple[Story, dict[str, Figure]]) -> None:
    """The map of clusters has a badge in each cluster: colour alone tells nothing apart."""
    story, figures = usual
    assert story.clusters is not None
    drawn = np.asarray(Image.open(BytesIO(figures["clusters"].png)))
    cell = drawn.shape[0] // 8
    for number in range(story.clusters.count):
        rows = np.flatnonzero(story.clusters.of == number)
        cells = [drawn[row // 8 * cell : (row // 8 + 1) * cell, row % 8 * cell : (row % 8 + 1) * cell] for row in rows]
        assert any((part == 255).all(axis=2).sum() > 60 for part in cells)
