"""Frames are found where they are, whatever the tables say; where that cannot be told, nothing is given."""

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.dicom.pixel_data import Expected, FrameIndex, PixelElement, index_frames, pixel_element
from models.domain.errors import PixelsUnsupported, SlideIncomplete, SlidewireError, SourceUnreadable

JPEG = b"\xff\xd8\xff\xdb"
_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def item(body: bytes) -> bytes:
    """Return an item of even length."""
    body += b"\0" * (len(body) % 2)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body


def frame(number: int, fragments: int = 1) -> list[bytes]:
    """Return the fragments of a frame, the first with the mark of a JPEG."""
    body = [bytes([number, part]) * (3 + number % 5) for part in range(fragments)]
    return [JPEG + body[0], *body[1:]]


def starts_of(frames: Sequence[Sequence[bytes]]) -> list[int]:
    """Return the offsets of the frames, from the first fragment's item on."""
    sizes = [sum(len(item(part)) for part in parts) for parts in frames]
    return [sum(sizes[:place]) for place in range(len(sizes))]


def value_of(frames: Sequence[Sequence[bytes]], table: Sequence[int] = (), *, end: bytes = _END) -> bytes:
    """Return the value of an encapsulated Pixel Data element (PS3.5 A.4)."""
    basic = item(b"".join(struct.pack("<I", offset) for offset in table))
    return basic + b"".join(item(part) for parts in frames for part in parts) + end


def index(data: bytes, expected: Expected, start: int = 0, length: int | None = None) -> FrameIndex:
    """Index a value."""
    return index_frames(lambda at, size: data[at : at + size], len(data), PixelElement(start, length), expected)


def given_by(data: bytes, found: FrameIndex) -> list[bytes]:
    """Return all frames that an index finds."""
    spans = (found.spans(number) for number in range(1, len(found) + 1))
    return [b"".join(data[at : at + length] for at, length in parts) for parts in spans]


def joined(frames: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Return frames with the padding of their fragments."""
    return [b"".join(item(part)[8:] for part in parts) for parts in frames]


SPLIT = [frame(0), frame(1, 3), frame(2), frame(3, 2)]
WHOLE = [frame(number) for number in range(5)]


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_value_that_is_cut_off_is_an_error(cut: int) -> None:
    """Wherever Pixel Data break off, they are refused; only the delimiter may be missing, and that is told."""
    data = value_of(WHOLE, starts_of(WHOLE))
    kept = data[: -min(cut, len(data))]
    if cut == len(_END):
        found = index(kept, Expected(5, 1))
        assert given_by(kept, found) == joined(WHOLE)
        assert "delimiter" in found.notes[0]
        return
    with pytest.raises((SourceUnreadable, SlideIncomplete)):
        index(kept, Expected(5, 1))


def test_an_item_longer_than_the_file() -> None:
    """An item that reaches beyond the file, or has no length, is refused before anything is read for it."""
    data = bytearray(value_of(WHOLE))
    for length in (1 << 20, 0xFFFFFFFF):
        struct.pack_into("<I", data, 8 + 4, length)
        with pytest.raises(SourceUnreadable, match="Fragment 1 "):
            index(bytes(data), Expected(5, 1))


def test_an_offset_table_longer_than_the_file() -> None:
    """A Basic Offset Table that claims more than the file has is refused."""
    data = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFF0) + value_of(WHOLE)
    with pytest.raises(SourceUnreadable, match="offset table"):
        index(data, Expected(5, 1))


def test_fewer_fragments_than_frames() -> None:
    """Frames that are not there are not made of others."""
    with pytest.raises(SlideIncomplete, match="5 fragments"):
        index(value_of(WHOLE, starts_of(WHOLE)), Expected(6, 1))


def test_fragments_that_cannot_be_told_apart() -> None:
    """More fragments than frames, no table, and marks that do not come out: refused, not guessed."""
    unmarked = [[b"\1" * 6, b"\2" * 6], [b"\3" * 6]]
    with pytest.raises(SourceUnreadable, match="3 fragments for 2 frames, and 0 begin"):
        index(value_of(unmarked), Expected(2, 1))
    with pytest.raises(SourceUnreadable, match="3 fragments for 2 frames"):
        index(value_of(unmarked, [14, 28]), Expected(2, 1))  # a table that leaves the first fragment out
    late = [[b"\1" * 6, JPEG], [JPEG]]
    with pytest.raises(SourceUnreadable, match="2 begin"):
        index(value_of(late), Expected(2, 1))


def test_fragments_without_end() -> None:
    """A file of nothing but empty fragments is given up on, not counted to its end."""
    data = item(b"") + item(b"") * 5000 + _END
    with pytest.raises(SourceUnreadable, match="more than 4096 fragments"):
        index(data, Expected(1, 1))


@pytest.mark.parametrize(
    "table",
    [
        pytest.param([0, 0, 0, 0], id="zeros"),
        pytest.param([8, 26, 58, 70], id="from elsewhere"),
        pytest.param(list(reversed(starts_of(SPLIT))), id="backwards"),
        pytest.param([*starts_of(SPLIT)[:3], starts_of(SPLIT)[3] + 2], id="beside a fragment"),
        pytest.param([*starts_of(SPLIT)[:3], 1 << 30], id="beyond"),
        pytest.param([0, starts_of([frame(0), frame(1)])[1], 48, 60], id="in the middle of a frame"),
        pytest.param(starts_of(SPLIT)[:3], id="too short"),
        pytest.param([*starts_of(SPLIT), 4], id="too long"),
    ],
)
def test_wrong_tables_are_not_followed(table: list[int]) -> None:
    """Frames are found by their fragments' marks instead, and that is told; a basic and an extended table alike."""
    data = value_of(SPLIT, table)
    found = index(data, Expected(4, 1))
    assert given_by(data, found) == joined(SPLIT)
    assert "offset table is wrong" in found.notes[0]
    data = value_of(SPLIT)
    found = index(data, Expected(4, 1, struct.pack(f"<{len(table)}Q", *table)))
    assert given_by(data, found) == joined(SPLIT)
    assert "offset table is wrong" in found.notes[0]


@pytest.mark.parametrize(
    "table",
    [[0, 28, 14, 42], [0, 16, 28, 42], [0, 14, 14, 42], [0, 14, 28, 56], [14, 14, 28, 42]],
    ids=["out of order", "beside", "twice", "beyond", "not from the first"],
)
def test_wrong_tables_of_frames_without_marks(table: list[int]) -> None:
    """Where no image's mark can contradict it, a table is held against the fragments alone."""
    frames = [[bytes([number]) * 6] for number in range(4)]
    assert starts_of(frames) == [0, 14, 28, 42]
    data = value_of(frames, table)
    found = index(data, Expected(4, 1))
    assert given_by(data, found) == joined(frames)
    assert "offset table is wrong" in found.notes[0]


def test_a_table_that_misses_the_images() -> None:
    """A table whose entries are fragments, but not those that images begin in, is wrong, too."""
    moved = [SPLIT[0], SPLIT[1][:2], [*SPLIT[1][2:], *SPLIT[2]], SPLIT[3]]
    data = value_of(SPLIT, starts_of(moved))
    found = index(data, Expected(4, 1))
    assert given_by(data, found) == joined(SPLIT)
    assert found.notes


def test_extended_lengths_that_are_wrong() -> None:
    """An Extended Offset Table whose lengths are not those of its frames is not followed."""
    data, offsets = value_of(WHOLE), struct.pack("<5Q", *starts_of(WHOLE))
    for lengths in (struct.pack("<5Q", 1, 2, 3, 4, 5), b"\0" * 8, struct.pack("<5Q", *[1 << 63] * 5)):
        found = index(data, Expected(5, 1, offsets, lengths))
        assert given_by(data, found) == joined(WHOLE)
        assert "offset table is wrong" in found.notes[0]


@pytest.mark.parametrize("frames", [WHOLE, SPLIT])
def test_right_tables_are_followed(frames: list[list[bytes]]) -> None:
    """Basic and extended tables that hold give the frames without a remark; lengths may leave padding out."""
    starts = starts_of(frames)
    data, count = value_of(frames, starts), len(frames)
    assert given_by(data, index(data, Expected(count, 1))) == joined(frames)
    assert index(data, Expected(count, 1)).notes == ()
    data = value_of(frames)
    lengths = [sum(len(part) for part in parts[:-1]) + len(parts[-1]) for parts in frames]
    exact = struct.pack(f"<{count}Q", *starts), struct.pack(f"<{count}Q", *lengths)
    found = index(data, Expected(count, 1, *exact))
    assert (given_by(data, found), found.notes) == (joined(frames), ())


@pytest.mark.parametrize("frames", [WHOLE, SPLIT, [[b"\1" * 6], [b""], [b"\2" * 6]], [frame(0, 7)]])
def test_no_table_is_no_fault(frames: list[list[bytes]]) -> None:
    """Without a table, frames are one fragment each, empty ones too, or begin where their marks are."""
    data = value_of(frames)
    found = index(data, Expected(len(frames), 1))
    assert (given_by(data, found), found.notes) == (joined(frames), ())


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12), st.booleans())
def test_frames_never_shift(fragments: list[int], table: bool) -> None:  # noqa: FBT001 - hypothesis gives it
    """However frames are cut into fragments, each frame is its own bytes."""
    frames = [frame(number, count) for number, count in enumerate(fragments)]
    data = value_of(frames, starts_of(frames) if table else ())
    assert given_by(data, index(data, Expected(len(frames), 1))) == joined(frames)


@given(st.binary(max_size=200), st.integers(1, 9), st.binary(max_size=40), st.binary(max_size=40))
def test_nothing_but_our_errors(data: bytes, frames: int, offsets: bytes, lengths: bytes) -> None:
    """Whatever the bytes and tables, there is an index within the file or an error of ours."""
    for body in (data, value_of(WHOLE[:2])[:20] + data, item(data) + item(data) + _END):
        try:
            found = index(body, Expected(frames, 7, offsets, lengths))
        except SlidewireError:
            continue
        for number in range(1, frames + 1):
            assert all(at >= 0 and at + length <= len(body) for at, length in found.spans(number))


@pytest.mark.parametrize("spare", [0, 1])
def test_native_frames_by_arithmetic(spare: int) -> None:
    """Uncompressed frames lie one after the other; an odd total has one byte of padding."""
    data = bytes(range(3 * 9 + spare))
    found = index(b"head" + data, Expected(3, 9), 4, len(data))
    assert given_by(b"head" + data, found) == [data[0:9], data[9:18], data[18:27]]


def test_native_pixels_of_another_length() -> None:
    """Too few are incomplete, too many contradict the metadata, and a file that ends early is cut off."""
    with pytest.raises(SlideIncomplete):
        index(bytes(26), Expected(3, 9), 0, 26)
    with pytest.raises(SourceUnreadable, match="do not fit"):
        index(bytes(36), Expected(3, 9), 0, 36)
    with pytest.raises(SourceUnreadable, match="ends 2 bytes before"):
        index(bytes(26), Expected(3, 9), 0, 28)


def test_words_that_begin_in_a_frame_and_end_in_the_next() -> None:
    """Big-endian words can only be turned within a frame."""
    element = PixelElement(0, 28, swapped=True)
    with pytest.raises(PixelsUnsupported, match="big-endian"):
        index_frames(lambda at, size: bytes(28)[at : at + size], 28, element, Expected(3, 9))


def test_heads_of_the_element() -> None:
    """Explicit and implicit, little and big-endian heads are read; what is none is refused."""

    def head(data: bytes, *, implicit: bool = False, little: bool = True) -> PixelElement:
        return pixel_element(lambda at, size: data[at : at + size], 0, implicit=implicit, little_endian=little)

    explicit = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    assert head(explicit) == PixelElement(12, None)
    assert head(struct.pack("<HHI", 0x7FE0, 0x0010, 77) + bytes(4), implicit=True) == PixelElement(8, 77)
    big = struct.pack(">HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 77)
    assert head(big, little=False) == PixelElement(12, 77, swapped=True)
    assert not head(big.replace(b"OW", b"OB"), little=False).swapped
    for wrong in (explicit[:11], b"", big, explicit.replace(b"OB", b"OF"), b"\xe0\x7f\x08\0" + explicit[4:]):
        with pytest.raises(SourceUnreadable):
            head(wrong)
