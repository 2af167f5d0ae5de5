"""What the README tells people to type works."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from models.domain.codes import ErrorCode
from tests.services.orthanc import Orthanc
from tests.services.slides import SlideOnDisk
from worker.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str, text: str = README) -> str:
    """Return the code block of the README, or of another page, that holds a text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return next(found for found in blocks if containing in found)


@pytest.fixture
def workplace(tmp_path: Path, cmu_slide: SlideOnDisk) -> tuple[Path, dict[str, str]]:
    """Give a folder as `make demo` leaves it, and an environment in which nothing else is set."""
    shutil.copytree(cmu_slide.folder, tmp_path / "demo-out" / "cmu-region")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLIDEWIRE_")}
    return tmp_path, {**kept, "PATH": path, "SLIDEWIRE_STATE_FOLDER": str(tmp_path / "state")}


def test_shell(workplace: tuple[Path, dict[str, str]], cleared_orthanc: Orthanc) -> None:
    """The shell blocks load, queue, work, read back and probe against an Orthanc."""
    folder, environment = workplace
    script = block("sh", "slidewire submit") + block("sh", "slidewire report") + block("sh", "slidewire doctor")
    script = script.replace("http://localhost:8042", cleared_orthanc.url)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    assert list((folder / "results").glob("*.report/report.html"))
    assert list((folder / "tables").glob("stamp-*/pixel-grid/*.h5"))
    with np.load(folder / "embeddings.npz") as found:
        assert found["features"].shape[1] == 1280
        assert len(found["coords"]) == len(found["features"]) > 0


def test_python(workplace: tuple[Path, dict[str, str]]) -> None:
    """The Python block embeds the demo's slide and opens the table."""
    folder, environment = workplace
    done = subprocess.run(
        [sys.executable, "-c", block("python", "embed(request)")],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "patches of 1280 numbers" in done.stdout


@pytest.mark.faults
def test_encoders(workplace: tuple[Path, dict[str, str]]) -> None:
    """The page about encoders lists and shows them, and its function embeds the demo's slide."""
    folder, environment = workplace
    page = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
    for command in (
        ["bash", "-euc", block("sh", "slidewire encoders", page)],
        ["bash", "-euc", block("sh", "encoders")],
    ):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "accepted_licences" in done.stdout
    program = [sys.executable, "-c", block("python", "register(", page)]
    done = subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\(\d+, 3\)$", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("target", re.findall(r"^make (\S+)", README, re.MULTILINE))
def test_make(target: str) -> None:
    """The make targets that the README names exist."""
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(
    "page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda page: page.name
)
def test_links(page: Path) -> None:
    """The links of README and docs lead to files that exist."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_linked() -> None:
    """Each page of docs can be reached from the README."""
    linked = {(ROOT / link).resolve() for link in re.findall(r"\]\((?!https?:)([^)#]+)", README)}
    assert {page.resolve() for page in (ROOT / "docs").glob("*.md")} <= linked


def test_rows() -> None:
    """docs/slides.md has its 34 rows, and each names a test that exists in the file it links to."""
    rows = re.findall(
        r"^\| (\d+) \|.*\[(test_rows?_[a-z0-9_]+)\]\((\S+)\) \|$",
        (ROOT / "docs" / "slides.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert [int(number) for number, _, _ in rows] == list(range(1, 35))
    for number, name, file in rows:
        assert f"{int(number):02}" in name
        assert f"def {name}" in (ROOT / "docs" / file).resolve().read_text(encoding="utf-8")


def test_settings_of_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pages show of slidewire.toml can be used as it stands, each with the others of its page."""
    for page in ("pacs.md", "settings.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        shown = re.findall(r"```toml\n(.*?)```", textwrap.dedent(text).replace("\n   ", "\n"), re.DOTALL)
        (tmp_path / "slidewire.toml").write_text("\n".join(shown))
        monkeypatch.setenv("SLIDEWIRE_CONFIG", str(tmp_path / "slidewire.toml"))
        settings = load_settings()
        assert settings.rules[0].encoder == "efficientnet-lite0"
        assert settings.rules[0].write_back


def test_error_codes() -> None:
    """Every error code has its line in the documentation, and no line is left of one that is gone."""
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE) == [str(code) for code in ErrorCode]


def test_settings() -> None:
    """Every setting has its line in the documentation, and no line is left of one that is gone."""
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    internal = {"storage_emulator"}  # Google's own variable
    assert re.findall(r"^\| `([a-z_]+)`", text, re.MULTILINE) == [
        name for name in Settings.model_fields if name not in internal
    ]
