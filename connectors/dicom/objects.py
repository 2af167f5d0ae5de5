"""The DICOM objects of a result, in the order in which they refer to each other."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from pydicom.dataset import Dataset

from connectors.dicom.annotations import build_annotations
from connectors.dicom.derived import to_bytes
from connectors.dicom.report import build_report
from connectors.protocols import Result


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
        The object.
    """

    kind: str
    number: int
    dataset: Dataset

    @property
    def suffix(self) -> str:
        """What its file's name ends in."""
        return f".{self.kind}.dcm" if self.number == 1 else f".{self.kind}-{self.number}.dcm"

    def chunks(self) -> Iterator[bytes]:
        """Yield the file's bytes (PS3.10 7.1), in parts that do not fill the memory."""
        yield to_bytes(self.dataset)

    @cached_property
    def sha256(self) -> str:
        """Digest of the file's bytes."""
        state = hashlib.sha256()
        for chunk in self.chunks():
            state.update(chunk)
        return state.hexdigest()


def build_objects(result: Result, *, maps: bool = False) -> Iterator[ResultObject]:
    """Yield the objects of a result: annotations, which need a patch at least, maps, then the report on them.

    Parameters
    ----------
    result : Result
    maps : bool
        Whether a Parametric Map is wanted, too.
    """
    result = replace(result, embeddings=result.embeddings.whole())  # no annotation of a patch without numbers
    made = []
    if len(result.embeddings):
        made.append(ResultObject("annotations", 1, build_annotations(result)))
        yield made[-1]
    del maps
    yield ResultObject("report", 1, build_report(result, made[0].dataset if made else None))
