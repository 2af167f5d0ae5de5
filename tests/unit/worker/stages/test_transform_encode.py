"""Transform and encode: patches are slices of the slide, batches have one shape, damage and NaN go no further."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.domain.errors import EmbeddingInvalid, FrameUndecodable, PixelsUnsupported
from models.domain.patch import FrameGroup, PatchBatch
from models.imaging.syntax import JPEG_BASELINE
from tests.services.memory_slide import MemorySource, make_grid, make_level, make_slide, random_pixels
from worker.stages.encode import encode_batches
from worker.stages.fetch import fetch_groups
from worker.stages.transform import cut_batches

_LEVEL = make_level(150, 130)
_IMAGE = random_pixels(150, 130)
_SOURCE = MemorySource(make_slide(_LEVEL), _IMAGE)


def _groups(boxes: list[tuple[int, int, int, int]], frames_a_group: int = 6) -> Iterator[FrameGroup]:
    return fetch_groups(_SOURCE, 0, make_grid(boxes, 20), frames_a_group, 2)


@pytest.mark.parametrize("damage", [b"", b"\xff\xd8\xff\xdb cut off", b"<html>"])
def test_a_damaged_frame_ends_the_stage(damage: bytes) -> None:
    """One frame that does not decode is an error, not a black patch, and names its number."""

    def damaged() -> Iterator[FrameGroup]:
        for group in _groups([(0, 0, 20, 20), (100, 100, 20, 20)]):
            last = replace(group.frames[-1], data=damage, transfer_syntax=JPEG_BASELINE)
            yield replace(group, frames=(*group.frames[:-1], last))

    with pytest.raises(FrameUndecodable, match=r"Frame \d+"):
        list(cut_batches(damaged(), _LEVEL, 20, 4, 2))


def test_unsupported_pixels_end_the_stage() -> None:
    """Greyscale is refused in the stage as it is in the decoder."""
    with pytest.raises(PixelsUnsupported):
        list(cut_batches(_groups([(0, 0, 20, 20)]), replace(_LEVEL, photometric="MONOCHROME2"), 20, 4, 2))


def test_a_frame_that_was_dropped_too_early_is_an_error() -> None:
    """If a frame is not there, nothing is cut from what is."""
    [group] = _groups([(0, 0, 20, 20)])
    with pytest.raises(KeyError):
        list(cut_batches([replace(group, frames=())], _LEVEL, 20, 4, 1))


@given(
    st.lists(st.tuples(st.integers(0, 130), st.integers(0, 110), st.just(20), st.just(20)), max_size=14),
    st.integers(1, 6),
    st.integers(1, 20),
    st.integers(1, 3),
)
def test_patches_are_slices_of_the_slide(
    boxes: list[tuple[int, int, int, int]], batch_size: int, frames_a_group: int, decoders: int
) -> None:
    """In any grouping, each patch is the slide's own pixels, in order, in batches of one shape, numbered from 0."""
    batches = list(cut_batches(_groups(boxes, frames_a_group), _LEVEL, 20, batch_size, decoders))
    assert [batch.index for batch in batches] == list(range(-(-len(boxes) // batch_size)))
    assert all(batch.pixels.shape == (batch_size, 20, 20, 3) for batch in batches)
    assert all(batch.count == batch_size for batch in batches[:-1])
    found = [patch for batch in batches for patch in batch.pixels[: batch.count]]
    assert len(found) == len(boxes)
    for (x, y, width, height), patch in zip(boxes, found, strict=True):
        assert np.array_equal(patch, _IMAGE[y : y + height, x : x + width])


def test_padding_is_black_and_batches_do_not_share_memory() -> None:
    """The last batch is filled up with zeros, and no batch is written to after it was handed on."""
    batches = cut_batches(_groups([(x, 0, 20, 20) for x in range(0, 100, 20)]), _LEVEL, 20, 2, 1)
    first = next(batches)
    kept = first.pixels.copy()
    *_, last = batches
    assert np.array_equal(first.pixels, kept)
    assert last.count == 1
    assert not last.pixels[1:].any()


@dataclass
class _Encoder:
    """Returns what it is told to; remembers the shapes it was given."""

    dtype: type = np.float32
    dimension: int = 3
    rows: int = 0
    bad_row: int | None = None

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the mean colour of each patch, changed as told."""
        means = np.zeros((len(pixels) + self.rows, self.dimension), self.dtype)
        means[: len(pixels), :3] = pixels.mean(axis=(1, 2))[: len(means)]
        if self.bad_row is not None:
            means[self.bad_row] = np.nan
        return means


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
def test_nan_is_an_error_that_names_the_batch(bad: float) -> None:
    """A number that is none ends the work at its batch."""

    class Bad(_Encoder):
        def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            """Spoil the first row of what is a mean."""
            found = super().encode(pixels)
            found[0, 1] = bad
            return found

    with pytest.raises(EmbeddingInvalid, match="batch 1"):
        list(encode_batches(_batches(), Bad(), 3))


def test_what_becomes_of_padding_does_not_matter() -> None:
    """NaN in a row that is padding is nobody's loss, in a real row it is."""
    [_, last] = _batches()
    assert len(list(encode_batches([last], _Encoder(bad_row=2), 3))) == 1
    with pytest.raises(EmbeddingInvalid):
        list(encode_batches([last], _Encoder(bad_row=1), 3))


def test_real_rows_come_out_in_order() -> None:
    """Each batch keeps its number and its real rows."""
    batches = _batches()
    found = list(encode_batches(batches, _Encoder(), 3))
    assert [one.index for one in found] == [0, 1]
    for batch, one in zip(batches, found, strict=True):
        assert np.array_equal(one.matrix, batch.pixels.mean(axis=(1, 2)).astype(np.float32)[: batch.count])
        assert one.matrix.flags.c_contiguous
