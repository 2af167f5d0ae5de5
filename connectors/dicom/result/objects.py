"""The DICOM objects of a result, in the order in which they refer to each other."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from connectors.dicom.result.annotations import annotate
from connectors.dicom.result.maps import build_map, pixel_digest
from connectors.dicom.result.report import build_report
from connectors.dicom.result.result_object import ResultObject
from connectors.protocols import Result
from models.domain.embedding import ResultKey


def build_objects(
    result: Result, *, maps: bool = False, refused: Mapping[str, str] | None = None
) -> Iterator[ResultObject]:
    """Yield the objects of a result: annotations, which need a patch at least, maps, then the report on them.

    Parameters
    ----------
    result : Result
    maps : bool
        Whether a Parametric Map is wanted, too.
    refused : mapping of str to str, or None
        Kinds that the archive does not take, and a note on each: they are left out, and the report says so.
    """
    refused = refused or {}
    maps = maps and "map" not in refused
    holes = result.embeddings.boxes[result.embeddings.holes]
    result = replace(result, embeddings=result.embeddings.whole())  # no annotation of a patch without numbers
    made = []
    for annotations in () if "annotations" in refused else annotate(result, holes):
        made.append(annotations)
        yield annotations
    if maps:
        mapped, notes = build_map(result)
        if mapped is not None:
            made.append(ResultObject("map", 1, mapped, pixel_digest(mapped)))
            yield made[-1]
        result = _with_map(result, notes, there=mapped is not None)
    report = build_report(_telling(result, refused), made)
    yield ResultObject("report", 1, report, result.embeddings.digest)


def _with_map(result: Result, notes: tuple[str, ...], *, there: bool) -> Result:
    """Return the result as a report tells it that refers to a map, too, or says why there is none."""
    key = ResultKey.of({"result": result.key.sha256, "map": there})
    notes = (*result.provenance.notes, *notes)
    return replace(result, key=key, provenance=replace(result.provenance, notes=notes))


def _telling(result: Result, refused: Mapping[str, str]) -> Result:
    """Return the result as a report tells it that lacks something: another object than the one that refers to all."""
    if not refused:
        return result
    key = ResultKey.of({"result": result.key.sha256, "refused": sorted(refused)})
    notes = (*result.provenance.notes, *(refused[kind] for kind in sorted(refused)))
    return replace(result, key=key, provenance=replace(result.provenance, notes=notes))
