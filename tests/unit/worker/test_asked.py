"""Options become requests; contradictions and broken lists are refused by name and line."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.domain.errors import RequestError, SourceUnreadable, UnknownEncoder
from models.domain.request import DEFAULT_PATCH_PX, DEFAULT_SPACING_UM, DEFAULT_TISSUE_FRACTION
from models.encoders import registry
from worker.asked import Asked, read_coordinates


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Write a list of two patches."""
    path = tmp_path / "patches.csv"
    path.write_text("x,y\n1,2\n3,4\n")
    return path


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x,y\n1,2\n3,\n", 3),
        ("x,y\n1\n", 2),
        ("x,y\n1.5,2\n", 2),
        ("x,y\none,2\n", 2),
        ("x,y\n1,2\n\n\n5,six\n", 5),
        ("x,y\n1,0x2\n", 2),
        ("x;y\n1;2\n", None),
        ("1,2\n3,4\n", None),
        ("X,Y\n1,2\n", None),
        ("", None),
    ],
)
def test_broken_lists_are_named_by_line(tmp_path: Path, text: str, line: int | None) -> None:
    """The first line that is wrong is named as an editor counts."""
    path = tmp_path / "patches.csv"
    path.write_text(text)
    with pytest.raises(RequestError, match=f"line {line}:" if line else "no columns x and y"):
        read_coordinates(path)


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\xff\xfe", b"x,y\n1,\xff\n", b"x,y\n1,2\0\n"])
def test_files_that_are_no_text(tmp_path: Path, data: bytes) -> None:
    """A picture in the place of a list is refused as such."""
    path = tmp_path / "patches.csv"
    path.write_bytes(data)
    with pytest.raises(RequestError, match=r"patches\.csv"):
        read_coordinates(path)


def test_lists_that_are_not_there(tmp_path: Path) -> None:
    """A missing file and a folder cannot be read."""
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(SourceUnreadable):
            read_coordinates(path)


@given(st.lists(st.tuples(st.integers(), st.integers()), min_size=1, max_size=9), st.booleans())
def test_lists_come_back(points: list[tuple[int, int]], spreadsheet: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Columns may stand in any order among others, with a byte order mark and a spreadsheet's line ends."""
    import tempfile

    end, mark = ("\r\n", "\ufeff") if spreadsheet else ("\n", "")
    rows = ["label,y,x", *(f"a,{y},{x}" for x, y in points)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "patches.csv"
        path.write_bytes((mark + end.join(rows) + end).encode())
        assert read_coordinates(path) == tuple(points)


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    """A list of no patches is a mistake."""
    path = tmp_path / "patches.csv"
    path.write_text("x,y\n")
    with pytest.raises(RequestError, match="at least one"):
        Asked("slide", "pixel-grid", coordinates=path).requests()


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (Asked(None, "pixel-grid"), "SOURCE"),
        (Asked("", "pixel-grid"), "SOURCE"),
        (Asked("slide", "pixel-grid", native=True, spacing_um=0.5), "--native and --spacing-um"),
        (Asked("slide", "pixel-grid", native=True, spacing_um=0.0), "--native and --spacing-um"),
        (Asked("slide", "pixel-grid", spacing_um=0.0), "spacing"),
        (Asked("slide", "pixel-grid", stride_px=0), "stride"),
        (Asked("slide", "pixel-grid", min_tissue=1.5), "tissue"),
        (Asked("slide", "pixel-grid", all_patches=True, coordinates=Path("c.csv")), "--all-patches and --coordinates"),
        (Asked("slide", "pixel-grid", write_back=True, dicom=True), "--out"),
        (Asked("slide", "pixel-grid", encoder_option=["key"]), "KEY=VALUE"),
        (Asked("slide", "pixel-grid", encoder_option=["=value"]), "KEY=VALUE"),
        (Asked("slide", "pixel-grid", request=Path("r.json")), "SOURCE"),
        (Asked(None, "pixel-grid", request=Path("r.json"), native=True), "--native"),
        (Asked(None, "pixel-grid", request=Path("r.json"), spacing_um=0.0), "--spacing-um"),
        (Asked(None, "pixel-grid", request=Path("r.json"), stride_px=0, all_patches=True), "--stride-px, --all-"),
        (Asked(None, "pixel-grid", request=Path("r.json"), coordinates=Path("c.csv")), "--coordinates"),
    ],
)
def test_contradictions_are_refused(asked: Asked, what: str) -> None:
    """What excludes each other is refused before anything is read, zero counting as given."""
    with pytest.raises(RequestError, match=what):
        asked.requests()


def test_defaults() -> None:
    """A source and a model are enough."""
    [found] = Asked("slide", "pixel-grid").requests()
    assert (found.source, found.encoder, found.weights, found.options) == ("slide", "pixel-grid", "", ())
    assert found.output.folder
    assert not found.output.write_back
    assert found.patches.spacing_um == DEFAULT_SPACING_UM
    assert found.patches.tissue_fraction == DEFAULT_TISSUE_FRACTION
    assert (found.patches.patch_px, found.patches.coordinates) == (DEFAULT_PATCH_PX, None)


def test_write_back_alone_leaves_no_files() -> None:
    """Who only writes back to the PACS gets no folder."""
    [found] = Asked("slide", "pixel-grid", write_back=True).requests()
    assert (found.output.folder, found.output.write_back) == ("", True)


def test_choices_come_through(listed: Path) -> None:
    """Native, all patches, a list, a stride and options mean what they say."""
    [native] = Asked("slide", "pixel-grid", native=True, all_patches=True, stride_px=7).requests()
    assert (native.patches.spacing_um, native.patches.tissue_fraction, native.patches.step_px) == (None, None, 7)
    [chosen] = Asked(
        "slide", "pixel-grid", coordinates=listed, spacing_um=1.0, encoder_option=["b=2=3", "a="]
    ).requests()
    assert chosen.patches.coordinates == ((1, 2), (3, 4))
    assert (chosen.patches.spacing_um, chosen.patches.tissue_fraction) == (1.0, None)
    assert chosen.options == (("a", ""), ("b", "2=3"))


def test_size_and_spacing_are_the_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever says neither gets the patches that the encoder is meant for; whoever says them gets those."""
    spec = replace(registry.find("pixel-grid").spec, name="wide", patches_px=(256, 224), spacings_um=(0.25, 0.5))
    monkeypatch.setattr(registry, "_registered", {"wide": SimpleNamespace(spec=spec)})
    [found] = Asked("slide", "wide").requests()
    assert (found.patches.patch_px, found.patches.spacing_um) == (256, 0.25)
    [found] = Asked("slide", "wide", patch_px=64, spacing_um=2.0).requests()
    assert (found.patches.patch_px, found.patches.spacing_um) == (64, 2.0)


def test_an_unknown_encoder_is_refused_first() -> None:
    """Before any file is read."""
    with pytest.raises(UnknownEncoder, match="no-such"):
        Asked("slide", "no-such", coordinates=Path("none.csv")).requests()
