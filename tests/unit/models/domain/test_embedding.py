"""Embeddings hold no NaN, their digest sees every bit, and results are named by what identifies them."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from models.domain.embedding import Embeddings, Output, Provenance, ResultKey
from models.domain.errors import EmbeddingInvalid
from tests.unit.connectors.dicom.results import make_result


def _embeddings(matrix: Any, count: int | None = None) -> Embeddings:
    count = len(matrix) if count is None else count
    boxes = np.arange(count * 4, dtype=np.int32).reshape(count, 4)
    return Embeddings(matrix, boxes, boxes[:, :2].astype(np.float64), None)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    """One number that is none spoils the result, and the message counts the rows."""
    matrix = np.ones((5, 3), np.float32)
    matrix[1, 2] = matrix[3, 0] = matrix[3, 1] = bad
    with pytest.raises(EmbeddingInvalid, match="2 of 5"):
        _embeddings(matrix)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32])
def test_other_types_are_refused(dtype: Any) -> None:
    """Only float32 is kept: nothing is rounded on the way."""
    with pytest.raises(EmbeddingInvalid, match=np.dtype(dtype).name):
        _embeddings(np.ones((2, 3), dtype))


def test_other_shapes_are_refused() -> None:
    """One row a patch, and two dimensions."""
    with pytest.raises(EmbeddingInvalid):
        _embeddings(np.ones((2, 3), np.float32), 3)
    with pytest.raises(EmbeddingInvalid):
        _embeddings(np.ones((2, 3, 1), np.float32))
    with pytest.raises(EmbeddingInvalid):
        _embeddings(np.ones(2, np.float32))


@given(st.integers(0, 4 * 3 * 4 - 1), st.integers(0, 7), st.booleans())
def test_digest_sees_every_bit(at: int, bit: int, in_boxes: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """One bit of a value or of a box changes the digest."""
    one = _embeddings(np.ones((4, 3), np.float32))
    matrix, boxes = one.matrix.copy(), one.boxes.copy()
    view = (boxes if in_boxes else matrix).reshape(-1).view(np.uint8)
    view[at] ^= 1 << bit
    if not np.isfinite(matrix).all():
        matrix = one.matrix
        boxes[0, 0] += 1
    assert replace(one, matrix=matrix, boxes=boxes).digest != one.digest


def test_digest_is_of_the_values_not_of_their_layout() -> None:
    """The same numbers in another memory layout or byte order have the same digest; none has one too."""
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    one = _embeddings(matrix)
    other = replace(one, matrix=np.asfortranarray(matrix), boxes=np.asfortranarray(one.boxes))
    assert other.digest == one.digest
    assert _embeddings(np.empty((0, 3), np.float32)).digest != one.digest


@given(st.text(), st.text(max_size=20))
def test_uids_are_dicom_uids(identity: str, part: str) -> None:
    """Every UID is valid (PS3.5 9.1), under the UUID root, and the same each time."""
    key = ResultKey.of({"slide": identity})
    uid = key.uid(part)
    assert UID(uid).is_valid
    assert uid.startswith("2.25.")
    assert uid == ResultKey.of({"slide": identity}).uid(part)


def test_uids_differ_by_part_and_by_result() -> None:
    """No two parts, and no two results, share a UID."""
    keys = [ResultKey.of({"slide": number, "encoder": "e"}) for number in range(50)]
    uids = [key.uid(part) for key in keys for part in ("annotations", "report", "annotations-series")]
    assert len(set(uids)) == len(uids)


def test_key_depends_on_content_not_on_order() -> None:
    """The order in which an identity is written down does not matter; any of its values does."""
    assert ResultKey.of({"a": 1, "b": [2, 3]}) == ResultKey.of({"b": [2, 3], "a": 1})
    assert ResultKey.of({"a": 1, "b": [2, 3]}) != ResultKey.of({"a": 1, "b": [3, 2]})


def test_provenance_comes_back_from_json() -> None:
    """What is written as JSON text is read as the same provenance, with and without a spacing."""
    provenance = make_result(2, 3, None).provenance
    for one in (provenance, replace(provenance, spacing_um=None, requested_spacing_um=None, tissue_fraction=None)):
        assert Provenance.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_output_says_only_what_applies() -> None:
    """A file has no UIDs to speak of; what is said is enough to rebuild it."""
    output = Output("parquet", "out/a.parquet", "ab" * 32)
    assert set(output.to_json()) == {"kind", "uri", "sha256"}
    assert Output(**output.to_json()) == output
