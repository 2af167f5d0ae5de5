"""The page in a real browser: complete, quiet, alone, and readable on a phone and on a desk, by day and by night."""

from pathlib import Path

import numpy as np
import pytest

from models.domain.job import JobState
from tests.services.browser import Browser
from tests.services.stories import failed, told
from worker.report.page import write_report

_CONTRAST = """
const light = value => { value /= 255; return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
const behind = element => {
  for (; element; element = element.parentElement) {
    const colour = numbers(getComputedStyle(element).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
const poor = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  if (!own || element.closest('legend, .skip')) continue;
  const style = getComputedStyle(element);
  const ink = element.closest('svg') ? style.fill : style.color;
  const [a, b] = [luminance(numbers(ink)), luminance(behind(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) poor.push([element.tagName, element.textContent.trim(), ink, ratio]);
}
return poor;
"""
_WIDE = "return document.documentElement.scrollWidth - window.innerWidth"
_BROKEN = "return [...document.images].filter(image => !image.naturalWidth).length"
_BACK = "return getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the pages of a job that succeeded and of one that failed."""
    random = np.random.default_rng(1)
    matrix = (np.repeat(random.normal(size=(6, 8)) * 9, 30, axis=0) + random.normal(size=(180, 8))).astype(np.float32)
    matrix[5] = np.nan
    good = told(matrix, fallbacks=np.arange(180) == 7)
    bad = failed(told(None, 180, state=JobState.FAILED), "The slide is gone: " + "a-long-word-without-a-blank" * 12)
    folder = tmp_path_factory.mktemp("pages")
    return {
        name: Path(write_report(story, str(folder / name))[0].uri) for name, story in (("good", good), ("bad", bad))
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("which", ["good", "bad"])
def test_whole_and_alone(browser: Browser, pages: dict[str, Path], which: str, width: int, scheme: str) -> None:
    """No error, no request, nothing too wide, all images there, all text with the contrast of WCAG AA."""
    browser.look(width=width, scheme=scheme)
    browser.open(pages[which].as_uri())
    assert browser.logged("browser") == []
    assert browser.requested() == [pages[which].as_uri()]
    assert browser.run(_WIDE) <= 0
    assert browser.run(_BROKEN) == 0
    assert browser.run("return document.images.length") > 20 or which == "bad"
    assert browser.run(_CONTRAST) == []


def test_the_single_file_is_enough(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """Mailed without its pictures, the page shows them all."""
    alone = tmp_path / "mailed.html"
    alone.write_bytes(pages["good"].read_bytes())
    browser.look()
    browser.open(alone.as_uri())
    assert browser.run(_BROKEN) == 0
    assert browser.run("return document.querySelectorAll('figure svg').length") == 5


def test_colours_follow_the_system_and_the_reader(browser: Browser, pages: dict[str, Path]) -> None:
    """Dark on a dark system; the reader's choice goes before it, by keyboard as well; print is on white."""
    backs = {}
    for scheme in ("light", "dark"):
        browser.look(scheme=scheme)
        browser.open(pages["good"].as_uri())
        backs[scheme] = browser.run(_BACK)
        other = "dark" if scheme == "light" else "light"
        browser.run(f"document.getElementById('theme-{other}').click()")
        backs[f"{scheme}, {other} chosen"] = browser.run(_BACK)
    assert backs["light"] == backs["dark, light chosen"] == "rgb(255, 255, 255)"
    assert backs["dark"] == backs["light, dark chosen"] != backs["light"]
    assert (
        browser.run("document.getElementById('theme-dark').focus(); return document.activeElement.id") == "theme-dark"
    )
    browser.look(scheme="dark", print_=True)
    assert browser.run(_BACK) == "rgb(255, 255, 255)"


def test_scripts_do_not_run(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """Even a script that got into the page would not run: the page forbids it."""
    text = pages["good"].read_text(encoding="utf-8")
    page = tmp_path / "script.html"
    page.write_text(text.replace("</main>", "<script>document.title = 'ran'</script></main>"), encoding="utf-8")
    browser.look()
    browser.open(page.as_uri())
    assert browser.run("return document.title") != "ran"
    assert any("Content Security Policy" in entry["message"] for entry in browser.logged("browser"))
