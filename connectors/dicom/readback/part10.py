"""A whole DICOM instance out of bytes from outside: parsed, or refused; never inflated without an end."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Final

import pydicom
import pydicom.errors
import pydicom.filereader
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from models.domain.errors import ResultCorrupt

# What pydicom raises on bytes that are damaged.
_DAMAGE: Final = (
    pydicom.errors.InvalidDicomError,
    pydicom.errors.BytesLengthException,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_UNDEFINED: Final = 0xFFFFFFFF
_META_GROUP: Final = 0x0002
_INFLATION: Final = 16  # embeddings hardly deflate at all; maps of much background somewhat
_ALWAYS_BYTES: Final = 64 << 20
_META_START: Final = 144  # preamble, prefix and the element that says how long the meta information is (PS3.10 7.1)


def instance_of(content: bytes) -> Dataset:
    """Return the instance in the bytes of a file (PS3.10 7.1), in whatever native transfer syntax.

    Raises
    ------
    ResultCorrupt
        They are no DICOM file, are cut off, or inflate to far more than they are.
    """
    with guarded("What was stored is no DICOM object, or a damaged one"):
        file = BytesIO(content)
        pydicom.filereader.read_preamble(file, force=False)
        meta = pydicom.filereader.read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != _META_GROUP
        )
        deflated = meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
        start = _META_START + int(meta.FileMetaInformationGroupLength) if deflated else 0
        dataset = _inflated(content, start) if deflated else pydicom.dcmread(BytesIO(content))
        if _is_cut(dataset):
            raise ResultCorrupt("The stored object ends in the middle: it was cut off.")
        return dataset


@contextmanager
def guarded(said: str) -> Iterator[None]:
    """Turn what pydicom raises while an object is read into `ResultCorrupt`, and keep its warnings to ourselves.

    They print values; and what pydicom does not convert when it parses, it does when an element is first looked at.

    Parameters
    ----------
    said : str
        The beginning of the message.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except _DAMAGE as exc:
        raise ResultCorrupt(f"{said} ({type(exc).__name__}).") from exc


def _inflated(content: bytes, start: int) -> Dataset:
    """Return a deflated instance (PS3.5 A.5); pydicom would inflate it however large it becomes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    plain = inflater.decompress(content[start:], _ALWAYS_BYTES + _INFLATION * len(content))
    if not inflater.eof:
        raise ResultCorrupt("The stored object is deflated, and cut off or of no plausible size: have it rewritten.")
    return pydicom.filereader.read_dataset(BytesIO(plain), is_implicit_VR=False, is_little_endian=True)


def _is_cut(dataset: Dataset) -> bool:
    """Whether an element is shorter than it says, which pydicom does not mind."""
    elements = [dataset.get_item(tag) for tag in dataset.keys()]  # noqa: SIM118 - iteration converts the elements
    read = [one for one in elements if isinstance(one, RawDataElement) and isinstance(one.value, bytes)]
    return any(one.length not in {len(one.value), _UNDEFINED} for one in read)


def class_of(dataset: Dataset) -> str:
    """Return the SOP Class UID of an instance; "" if it has none.

    Raises
    ------
    ResultCorrupt
        It cannot be read.
    """
    with guarded("The object does not say what it is"):
        return str(dataset.get("SOPClassUID", ""))


def is_big_endian(dataset: Dataset) -> bool:
    """Whether the binary values of an instance (OF, OD, OL), which pydicom leaves alone, are big-endian (PS3.5 7.3)."""
    return dataset.original_encoding[1] is False
