"""Binary values of an instance (OF, OD, OL) as arrays, after a look at their length."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import ResultCorrupt


def binary_values(data: Any, kind: str, what: str, count: int | None = None) -> NDArray[Any]:
    """Return the numbers in a binary value.

    Parameters
    ----------
    data : bytes or None
        As pydicom gives it; None and nothing at all are no numbers.
    kind : str
        numpy's name of one number, with its byte order.
    what : str
        What they are, for messages.
    count : int or None
        How many there must be; None: any number.

    Raises
    ------
    ResultCorrupt
        There are more or fewer, or a part of one.
    """
    size = np.dtype(kind).itemsize
    data = b"" if data is None else data
    if not isinstance(data, bytes) or (len(data) % size if count is None else len(data) != count * size):
        held = f"{len(data)} bytes" if isinstance(data, bytes) else "no bytes"
        wanted = "whole numbers" if count is None else str(count * size)
        raise ResultCorrupt(
            f"The stored embeddings hold {held} of {what} instead of {wanted}: "
            "fetch the whole instance, not its metadata."
        )
    return np.frombuffer(data, dtype=kind)
