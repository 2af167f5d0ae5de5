"""The directories of a TIFF file (TIFF 6.0 section 2; BigTIFF), each value read when it is asked for, within bounds."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from connectors.ranges.reader import ByteRanges
from models.domain.errors import NotASlide, SourceUnreadable

SUB_DIRECTORIES = 330
_MOST_DIRECTORIES = 1024
_MOST_ENTRIES = 1024
_MOST_VALUES = 1 << 24  # as many tiles as a level may have
_TYPES: Mapping[int, str] = {  # numpy's names of the field types; a rational is two numbers
    1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "2u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "2i4", 11: "f4", 12: "f8",
    13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip


Order = Literal["<", ">"]


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: int
    count: int
    place: int  # where in the file the value is


class Directory:
    """One directory: tags and where their values are.

    Parameters
    ----------
    file : ByteRanges
    order : str
        Of bytes, as struct writes it.
    entries : mapping of int to _Entry
    """

    def __init__(self, file: ByteRanges, order: Order, entries: Mapping[int, _Entry]) -> None:
        self._file, self._order, self._entries = file, order, entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def raw(self, tag: int, most: int) -> bytes:
        """Return the first `most` bytes of a value; empty if there is none."""
        entry = self._entries.get(tag)
        if entry is None:
            return b""
        size = min(entry.count * np.dtype(_TYPES[entry.kind]).itemsize, most)
        return self._file.read(entry.place, entry.place + size) if size else b""

    def numbers(self, tag: int) -> NDArray[np.float64] | NDArray[np.int64]:
        """Return a value as numbers, rationals divided; empty if there is none.

        Raises
        ------
        SourceUnreadable
            There are absurdly many, or they lie outside the file.
        """
        entry = self._entries.get(tag)
        if entry is None:
            return np.zeros(0, np.int64)
        if entry.count > _MOST_VALUES:
            raise SourceUnreadable(f"{self._file.facts.name} is damaged: a tag has {entry.count} values.")
        kind = np.dtype(_TYPES[entry.kind]).newbyteorder(self._order)
        values = np.frombuffer(self.raw(tag, entry.count * kind.itemsize), kind)
        if values.ndim == 2:
            with np.errstate(all="ignore"):
                return np.asarray(values[:, 0] / values[:, 1].astype(np.float64), np.float64)
        if values.dtype.kind == "f":
            return values.astype(np.float64)
        if values.dtype.kind == "u" and len(values) and int(values.max()) >= 1 << 62:
            raise SourceUnreadable(f"{self._file.facts.name} is damaged: a tag points nowhere.")
        return values.astype(np.int64)

    def number(self, tag: int, default: int) -> int:
        """Return the first number of a value."""
        entry = self._entries.get(tag)
        if entry is None or entry.count < 1:
            return default
        single = Directory(self._file, self._order, {tag: _Entry(entry.kind, 1, entry.place)})
        return int(np.nan_to_num(single.numbers(tag)[0]))

    def text(self, tag: int, most: int = 1 << 20) -> str:
        """Return a text up to its first NUL."""
        return self.raw(tag, most).partition(b"\0")[0].decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes that TIFF and BigTIFF differ in, as struct formats without the byte order."""

    order: Order
    count: str
    entry: str
    pointer: str

    @property
    def entry_bytes(self) -> int:
        return struct.calcsize(self.order + self.entry) + struct.calcsize(self.order + self.pointer)


def read_directories(file: ByteRanges) -> list[list[Directory]]:
    """Return the images of a file in order: each directory of the main chain, followed by its sub-directories.

    Raises
    ------
    NotASlide
        It is no TIFF file.
    SourceUnreadable
        It is cut off or damaged: its directories lie outside the file, point at each other, or are too many.
    """
    layout, first = _header(file)
    seen: set[int] = set()
    images: list[list[Directory]] = []
    offset = first
    while offset:
        directory, offset = _directory(file, layout, offset, seen)
        below = [_directory(file, layout, int(place), seen)[0] for place in directory.numbers(SUB_DIRECTORIES)]
        images.append([directory, *below])
    if not images:
        raise NotASlide(f"{file.facts.name} is a TIFF file without an image.")
    return images


def _header(file: ByteRanges) -> tuple[_Layout, int]:
    head = file.read(0, min(16, file.facts.size))
    order: Order = "<" if head[:2] == b"II" else ">"
    magic = struct.unpack(f"{order}H", head[2:4])[0] if head[:2] in {b"II", b"MM"} and len(head) >= 8 else 0
    if magic == 42:
        return _Layout(order, "H", "HHI", "I"), int(struct.unpack(f"{order}I", head[4:8])[0])
    if magic == 43 and len(head) == 16 and struct.unpack(f"{order}HH", head[4:8]) == (8, 0):
        return _Layout(order, "Q", "HHQ", "Q"), int(struct.unpack(f"{order}Q", head[8:16])[0])
    raise NotASlide(f"{file.facts.name} is no TIFF file, whatever its name says.")


def _directory(file: ByteRanges, layout: _Layout, offset: int, seen: set[int]) -> tuple[Directory, int]:
    """Return the directory at an offset, and the offset of the one that follows (0: none)."""
    if offset in seen or len(seen) >= _MOST_DIRECTORIES:
        reason = "its directories point at each other" if offset in seen else "it has too many directories"
        raise SourceUnreadable(f"{file.facts.name} is damaged: {reason}.")
    seen.add(offset)
    start = offset + struct.calcsize(layout.order + layout.count)
    (count,) = struct.unpack(layout.order + layout.count, file.read(offset, start))
    if count > _MOST_ENTRIES:
        raise SourceUnreadable(f"{file.facts.name} is damaged: a directory has {count} entries.")
    stop = start + count * layout.entry_bytes
    pointer = struct.calcsize(layout.order + layout.pointer)
    table = file.read(start, stop + pointer)
    entries = {}
    for number in range(count):
        at = number * layout.entry_bytes
        tag, kind, values = struct.unpack_from(layout.order + layout.entry, table, at)
        if kind not in _TYPES:
            continue  # TIFF 6.0: readers skip field types they do not know
        place = at + layout.entry_bytes - pointer
        inline = values * np.dtype(_TYPES[kind]).itemsize <= pointer
        where = start + place if inline else struct.unpack_from(layout.order + layout.pointer, table, place)[0]
        entries[int(tag)] = _Entry(int(kind), int(values), int(where))
    (following,) = struct.unpack_from(layout.order + layout.pointer, table, len(table) - pointer)
    return Directory(file, layout.order, entries), int(following)
