"""Encode: one row a patch in order, NaN where there was nothing to encode, and nowhere else."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.errors import EmbeddingInvalid
from models.domain.patch import PatchBatch, Rows
from worker.stages.encode import encode_batches


@dataclass
class _Encoder:
    """Returns mean colours, changed as it is told to; remembers what it was given."""

    dtype: type = np.float32
    dimension: int = 3
    rows: int = 0
    spoilt: dict[int, float] = field(default_factory=dict)
    given: list[NDArray[np.uint8]] = field(default_factory=list)

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return the mean colour of each patch, changed as told."""
        self.given.append(pixels)
        means = np.zeros((len(pixels) + self.rows, self.dimension), self.dtype)
        means[: len(pixels), :3] = pixels.mean(axis=(1, 2))[: len(means)]
        for row, value in self.spoilt.items():
            means[row, 1] = value
        return Rows(means)


def _batches() -> list[PatchBatch]:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 5, 3), np.uint8)
    return [PatchBatch(0, pixels, 4), PatchBatch(1, pixels[::-1].copy(), 2)]


@pytest.mark.parametrize(
    "encoder", [_Encoder(np.float64), _Encoder(np.float16), _Encoder(dimension=4), _Encoder(rows=1), _Encoder(rows=-1)]
)
def test_another_shape_or_type_is_an_error(encoder: _Encoder) -> None:
    """An encoder that does not do what its spec says is not believed."""
    with pytest.raises(EmbeddingInvalid, match="instead of float32"):
        list(encode_batches(_batches(), encoder, 3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("holes", [(), (1,)])
def test_nan_is_an_error_that_names_the_batch(bad: float, holes: tuple[int, ...]) -> None:
    """A number that is none ends the work at its batch, also beside a hole."""
    batches = [replace(batch, holes=holes) for batch in _batches()]
    with pytest.raises(EmbeddingInvalid, match="batch 1"):
        list(encode_batches(batches, _Encoder(spoilt={0: bad}), 3))


def test_what_becomes_of_padding_does_not_matter() -> None:
    """NaN in a row that is padding is nobody's loss, in a real row it is."""
    [_, last] = _batches()
    assert len(list(encode_batches([last], _Encoder(spoilt={2: np.nan}), 3))) == 1
    with pytest.raises(EmbeddingInvalid):
        list(encode_batches([last], _Encoder(spoilt={1: np.nan}), 3))


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_what_becomes_of_a_hole_does_not_matter(bad: float) -> None:
    """Whatever an encoder makes of nothing, the row is NaN: the one quiet NaN, the same bytes on every machine."""
    [first, _] = _batches()
    [found] = encode_batches([replace(first, holes=(1, 3))], _Encoder(spoilt={1: bad, 3: bad}), 3)
    assert np.array_equal(found.rows.matrix[[0, 2]], first.pixels.mean(axis=(1, 2)).astype(np.float32)[[0, 2]])
    assert (found.rows.matrix[[1, 3]].view(np.uint32) == 0x7FC00000).all()


def test_a_batch_of_holes_is_not_encoded() -> None:
    """The encoder is not called for a batch of nothing; those before and after it are as they were."""
    first, last = _batches()
    hole = PatchBatch(1, np.zeros_like(first.pixels), 2, (0, 1))
    encoder = _Encoder()
    found = list(encode_batches([first, hole, replace(last, index=2)], encoder, 3))
    assert [one.index for one in found] == [0, 1, 2]
    assert [one is two for one, two in zip(encoder.given, [first.pixels, last.pixels], strict=True)] == [True, True]
    assert found[1].rows.matrix.shape == (2, 3)
    assert (found[1].rows.matrix.view(np.uint32) == 0x7FC00000).all()
    assert found[1].rows.matrix.dtype == np.float32


@given(st.integers(1, 4), st.sets(st.integers(0, 3)))
def test_holes_are_nan_and_nothing_else_is(count: int, holes: set[int]) -> None:
    """Each real row is the encoder's, each hole NaN, in batches of any number of either."""
    [first, _] = _batches()
    mine = tuple(sorted(hole for hole in holes if hole < count))
    [found] = encode_batches([replace(first, count=count, holes=mine)], _Encoder(), 3)
    expected = first.pixels.mean(axis=(1, 2)).astype(np.float32)[:count]
    expected[list(mine)] = np.nan
    assert np.array_equal(found.rows.matrix, expected, equal_nan=True)


def test_real_rows_come_out_in_order() -> None:
    """Each batch keeps its number and its real rows, in memory of its own."""
    batches = _batches()
    found = list(encode_batches(batches, _Encoder(), 3))
    assert [one.index for one in found] == [0, 1]
    for batch, one in zip(batches, found, strict=True):
        assert np.array_equal(one.rows.matrix, batch.pixels.mean(axis=(1, 2)).astype(np.float32)[: batch.count])
        assert one.rows.matrix.flags.c_contiguous


def test_an_encoder_may_use_its_memory_again() -> None:
    """What an encoder returns is copied: the next call may overwrite it."""

    class Frugal:
        memory = np.zeros((4, 3), np.float32)

        def encode(self, pixels: NDArray[np.uint8]) -> Rows:
            """Write into the same array each time."""
            self.memory[:] = pixels.mean(axis=(1, 2))
            return Rows(self.memory)

    frugal, other = (list(encode_batches(_batches(), encoder, 3)) for encoder in (Frugal(), _Encoder()))
    for one, two in zip(frugal, other, strict=True):
        assert np.array_equal(one.rows.matrix, two.rows.matrix)


@dataclass
class _Marking:
    """Marks the patches it is told to."""

    marks: NDArray[np.bool_]

    def encode(self, pixels: NDArray[np.uint8]) -> Rows:
        """Return zeros, marked."""
        return Rows(np.zeros((len(pixels), 3), np.float32), self.marks)


def test_marks_belong_to_real_rows() -> None:
    """Padding has none, and a hole is no patch that fell back."""
    [first, last] = _batches()
    encoder = _Marking(np.array([True, True, False, True]))
    found = list(encode_batches([replace(first, holes=(1,)), last], encoder, 3))
    marks = [batch.rows.fallbacks for batch in found]
    assert [mark.tolist() for mark in marks if mark is not None] == [[True, False, False, True], [True, True]]
    encoder.marks[:] = False  # its memory is its own
    assert marks[1] is not None
    assert marks[1].all()


@pytest.mark.parametrize("marks", [np.zeros(3, np.bool_), np.zeros((4, 1), np.bool_), np.zeros(4, np.uint8)])
def test_marks_of_another_shape_or_type(marks: NDArray[np.bool_]) -> None:
    """A mark a patch, or none at all."""
    with pytest.raises(EmbeddingInvalid, match="marks"):
        list(encode_batches(_batches(), _Marking(marks), 3))
