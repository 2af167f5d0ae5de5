"""The file of an annotations object, written around its values: they are never held a second time.

pydicom encodes all that is small. The items of Measurements Sequence (0066,0121), one a component, differ in the name
of the component and in a column of the matrix, so they are put together here from bytes whose lengths are known
beforehand (Explicit VR Little Endian, PS3.5 7.1.2, all lengths defined), and go where their tag belongs in the group.
"""

import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sr.coding import Code
from pydicom.tag import Tag

from connectors.dicom.result import concepts
from connectors.dicom.result.derived import to_bytes
from models.domain.errors import ResultError

_GROUPS, _MEASUREMENTS = Tag("AnnotationGroupSequence"), Tag("MeasurementsSequence")
_NAME, _UNITS = Tag("ConceptNameCodeSequence"), Tag("MeasurementUnitsCodeSequence")
_VALUES, _NUMBERS = Tag("MeasurementValuesSequence"), Tag("FloatingPointValues")
_CODE, _MEANING = Tag("CodeValue"), Tag("CodeMeaning")
_SCHEME, _SCHEME_VERSION = Tag("CodingSchemeDesignator"), Tag("CodingSchemeVersion")
_ITEM = 0xFFFEE000
_LONGEST = 2**32 - 2  # a defined length (PS3.5 7.1.2)
_BLOCK_BYTES = 2**22  # of values in a chunk
_ROWS = 256  # transposed at a time: their share of a chunk stays in the processor's cache, which halves the time


def file_chunks(dataset: Dataset, matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """Yield the file of an annotations object whose first group still lacks its measurements.

    Parameters
    ----------
    dataset : Dataset
        UTF-8; its first annotation group has as many annotations as the matrix has rows.
    matrix : float32 array, shape (N, D)
        A row an annotation, a column a measurement.

    Raises
    ------
    ResultError
        A length does not fit in 32 bits.
    """
    group, *others = dataset.AnnotationGroupSequence
    heads = [_measurement_head(index, len(matrix)) for index in range(matrix.shape[1])]
    before = _encoded(group[:_MEASUREMENTS])
    after = _encoded(group[_MEASUREMENTS:])
    rest = b"".join(_item(_encoded(other)) for other in others)
    measured = sum(map(len, heads)) + matrix.size * 4
    before += _long(_MEASUREMENTS, "SQ", measured)
    before = _item_head(len(before) + measured + len(after)) + before
    start = dataset[:_GROUPS]
    start.file_meta = dataset.file_meta
    yield to_bytes(start) + _long(_GROUPS, "SQ", len(before) + measured + len(after) + len(rest)) + before
    yield from _columns(heads, matrix)
    yield after + rest + _encoded(dataset[_GROUPS + 1 :])


def _columns(heads: list[bytes], matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """Yield each head and the column that it is for, some at a time."""
    width = max(1, _BLOCK_BYTES // max(1, 4 * len(matrix)))
    for start in range(0, len(heads), width):
        some = heads[start : start + width]
        block = np.empty((len(some), len(matrix)), "<f4")
        for row in range(0, len(matrix), _ROWS):
            block[:, row : row + _ROWS] = matrix[row : row + _ROWS, start : start + width].T
        yield b"".join(part for head, column in zip(some, block, strict=True) for part in (head, column.data))


def _measurement_head(index: int, count: int) -> bytes:
    """Return a measurement (PS3.3 Table C.37.1.2-2) up to its `count` values, which end it."""
    size = 4 * count
    values = _long(_NUMBERS, "OF", size)
    values = _item_head(len(values) + size) + values
    head = _coded(_UNITS, concepts.NO_UNITS) + _coded(_NAME, concepts.component(index))
    head += _long(_VALUES, "SQ", len(values) + size) + values
    return _item_head(len(head) + size) + head


def _coded(tag: int, code: Code) -> bytes:
    """Return a sequence of one code, as `concepts.code_item` makes it (PS3.3 8.8)."""
    content = _short(_CODE, "SH", code.value) + _short(_SCHEME, "SH", code.scheme_designator)
    if code.scheme_version:
        content += _short(_SCHEME_VERSION, "SH", code.scheme_version)
    item = _item(content + _short(_MEANING, "LO", code.meaning))
    return _long(tag, "SQ", len(item)) + item


def _short(tag: int, vr: str, text: str) -> bytes:
    value = text.encode()
    value += b" " * (len(value) % 2)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


def _long(tag: int, vr: str, length: int) -> bytes:
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr.encode(), 0, _checked(length))


def _item_head(length: int) -> bytes:
    return struct.pack("<HHL", _ITEM >> 16, _ITEM & 0xFFFF, _checked(length))


def _item(content: bytes) -> bytes:
    return _item_head(len(content)) + content


def _checked(length: int) -> int:
    if length > _LONGEST:
        raise ResultError("The annotations are too large for one DICOM object (4 GB): write a table instead.")
    return length


def _encoded(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, dataset, "utf8")
    return bytes(buffer.getvalue())
