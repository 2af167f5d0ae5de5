"""One DICOM Part 10 file: its header, and its frames one at a time; the file is never read whole."""

import os
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
import pydicom
import pydicom.errors
import pydicom.filereader

from connectors.dicom.attributes import Json, integer, text
from connectors.dicom.pixel_data import Expected, FrameIndex, index_frames, pixel_element
from models.domain.errors import FrameMissing, SourceUnreadable
from models.imaging.codestream import longest_frame
from models.imaging.syntax import DEFLATED_LITTLE_ENDIAN

# What pydicom raises on a damaged file.
_DAMAGE: Final = (
    pydicom.errors.InvalidDicomError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_ROWS, _COLUMNS = "00280010", "00280011"
_PIXEL_DATA: Final = 0x7FE00010
_EXTENDED_TABLE, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
_RUN_BYTES: Final = 4 << 20  # frames that lie side by side are read together, up to this
_GAP_BYTES: Final = 4096
_MOST_INFLATED_BYTES: Final = 1 << 28
_PIECE_BYTES: Final = 1 << 20
_META_START: Final = 144  # preamble, prefix and the element that says how long the meta information is (PS3.10 7.1)

Span = tuple[int, int]
"""Offset in the file, and bytes."""


class DicomFile:
    """A DICOM file, opened for a moment whenever something is read.

    Frames are read with `os.pread` and not mapped: where a file is cut short or its disk fails while it is read, that
    is an error here, and would be the end of the process there (SIGBUS).

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    header : DICOM JSON
        Everything before the pixels, and the file's meta information.
    reads, bytes_read : int
        What was read of frames.

    Raises
    ------
    SourceUnreadable
        The file is no DICOM, or damaged.
    OSError
        It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inflated: bytes | None = None
        self._lock, self.reads, self.bytes_read = threading.Lock(), 0, 0
        with path.open("rb") as file:
            self._state = _state_of(file.fileno())
            try:
                self._read_header(file)
            except _DAMAGE as exc:
                raise SourceUnreadable(f"{path.name} is damaged DICOM ({type(exc).__name__}).") from exc

    def _read_header(self, file: BinaryIO) -> None:
        meta: Any = pydicom.filereader.read_file_meta_info(self.path)
        if str(meta.TransferSyntaxUID) == DEFLATED_LITTLE_ENDIAN:
            file.seek(_META_START + int(meta.FileMetaInformationGroupLength))
            self._inflated = _inflate(file, self.path.name)
            file = BytesIO(self._inflated)
            dataset: Any = pydicom.filereader.read_dataset(
                file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag == _PIXEL_DATA
            )
            self._implicit, self._little_endian = False, True
        else:
            dataset = pydicom.dcmread(file, stop_before_pixels=True)
            self._implicit, self._little_endian = dataset.original_encoding
        self._pixels_at = file.tell()
        self._tables = [
            bytes(dataset.pop(tag).value or b"") if tag in dataset else b""
            for tag in (_EXTENDED_TABLE, _EXTENDED_LENGTHS)
        ]
        self.header: Json = dataset.to_json_dict(suppress_invalid_tags=True)
        self.header.update(meta.to_json_dict())

    @property
    def transfer_syntax(self) -> str:
        """The file's transfer syntax (0002,0010)."""
        return text(self.header, "00020010")

    @cached_property
    def index(self) -> FrameIndex:
        """Where the frames lie.

        Raises
        ------
        SourceUnreadable, SlideIncomplete, PixelsUnsupported
            As for `index_frames`.
        """
        pixels = integer(self.header, _ROWS) * integer(self.header, _COLUMNS)
        # Two pixels of YBR_FULL_422 share their chroma (PS3.3 C.7.6.3.1.2).
        samples = 2 if text(self.header, "00280004") == "YBR_FULL_422" else integer(self.header, "00280002")
        frame_bytes = pixels * samples * (integer(self.header, "00280100") // 8)
        frames = max(1, integer(self.header, "00280008"))
        with _Open(self.path, self._state, self._inflated) as data:
            at, implicit, little = self._pixels_at, self._implicit, self._little_endian
            element = pixel_element(data.read, at, implicit=implicit, little_endian=little)
            return index_frames(data.read, data.size, element, Expected(frames, frame_bytes, *self._tables))

    def frames(self, numbers: Sequence[int]) -> Iterator[bytes | memoryview]:
        """Yield frames in the order asked; those that lie side by side are read together.

        Of a frame that is longer than any can be, only so much is read as it takes to refuse it.

        Parameters
        ----------
        numbers : sequence of int
            DICOM's, from 1.

        Raises
        ------
        FrameMissing
            The file has no such frame.
        SourceUnreadable
            The file was cut off or changed since it was opened, or its disk fails.
        """
        index = self.index
        for number in numbers:
            if not 0 < number <= len(index):
                raise FrameMissing(f"{self.path.name} has {len(index)} frames: frame {number} is not among them.")
        most = longest_frame(3 * integer(self.header, _ROWS) * integer(self.header, _COLUMNS)) + 1
        wanted = [_bounded(index.spans(number), most) for number in numbers]
        with _Open(self.path, self._state, self._inflated) as data:
            for run in _runs(wanted):
                start, stop = _extent(run)
                block = memoryview(data.read(start, stop - start))
                if len(block) < stop - start:
                    raise SourceUnreadable(
                        f"{self.path.name} ends before its frames: it was cut off while it was read."
                    )
                with self._lock:
                    self.reads, self.bytes_read = self.reads + 1, self.bytes_read + len(block)
                for spans in run:
                    parts = [block[at - start : at - start + length] for at, length in spans]
                    frame = parts[0] if len(parts) == 1 else b"".join(parts)
                    yield _swapped(frame) if index.swapped else frame

    def close(self) -> None:
        """Let go of what was inflated; its frames cannot be read any more."""
        self._inflated = None if self._inflated is None else b""


def _bounded(spans: Sequence[Span], most: int) -> list[Span]:
    kept = []
    for start, length in spans:
        kept.append((start, min(length, most)))
        most -= length
        if most <= 0:
            break
    return kept


def _extent(run: Sequence[Sequence[Span]]) -> Span:
    last, length = run[-1][-1]
    return run[0][0][0], last + length


def _runs(wanted: Sequence[Sequence[Span]]) -> Iterator[list[Sequence[Span]]]:
    """Put frames together that lie side by side, forwards, within a few bytes."""
    run: list[Sequence[Span]] = []
    for spans in wanted:
        if run:
            start, stop = _extent(run)
            _, end = _extent([spans])
            if not (0 <= spans[0][0] - stop <= _GAP_BYTES and end - start <= _RUN_BYTES):
                yield run
                run = []
        run.append(spans)
    if run:
        yield run


def _swapped(frame: bytes | memoryview) -> bytes:
    return np.frombuffer(frame, np.uint16).byteswap().tobytes()


def _state_of(descriptor: int) -> tuple[int, int]:
    state = os.fstat(descriptor)
    return state.st_size, state.st_mtime_ns


class _Open:
    """A file's bytes for as long as they are wanted; refuses a file that is no longer the one that was opened first."""

    def __init__(self, path: Path, state: tuple[int, int], inflated: bytes | None) -> None:
        self._path, self._state, self._inflated = path, state, inflated
        self.size = state[0] if inflated is None else len(inflated)

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            raise SourceUnreadable(f"{self._path.name} cannot be read any more: {exc.strerror}.") from exc
        if _state_of(self._descriptor) != self._state:
            self.__exit__()
            raise SourceUnreadable(f"{self._path.name} was changed while it was being read: try again when it is done.")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes from an offset; fewer where the file ends."""
        if self._inflated is not None:
            return self._inflated[offset : offset + length]
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as exc:
            raise SourceUnreadable(f"{self._path.name} cannot be read: {exc.strerror}.") from exc


def _inflate(file: BinaryIO, name: str) -> bytes:
    """Inflate what is left of a file (PS3.5 A.5), and no more than fits."""
    inflater, pieces, size = zlib.decompressobj(-zlib.MAX_WBITS), [], 0
    while not inflater.eof:
        packed = inflater.unconsumed_tail or file.read(_PIECE_BYTES)
        if not packed:
            raise SourceUnreadable(f"{name} is cut off: its deflated data have no end.")
        pieces.append(inflater.decompress(packed, _PIECE_BYTES))
        size += len(pieces[-1])
        if size > _MOST_INFLATED_BYTES:
            raise SourceUnreadable(
                f"{name} inflates to more than {_MOST_INFLATED_BYTES >> 20} MiB: have it rewritten in another syntax."
            )
    return b"".join(pieces)
