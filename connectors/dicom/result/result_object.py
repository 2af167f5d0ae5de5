"""One DICOM object of a result, ready to be written."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from pydicom.dataset import Dataset

from connectors.dicom.result.derived import to_bytes
from connectors.dicom.result.measurements import file_chunks
from models.domain.embedding import Embeddings


@dataclass(frozen=True)
class ResultObject:
    """One object, ready to be written.

    Parameters
    ----------
    kind : str
        ``annotations``, ``map`` or ``report``.
    number : int
        1-based, among those of its kind.
    dataset : Dataset
        The object; of annotations all but the measurements, which may be very large. Who needs them parses the bytes.
    values_sha256 : str
        What tells another object under the same UID from this one, as `compare_stored` finds it in either: of
        annotations `Embeddings.digest` of this object's patches, of a report that of the whole result, of a map the
        sha256 of its pixels.
    measured : Embeddings or None
        Of annotations: the patches whose values are the measurements.
    """

    kind: str
    number: int
    dataset: Dataset
    values_sha256: str
    measured: Embeddings | None = None

    @property
    def suffix(self) -> str:
        """What its file's name ends in."""
        return f".{self.kind}.dcm" if self.number == 1 else f".{self.kind}-{self.number}.dcm"

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes (PS3.10 7.1), in parts that do not fill the memory; the same each time."""
        if self.measured is None:
            yield to_bytes(self.dataset)
        else:
            yield from file_chunks(self.dataset, self.measured.matrix)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._gone_through[0]

    @property
    def sha256(self) -> str:
        """Digest of the file's bytes."""
        return self._gone_through[1]

    @cached_property
    def _gone_through(self) -> tuple[int, str]:
        size, state = 0, hashlib.sha256()
        for chunk in self.chunks():
            size += len(chunk)
            state.update(chunk)
        return size, state.hexdigest()
