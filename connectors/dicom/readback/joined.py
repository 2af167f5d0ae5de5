"""Slidewire's own annotations objects, joined to one result: every part there once, every digest the recorded one."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from connectors.dicom.readback.annotations import AnnotationPart
from connectors.dicom.readback.stored import StoredEmbeddings
from connectors.dicom.result.parts import PART_BYTES
from connectors.dicom.result.record import Record
from models.domain.embedding import Embeddings, Provenance
from models.domain.errors import EmbeddingInvalid, ResultCorrupt

_DIFFERS = "The stored embeddings are not those that were written: their digest differs."


def joined(first: AnnotationPart, others: Iterator[AnnotationPart]) -> StoredEmbeddings:
    """Return a result from its parts, which come in any order.

    Besides the result, the numbers of one part are in memory.

    Raises
    ------
    ResultCorrupt
        A part is missing, there twice or another result's, or the values are not those that were written.
    """
    record = recorded(first)
    columns, origin, notes = first.columns, first.origin, first.notes
    whole, holes = _joined(record, first, others) if record.parts > 1 else (verified(first), first.holes)
    if next(others, None) is not None:
        raise ResultCorrupt("There are more objects than the stored embeddings are said to be in.")
    if len(holes) != record.holes:
        raise ResultCorrupt("The stored embeddings have lost which patches have none.")
    if whole.digest != record.whole_sha256 or record.patches not in {None, len(whole)}:
        raise ResultCorrupt(_DIFFERS)
    if record.holes:
        notes = (*notes, f"{record.holes} patches have no embedding: their pixels could not be had")
    slide = origin.image_series_uid
    return StoredEmbeddings(
        whole, _provenance(record), columns, notes, digest_verified=True, origin=origin, slide=slide, hole_boxes=holes
    )


def recorded(part: AnnotationPart) -> Record:
    """Return the record of a part of Slidewire's."""
    if part.record is None:
        raise ResultCorrupt("One of the stored objects has lost what says which part of the embeddings it is.")
    return part.record


def verified(part: AnnotationPart) -> Embeddings:
    """Return the patches of one part, after a comparison with its recorded digest.

    Raises
    ------
    ResultCorrupt
        They are not those that were written.
    """
    record = recorded(part)
    boxes = np.rint(part.boxes).astype(np.int32)
    if not np.array_equal(boxes, part.boxes):
        raise ResultCorrupt("The stored embeddings lie between pixels, which they did not when they were written.")
    embeddings = _placed(record, part.matrix, boxes, part.fallbacks)
    if embeddings.digest != record.values_sha256:
        raise ResultCorrupt(_DIFFERS)
    return embeddings


def _placed(
    record: Record, matrix: NDArray[np.float32], boxes: NDArray[np.int32], fallbacks: NDArray[np.bool_] | None
) -> Embeddings:
    pixels = boxes[:, :2] * np.array(record.scale)
    spacing = record.level_0_spacing_um
    try:
        embeddings = Embeddings(
            matrix, boxes, pixels, None if spacing is None else pixels * np.array(spacing), fallbacks
        )
    except EmbeddingInvalid as exc:
        raise ResultCorrupt("The stored embeddings hold NaN or infinity.") from exc
    if embeddings.holes.any():
        raise ResultCorrupt("The stored embeddings lack values that were there when they were written.")
    return embeddings


def _joined(
    record: Record, first: AnnotationPart, others: Iterator[AnnotationPart]
) -> tuple[Embeddings, NDArray[np.int32]]:
    """Return the patches of all parts, each copied to its place, and the boxes of the holes."""
    count, dimension = record.patches or 0, first.matrix.shape[1]
    if not 0 < count * dimension * 4 <= record.parts * PART_BYTES:  # before that much is asked for
        raise ResultCorrupt("The description of the stored embeddings is damaged.")
    matrix, boxes = np.empty((count, dimension), np.float32), np.empty((count, 4), np.int32)
    marks = None if first.fallbacks is None else np.empty(count, np.bool_)
    places: dict[int, tuple[int, int]] = {}
    holes: list[NDArray[np.int32]] = []
    for part in chain([first], others):
        place = _place(record, recorded(part), len(part.matrix), places)
        embeddings = verified(part)
        if embeddings.dimension != dimension or (embeddings.fallbacks is None) != (marks is None):
            raise ResultCorrupt("The stored objects are not parts of one result.")
        holes.append(part.holes)
        matrix[slice(*place)], boxes[slice(*place)] = embeddings.matrix, embeddings.boxes
        if marks is not None:
            marks[slice(*place)] = embeddings.fallbacks
    _complete(record, places)
    return _placed(record, matrix, boxes, marks), np.concatenate(holes)


def _place(record: Record, own: Record, patches: int, places: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return where a part's patches belong, and note it."""
    if (own.whole_sha256, own.parts, own.patches) != (record.whole_sha256, record.parts, record.patches):
        raise ResultCorrupt("The stored objects are not parts of one result.")
    if own.part in places:
        raise ResultCorrupt(f"Part {own.part} of {own.parts} of the stored embeddings is there twice.")
    place = (own.first, own.first + patches)
    if place[1] > (record.patches or 0):
        raise ResultCorrupt("The description of the stored embeddings is damaged.")
    places[own.part] = place
    return place


def _complete(record: Record, places: dict[int, tuple[int, int]]) -> None:
    missing = [number for number in range(1, record.parts + 1) if number not in places]
    if missing:
        named = ", ".join(map(str, missing[:10]))
        raise ResultCorrupt(f"The stored embeddings are not whole: part {named} of {record.parts} is missing.")
    reached = 0
    for _, (start, stop) in sorted(places.items()):
        if start != reached:
            raise ResultCorrupt("The parts of the stored embeddings leave patches out, or overlap.")
        reached = stop
    if reached != record.patches:
        raise ResultCorrupt("The parts of the stored embeddings leave patches out.")


def _provenance(record: Record) -> Provenance:
    try:
        return Provenance.from_json(record.provenance)
    except (KeyError, TypeError, ValueError) as exc:
        raise ResultCorrupt("The description of the stored embeddings is damaged.") from exc
