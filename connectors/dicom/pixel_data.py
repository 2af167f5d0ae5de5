"""Where each frame lies in a file's Pixel Data: by arithmetic, by an offset table, or fragment by fragment.

Nothing is taken on trust: an offset table counts only if every entry is the beginning of a fragment (PS3.5 A.4), and
fragments are put together only where it is certain which frame each belongs to. A frame is never filled with the bytes
of another.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.domain.errors import PixelsUnsupported, SlideIncomplete, SourceUnreadable
from models.imaging.syntax import begins_image

Read = Callable[[int, int], bytes]
"""Bytes from an offset, so many; fewer where the file ends."""

_PIXEL_DATA, _ITEM, _DELIMITER = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_UNDEFINED = 0xFFFFFFFF
_ITEM_HEAD = struct.Struct("<HHI")
_LOOK = 16  # bytes of a fragment that tell whether an image begins in it
_MOST_FRAGMENTS_A_FRAME = 4096
_WRONG_TABLE = "an offset table is wrong: frames were found by their fragments instead"
_NO_END = "pixel data end without their delimiter; every frame is there"


@dataclass(frozen=True, slots=True)
class PixelElement:
    """The Pixel Data element (7FE0,0010).

    Parameters
    ----------
    start : int
        Offset of its value in the file.
    length : int or None
        None: undefined, so the value is a sequence of fragments.
    swapped : bool
        Samples lie in 16-bit words of the other byte order (PS3.5 8.1.1: OW in big-endian).
    """

    start: int
    length: int | None
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """What the metadata promise of the pixel data.

    Parameters
    ----------
    frames : int
        Number of Frames.
    frame_bytes : int
        Length of an uncompressed frame.
    offsets, lengths : bytes
        Extended Offset Table (7FE0,0001) and its Lengths (7FE0,0002); empty if absent.
    """

    frames: int
    frame_bytes: int
    offsets: bytes = b""
    lengths: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """Where the frames of an instance lie.

    Parameters
    ----------
    starts, lengths : int64 array, shape (fragments,)
        Offset in the file, and bytes.
    first : int64 array, shape (frames + 1,)
        Each frame's first fragment; its last is the one before the next frame's first.
    swapped : bool
        As for `PixelElement`.
    notes : tuple of str
        What had to be corrected to find them.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    first: NDArray[np.int64]
    swapped: bool = False
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.first) - 1

    def spans(self, number: int) -> list[tuple[int, int]]:
        """Return (start, length) of the fragments of a frame; `number` is DICOM's, from 1."""
        part = slice(int(self.first[number - 1]), int(self.first[number]))
        return list(zip(self.starts[part].tolist(), self.lengths[part].tolist(), strict=True))


def pixel_element(read: Read, at: int, *, implicit: bool, little_endian: bool) -> PixelElement:
    """Read the head of the Pixel Data element at an offset (PS3.5 7.1).

    Raises
    ------
    SourceUnreadable
        There is no Pixel Data element at this place.
    """
    order = "<" if little_endian else ">"
    head = read(at, 12)
    if len(head) < 12 or struct.unpack_from(order + "HH", head) != _PIXEL_DATA:
        raise SourceUnreadable("A file of the slide holds no pixel data, or is cut off before them.")
    if implicit:
        width, length, kind = 8, struct.unpack_from(order + "I", head, 4)[0], b"OW"
    else:
        width, length, kind = 12, struct.unpack_from(order + "I", head, 8)[0], head[4:6]
    if kind not in {b"OB", b"OW", b"UN"}:
        raise SourceUnreadable("The pixel data of a file are of a kind that DICOM does not know.")
    swapped = kind == b"OW" and not little_endian
    return PixelElement(at + width, None if length == _UNDEFINED else length, swapped)


def index_frames(read: Read, size: int, element: PixelElement, expected: Expected) -> FrameIndex:
    """Find every frame.

    Parameters
    ----------
    read : Read
    size : int
        Length of the file.
    element : PixelElement
    expected : Expected

    Raises
    ------
    SourceUnreadable
        The file is cut off, its items are damaged, or it cannot be told which fragment belongs to which frame.
    SlideIncomplete
        It holds fewer frames than the metadata promise.
    PixelsUnsupported
        Big-endian words that a frame begins or ends in the middle of.
    """
    if element.length is not None:
        return _native(element, element.length, size, expected)
    return _encapsulated(read, size, element.start, expected)


def _native(element: PixelElement, length: int, size: int, expected: Expected) -> FrameIndex:
    needed = expected.frames * expected.frame_bytes
    if element.start + length > size:
        raise SourceUnreadable(f"A file ends {element.start + length - size} bytes before its pixel data do.")
    if length < needed:
        raise SlideIncomplete(f"Pixel data of {length} bytes cannot hold {expected.frames} frames ({needed} bytes).")
    if length > needed + needed % 2:
        raise SourceUnreadable(
            f"Pixel data of {length} bytes where {expected.frames} frames take {needed}: the metadata do not fit them."
        )
    if element.swapped and expected.frame_bytes % 2:
        raise PixelsUnsupported("Frames of an odd length in big-endian words: have the slide rewritten little-endian.")
    starts = element.start + np.arange(expected.frames, dtype=np.int64) * expected.frame_bytes
    lengths = np.full(expected.frames, expected.frame_bytes, np.int64)
    return FrameIndex(starts, lengths, np.arange(expected.frames + 1, dtype=np.int64), element.swapped)


@dataclass(frozen=True, slots=True, eq=False)
class _Fragments:
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    begins: NDArray[np.bool_]
    ended: bool


def _encapsulated(read: Read, size: int, at: int, expected: Expected) -> FrameIndex:
    head = read(at, 8)
    if len(head) < 8:
        raise SourceUnreadable("A file is cut off where its pixel data begin.")
    group, element, length = _ITEM_HEAD.unpack(head)
    if (group, element) != _ITEM or at + 8 + length > size:
        raise SourceUnreadable("The pixel data of a file do not begin with an offset table: it is cut off or damaged.")
    table = read(at + 8, length) if length == 4 * expected.frames else b""
    found = _walk(read, size, at + 8 + length, expected.frames)
    claimed = bool(length or expected.offsets)
    first = _by_tables(found, table, expected) if claimed else None
    notes = () if found.ended else (_NO_END,)
    if first is None:
        first = _by_marks(found, expected.frames)
        notes = (*notes, _WRONG_TABLE) if claimed else notes
    ends = np.append(first, len(found.starts)).astype(np.int64)
    return FrameIndex(found.starts, found.lengths, ends, notes=notes)


def _walk(read: Read, size: int, at: int, frames: int) -> _Fragments:
    """Go from item to item; only their heads are read."""
    starts, lengths, begins, ended = list[int](), list[int](), list[bool](), False
    while at < size:
        head = read(at, 8 + _LOOK)
        group, element, length = _ITEM_HEAD.unpack_from(head) if len(head) >= 8 else (0, 0, 0)
        if (group, element) == _DELIMITER:
            ended = True
            break
        if (group, element) != _ITEM or at + 8 + length > size:
            raise SourceUnreadable(
                f"Fragment {len(starts) + 1} of a file's pixel data is cut off or damaged (at byte {at} of {size})."
            )
        starts.append(at + 8)
        lengths.append(length)
        begins.append(begins_image(head[8 : 8 + min(length, _LOOK)]))
        if len(starts) > frames * _MOST_FRAGMENTS_A_FRAME:
            raise SourceUnreadable(f"The pixel data of a file have more than {len(starts) - 1} fragments.")
        at += 8 + length
    return _Fragments(np.asarray(starts, np.int64), np.asarray(lengths, np.int64), np.asarray(begins, bool), ended)


def _by_tables(found: _Fragments, table: bytes, expected: Expected) -> NDArray[np.int64] | None:
    """Return each frame's first fragment by the extended or the basic table; None if neither is right."""
    width = 8 * expected.frames
    extended = np.frombuffer(expected.offsets, "<u8") if len(expected.offsets) == width else None
    first = _first_fragments(found, extended, expected.frames)
    if first is not None and expected.lengths:
        sizes = np.add.reduceat(found.lengths, first)
        claimed = np.frombuffer(expected.lengths, "<u8") if len(expected.lengths) == width else np.zeros(0, "<u8")
        # A length is that of the frame, without the padding of its fragment to an even number of bytes.
        if claimed.shape != sizes.shape or not np.isin(sizes - claimed.astype(np.int64), (0, 1)).all():
            first = None
    if first is None:
        first = _first_fragments(found, np.frombuffer(table, "<u4") if table else None, expected.frames)
    return first


def _first_fragments(found: _Fragments, offsets: NDArray[np.uint] | None, frames: int) -> NDArray[np.int64] | None:
    if offsets is None or not 0 < frames <= len(found.starts) or (offsets >= np.iinfo(np.int64).max).any():
        return None
    wanted = offsets.astype(np.int64)
    places = found.starts - found.starts[0]  # offsets count from the first item after the table (PS3.5 A.4)
    first = np.searchsorted(places, wanted)
    increasing = wanted[0] == 0 and bool((np.diff(wanted) > 0).all())
    if not increasing or first[-1] >= len(places) or (places[first] != wanted).any():
        return None
    marked = np.flatnonzero(found.begins)
    if len(marked) == frames and (marked != first).any():
        return None  # the images in it begin elsewhere
    return first.astype(np.int64)


def _by_marks(found: _Fragments, frames: int) -> NDArray[np.int64]:
    """Return each frame's first fragment: one a frame if the count fits, else by the marks images begin with."""
    count = len(found.starts)
    if count == frames:
        return np.arange(frames, dtype=np.int64)
    if count < frames:
        raise SlideIncomplete(f"The pixel data of a file hold {count} fragments, the metadata promise {frames} frames.")
    marked = np.flatnonzero(found.begins)
    if len(marked) != frames or marked[0] != 0:
        raise SourceUnreadable(
            f"The pixel data of a file have {count} fragments for {frames} frames, and {len(marked)} begin an image: "
            "which belongs to which frame cannot be told. Have the slide rewritten with an offset table."
        )
    return marked.astype(np.int64)
