"""Labels: what a CSV may not say, and whose row is whose."""

from pathlib import Path

import numpy as np
import pytest

from connectors.dataset.labels import Labels, read_labels
from models.domain.errors import RequestError, SourceUnreadable


def _read(folder: Path, text: str, on: str = "slide") -> Labels:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return read_labels(str(path), on)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no CSV"),
        ("slide,grade\na,1\nb\n", "no CSV"),
        ("image,grade\na,1\n", "no column 'slide'"),
        ("slide,grade,grade\na,1,2\n", "one name"),
        ("slide,grade\n,1\n", "Row 1"),
        ("slide\na\n", "no column besides"),
        ("slide,x,y\na,1,2\n", "no column besides"),
        ("slide,x,grade\na,1,2\n", "'x' alone"),
        ("slide,embedding\na,1\n", "'embedding'"),
        ("slide,x,y,grade\na,1.5,2,1\n", "'x'"),
        ("slide,x,y,grade\na,1,,1\n", "'y'"),
        ("slide,x,y,grade\na,1,99999999999,1\n", "'y'"),
        ("slide,grade\na,1\na,2\n", "two rows of one slide"),
        ("slide,x,y,grade\na,1,2,1\na,1,2,2\n", "two rows of one patch"),
    ],
)
def test_refused(tmp_path: Path, text: str, said: str) -> None:
    """What cannot be told apart, or is no label, is refused and named."""
    with pytest.raises(RequestError, match=said):
        _read(tmp_path, text)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is said to be."""
    with pytest.raises(SourceUnreadable):
        read_labels(str(tmp_path / "none.csv"))


def test_slides(tmp_path: Path) -> None:
    """A slide has its row's values; names are made file-name-safe, as results' are, and stay text."""
    labels = _read(tmp_path, "image,grade,patient\n007,2,p1\nmy slide (2),,p2\n", on="image")
    assert not labels.of_patches
    assert labels.slides == {"007", "my_slide_2"}
    assert {name: value.as_py() for name, value in labels.of_slide("007").items()} == {"grade": 2, "patient": "p1"}
    two = {name: value.as_py() for name, value in labels.of_slide("my_slide_2").items()}
    assert two == {"grade": None, "patient": "p2"}
    assert {value.as_py() for value in labels.of_slide("another").values()} == {None}


def test_patches(tmp_path: Path) -> None:
    """A patch has the values of the row with its corner, in the order asked for; null if there is none."""
    labels = _read(tmp_path, "slide,x,y,kind\nb,0,0,other\na,224,0,tumour\na,0,224,stroma\n")
    assert labels.of_patches
    x, y = np.array([0, 224, 224, 0]), np.array([224, 0, 224, 0])
    assert labels.of_corners("a", x, y)["kind"].to_pylist() == ["stroma", "tumour", None, None]
    assert labels.of_corners("none", x, y)["kind"].to_pylist() == [None] * 4
    assert labels.of_corners("b", x[:0], y[:0])["kind"].to_pylist() == []
