"""ZIP archives in memory that are the same for the same content; NumPy's and PyTorch's files are such archives."""

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BEGINNING = (1980, 1, 1, 0, 0, 0)  # the earliest a ZIP archive knows
_HEADER_BYTES = 30  # of an entry, before its name (APPNOTE 4.3.7)
_PADDING = b"FB"  # the identifier PyTorch's own writer gives to the bytes that it fills up with


def encode_npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the file that `numpy.load` reads as `arrays`, without pickled objects."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, values in arrays.items():
            with archive.open(_entry(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)
    return target.getvalue()


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an archive that is written block by block, so that it need not be in memory as a whole.

    Parameters
    ----------
    name : str
    size_bytes : int
        Of all blocks.
    blocks : iterable of bytes-like
    """

    name: str
    size_bytes: int
    blocks: Iterable[bytes | memoryview]


def encode_aligned(members: Iterable[Member], alignment: int) -> bytes:
    """Return an archive whose members begin at multiples of `alignment` bytes."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for member in members:
            entry = _entry(member.name)
            start = target.tell() + _HEADER_BYTES + len(member.name.encode()) + len(_PADDING) + 2
            gap = -start % alignment
            entry.extra = _PADDING + gap.to_bytes(2, "little") + bytes(gap)
            entry.file_size = member.size_bytes
            with archive.open(entry, "w") as written:
                for block in member.blocks:
                    written.write(block)
    return target.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _BEGINNING)
    entry.create_system = 3  # not that of the machine
    return entry
