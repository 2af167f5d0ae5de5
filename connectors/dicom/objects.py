"""The DICOM objects of a result, in the order in which they refer to each other."""

from collections.abc import Iterator
from dataclasses import replace

from pydicom.dataset import Dataset

from connectors.dicom.annotations import build_annotations
from connectors.dicom.report import build_report
from connectors.protocols import Result


def build_objects(result: Result) -> Iterator[tuple[str, Dataset]]:
    """Yield kind and object: annotations, which need a patch at least, then the report that refers to them."""
    result = replace(result, embeddings=result.embeddings.whole())  # no annotation of a patch without numbers
    annotations = build_annotations(result) if len(result.embeddings) else None
    if annotations is not None:
        yield "annotations", annotations
    yield "report", build_report(result, annotations)
