"""NumPy's layout: arrays that `numpy.load` reads without pickles."""

import json
import zipfile
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from connectors.tables.numpy_file import TABLE
from connectors.tables.protocol import TableContent
from tests.unit.connectors.tables.contents import (
    files_of,
    foreign,
    make_content,
    upper_left,
    with_fallbacks,
    with_holes,
)


def _arrays(content: TableContent) -> dict[str, Any]:
    (data,) = files_of(TABLE, content).values()
    with np.load(BytesIO(data), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("count", [0, 1, 30])
def test_arrays_are_read_back(count: int) -> None:
    """All values, corners and boxes, of the same types for any number of patches."""
    content = make_content(count)
    arrays = _arrays(content)
    assert {name: str(values.dtype) for name, values in arrays.items() if name != "provenance"} == {
        "features": "float32",
        "coords": "int64",
        "boxes": "int32",
    }
    assert arrays["features"].shape == (count, 5)
    assert arrays["features"].tobytes() == content.embeddings.matrix.tobytes()
    assert np.array_equal(arrays["coords"], upper_left(content.embeddings))
    assert np.array_equal(arrays["boxes"], content.embeddings.boxes)


def test_provenance_is_json(tmp_path: object) -> None:
    """One text, with the digest of what the file holds."""
    content = with_holes(make_content(9), [1])
    about = json.loads(str(_arrays(content)["provenance"]))
    assert about.pop("embeddings_sha256") == content.embeddings.digest
    assert about.pop("holes") == 1
    assert about == json.loads(json.dumps(content.provenance.to_json()))


def test_holes_are_left_out_and_fallbacks_marked() -> None:
    """Rows of all arrays stay together."""
    content = with_fallbacks(with_holes(make_content(9), [0, 4]), [4, 5])
    arrays = _arrays(content)
    assert np.array_equal(arrays["features"], content.embeddings.whole().matrix)
    assert arrays["fallback"].tolist() == [False, False, False, True, False, False, False]
    assert {len(arrays[name]) for name in ("features", "coords", "boxes", "fallback")} == {7}


def test_foreign_results_have_a_file() -> None:
    """Little known is little said, and no obstacle."""
    assert _arrays(foreign())["features"].shape == (4, 5)


def test_the_archive_is_sound() -> None:
    """An unzip tool finds nothing wrong."""
    (data,) = files_of(TABLE, make_content(30)).values()
    with zipfile.ZipFile(BytesIO(data)) as archive:
        assert archive.testzip() is None
