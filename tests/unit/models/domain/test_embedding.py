"""Embeddings hold no NaN but in holes, their digest sees every bit, and results are named by what identifies them."""

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


@given(st.integers(1, 6), st.integers(0, 4), st.data())
def test_a_row_of_nan_is_a_hole(count: int, dimension: int, data: st.DataObject) -> None:
    """A row that is NaN throughout is a hole; one that is NaN in part, or infinite, is an error beside holes too."""
    matrix = np.arange(count * dimension, dtype=np.float32).reshape(count, dimension)
    holes = data.draw(st.sets(st.integers(0, count - 1))) if dimension else set()
    matrix[list(holes)] = np.nan
    found = _embeddings(matrix)
    assert np.flatnonzero(found.holes).tolist() == sorted(holes)
    for row in set(range(count)) - holes:
        for bad in (np.nan, np.inf) if dimension > 1 else ():
            spoilt = matrix.copy()
            spoilt[row, -1] = bad
            with pytest.raises(EmbeddingInvalid, match=f"1 of {count}"):
                _embeddings(spoilt)


@given(st.integers(1, 6), st.sets(st.integers(0, 5)), st.booleans())
def test_what_is_whole_is_the_rest(count: int, holes: set[int], known: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
    """Without its holes a result keeps the other rows with their places, in their order."""
    matrix = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    kept = [row for row in range(count) if row not in holes]
    matrix[[row for row in range(count) if row in holes]] = np.nan
    one = _embeddings(matrix)
    one = replace(one, positions_um=one.positions_px / 4 if known else None)
    found = one.whole()
    assert len(found) == len(kept)
    assert not found.holes.any()
    assert found.dimension == 3
    for mine, row in enumerate(kept):
        assert found.matrix[mine].tolist() == matrix[row].tolist()
        assert found.boxes[mine].tolist() == one.boxes[row].tolist()
        assert found.positions_px[mine].tolist() == one.positions_px[row].tolist()
        if known:
            assert one.positions_um is not None
            assert found.positions_um is not None
            assert found.positions_um[mine].tolist() == one.positions_um[row].tolist()
    assert (found.positions_um is None) == (not known)


def test_which_nan_a_hole_holds_does_not_matter() -> None:
    """There are many NaN; a result read back from anywhere has its digest, whichever of them fill its holes."""
    digests = set()
    for bits in (0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF):
        matrix = np.ones((4, 3), np.float32)
        matrix.view(np.uint32)[[0, 2]] = bits
        one = _embeddings(matrix)
        assert one.holes.tolist() == [True, False, True, False]
        digests.add(one.digest)
    assert len(digests) == 1


def test_the_digest_knows_where_the_holes_are() -> None:
    """The same numbers with a hole at another place, or with none, are another result."""
    digests = set()
    for hole in (None, 0, 1, 2, 3):
        matrix = np.ones((4, 3), np.float32)
        if hole is not None:
            matrix[hole] = np.nan
        digests.add(_embeddings(matrix).digest)
    assert len(digests) == 5


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
