"""PyTorch's file of one tensor, written without PyTorch, which workers without an encoder of its own do not have.

A ZIP archive: a pickle that says what the tensor is, and its values; `torch.load(weights_only=True)` reads it. Held
to `torch.save` by test.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from connectors.tables.archive import Member, encode_aligned

_ALIGNMENT = 64
_BLOCK_ROWS = 1024
_VERSION = b"3\n"
_FLOAT32 = "FloatStorage"


def encode_tensor(matrix: NDArray[np.float32], order: NDArray[np.intp] | None = None) -> bytes:
    """Return a float32 array of shape (N, D) as a ``.pt`` file.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
    order : int array, shape (N,), optional
        Rows in the order in which they are to be written.
    """
    rows = np.arange(len(matrix)) if order is None else order
    small = [("data.pkl", _pickle(matrix.shape)), ("byteorder", b"little"), ("version", _VERSION)]
    members = [Member(f"tensor/{name}", len(content), [content]) for name, content in small]
    members.insert(2, Member("tensor/data/0", matrix.nbytes, _blocks(matrix, rows)))
    return encode_aligned(members, _ALIGNMENT)


def _blocks(matrix: NDArray[np.float32], rows: NDArray[np.intp]) -> Iterator[memoryview]:
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = np.ascontiguousarray(matrix[rows[start : start + _BLOCK_ROWS]], "<f4")
        yield block.reshape(-1).view(np.uint8).data


def _pickle(shape: tuple[int, ...]) -> bytes:
    """Return ``torch._utils._rebuild_tensor_v2(storage, 0, shape, stride, False, OrderedDict())``, pickled.

    The storage is a persistent identifier: ``("storage", torch.FloatStorage, "0", "cpu", number of values)``.
    """
    rows, columns = shape
    storage = (
        b"("
        + _text("storage")
        + _named("torch", _FLOAT32)
        + _text("0")
        + _text("cpu")
        + _number(rows * columns)
        + b"tQ"
    )
    arguments = (
        b"(" + storage + _number(0) + _number(rows) + _number(columns) + b"\x86" + _number(columns) + _number(1)
        + b"\x86\x89" + _named("collections", "OrderedDict") + b")Rt"
    )  # fmt: skip
    return b"\x80\x02" + _named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R."


def _named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def _number(number: int) -> bytes:
    """Return LONG1: any size."""
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data
