"""Result objects read back, strictly: a number that is missing or changed is an error, never a gap.

Read whole instances only. A server's metadata may hold the first of a component's values and no more
(Orthanc 1.10), which would look like a slide of one patch.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydicom.dataset import Dataset

from connectors.dicom.readback.annotations import AnnotationPart, read_part
from connectors.dicom.readback.joined import joined, verified
from connectors.dicom.readback.parametric_map import PARAMETRIC_MAP, read_map
from connectors.dicom.readback.part10 import class_of, guarded
from connectors.dicom.readback.slide_levels import FindSlide
from connectors.dicom.readback.stored import StoredEmbeddings
from connectors.dicom.result.concepts import VALUES_SHA256
from connectors.dicom.result.derived import ANNOTATIONS, REPORT
from models.domain.errors import ResultCorrupt, ResultError, ResultNotFound

_DEEPEST = 16


def no_slide(series_uid: str) -> Sequence[Mapping[str, Any]]:
    """Return nothing: a `FindSlide` where no slide can be had."""
    del series_uid
    return ()


def read_objects(datasets: Iterable[Dataset], group: str = "", find_slide: FindSlide = no_slide) -> StoredEmbeddings:
    """Return the embeddings in the annotations objects of one result, or in a Parametric Map, of any writer.

    Parameters
    ----------
    datasets : iterable of Dataset
        Whole instances: all parts of the result, in any order, or the one object that there is. Taken one at a time,
        and let go of.
    group : str
        Number or label of the annotation group; "": the only one with measurements.
    find_slide : callable
        Looks the slide up that an object of another writer refers to.

    Raises
    ------
    ResultNotFound
        There are no annotations and no map, or several to choose from.
    ResultCorrupt
        A list has another length than it should, a part is missing, or the values are not those of the recorded digest.
    """
    remaining = iter(datasets)
    first = next(remaining, None)
    if first is None:
        raise ResultNotFound("There is no object to read embeddings from.")
    if class_of(first) == PARAMETRIC_MAP:
        _alone(remaining)
        return _guarded_map(first, find_slide)
    read = _guarded_part(first, group, find_slide)
    del first  # the numbers were copied
    if read.record is not None:
        return joined(read, (_guarded_part(dataset, group, find_slide) for dataset in remaining))
    _alone(remaining)
    return read.stored()


def read_annotations(dataset: Dataset, group: str = "") -> StoredEmbeddings:
    """Return the embeddings in the one annotations object of a result; see `read_objects`."""
    return read_objects([dataset], group)


def report_digest(dataset: Dataset) -> str:
    """Return the digest of the embeddings that a report records.

    Raises
    ------
    ResultNotFound
        It is no report, or none of Slidewire's.
    ResultCorrupt
        It cannot be read.
    """
    if class_of(dataset) != REPORT.sop_class_uid:
        raise ResultNotFound("The object is no report on embeddings.")
    with guarded("The report is damaged: an attribute is missing or malformed"):
        texts = [str(item.TextValue) for item in _items(dataset, 0) if _is_digest(item)]
    if len(texts) != 1:
        raise ResultNotFound("The report records no digest of embeddings; Slidewire did not write it.")
    return texts[0]


def compare_stored(values_sha256: str, kind: str, theirs: Dataset) -> bool:
    """Whether an object from an archive holds the values of the one we would store.

    Annotations: the values and boxes of that part themselves. Maps: their pixels. Reports: the recorded digest. What
    cannot be read, or is something else, does not hold them.

    Parameters
    ----------
    values_sha256, kind : str
        Of the `connectors.dicom.result.result_object.ResultObject`.
    theirs : Dataset
        A whole instance.
    """
    try:
        return values_digest(kind, theirs) == values_sha256
    except ResultError:
        return False


def values_digest(kind: str, dataset: Dataset) -> str:
    """Return what `ResultObject.values_sha256` is of an object of that kind, from the object alone.

    Raises
    ------
    ResultError
        It is no such object, or damaged.
    """
    if kind == "report":
        return report_digest(dataset)
    if kind == "map":
        if class_of(dataset) != PARAMETRIC_MAP:
            raise ResultNotFound("The object is no map.")
        pixels = dataset.get("FloatPixelData")
        if not isinstance(pixels, bytes):
            raise ResultCorrupt("The map has no pixels in float32.")
        return hashlib.sha256(pixels).hexdigest()
    part = _guarded_part(dataset, "", no_slide)
    if part.record is None:
        raise ResultNotFound("The annotations are not Slidewire's.")
    return verified(part).digest


def _alone(remaining: Iterator[Dataset]) -> None:
    if next(remaining, None) is not None:
        raise ResultNotFound("There are several objects to choose from that are not parts of one result: give one.")


def _guarded_part(dataset: Dataset, group: str, find_slide: FindSlide) -> AnnotationPart:
    if class_of(dataset) != ANNOTATIONS.sop_class_uid:
        raise ResultNotFound("The object holds no annotations, so no embeddings.")
    with guarded("The annotations object is damaged: an attribute is missing or malformed"):
        return read_part(dataset, group, find_slide)


def _guarded_map(dataset: Dataset, find_slide: FindSlide) -> StoredEmbeddings:
    with guarded("The map is damaged: an attribute is missing or malformed"):
        return read_map(dataset, find_slide)


def _items(dataset: Dataset, depth: int) -> Iterator[Dataset]:
    """Yield the content items of a report, at any depth."""
    children: Iterable[Dataset] = dataset.get("ContentSequence") or []
    for item in children if depth < _DEEPEST else ():
        yield item
        yield from _items(item, depth + 1)


def _is_digest(item: Dataset) -> bool:
    if item.get("ValueType") != "TEXT":
        return False
    name = item.ConceptNameCodeSequence[0]
    return bool(
        name.get("CodeValue") == VALUES_SHA256.value
        and name.get("CodingSchemeDesignator") == VALUES_SHA256.scheme_designator
    )
