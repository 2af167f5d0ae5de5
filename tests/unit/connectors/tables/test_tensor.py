"""Tensors without PyTorch: PyTorch loads them as it loads its own."""

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from connectors.tables.tensor import encode_tensor


@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 99))
def test_values_come_back_to_the_bit(count: int, dimension: int, seed: int) -> None:
    """Any bits of float32, also NaN; without letting the file run code."""
    bits = np.random.default_rng(seed).integers(0, 1 << 32, (count, dimension), np.uint32)
    loaded = torch.load(BytesIO(encode_tensor(bits.view(np.float32))), weights_only=True)
    assert loaded.dtype == torch.float32
    assert loaded.is_contiguous()
    assert loaded.numpy().view(np.uint32).tolist() == bits.tolist()


@pytest.mark.parametrize("shape", [(1, 127), (1, 128), (255, 1), (256, 1), (3, 32768), (0, 1536)])
def test_sizes_at_the_edges_of_the_encoding(shape: tuple[int, int]) -> None:
    """Numbers of one byte and of more, with and without a leading one, are read as what they are."""
    matrix = np.arange(shape[0] * shape[1], dtype=np.float32).reshape(shape)
    loaded = torch.load(BytesIO(encode_tensor(matrix)), weights_only=True)
    assert loaded.stride() == (shape[1], 1)
    assert np.array_equal(loaded.numpy(), matrix)


def test_it_can_be_mapped_into_memory(tmp_path: Path) -> None:
    """Values begin where a mapping may begin."""
    matrix = np.random.default_rng(3).normal(size=(50, 64)).astype(np.float32)
    path = tmp_path / "mapped.pt"
    path.write_bytes(encode_tensor(matrix))
    assert np.array_equal(torch.load(path, mmap=True, weights_only=True).numpy(), matrix)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("tensor/data/0")
        data = path.read_bytes()
        name, extra = (
            int.from_bytes(data[entry.header_offset + at : entry.header_offset + at + 2], "little") for at in (26, 28)
        )
        assert (entry.header_offset + 30 + name + extra) % 64 == 0


def test_rows_may_be_put_in_order() -> None:
    """Any number of blocks of them, and the last is a short one."""
    matrix = np.random.default_rng(4).normal(size=(2500, 3)).astype(np.float32)
    order = np.random.default_rng(5).permutation(2500)
    loaded = torch.load(BytesIO(encode_tensor(matrix, order)), weights_only=True)
    assert np.array_equal(loaded.numpy(), matrix[order])


def test_views_are_written_as_they_look() -> None:
    """A matrix that is not contiguous is written row by row."""
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2]
    assert torch.load(BytesIO(encode_tensor(matrix)), weights_only=True).tolist() == matrix.tolist()


def test_torch_writes_the_same_members(tmp_path: Path) -> None:
    """What PyTorch itself puts into such a file, besides the marks of its writer, is what we put into it."""
    matrix = np.ones((3, 4), np.float32)
    own, ours = tmp_path / "own.pt", BytesIO(encode_tensor(matrix))
    torch.save(torch.from_numpy(matrix), own)
    with zipfile.ZipFile(own) as archive, zipfile.ZipFile(ours) as written:
        theirs = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        for name in written.namelist():
            if not name.endswith(".pkl"):
                assert theirs[name.partition("/")[2]] == written.read(name)
        assert "collections\nOrderedDict" in written.read("tensor/data.pkl").decode("latin-1")
