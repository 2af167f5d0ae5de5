"""The result of a job: its numbers, with what they are called and how they came about."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from connectors.protocols import Result
from models.domain.embedding import Embeddings, Provenance, ResultKey
from models.domain.plan import Plan
from models.domain.slide import safe_name


def result_of(
    encoder: str, plan: Plan, provenance: Provenance, embeddings: Embeddings, header: Mapping[str, Any] | None
) -> Result:
    """Return a result as it is published; the same for the same job, whenever it is asked for.

    Parameters
    ----------
    encoder : str
        As the request names it.
    plan : Plan
    provenance : Provenance
        As it was submitted, before anybody knew of holes and fallbacks.
    embeddings : Embeddings
        All of the plan's, with their holes.
    header : DICOM JSON of the instance the patches were cut from, or None if the source is no DICOM
    """
    provenance = _with_fallbacks(_with_holes(provenance, embeddings), embeddings)
    key = ResultKey(provenance.result_key)
    slide = plan.slide.name
    name = f"{slide}.{safe_name(encoder)}.{key.sha256[:8]}"
    step_px = plan.step_px(provenance.stride_px)
    return Result(key, name, embeddings, provenance, header, step_px=step_px, slide=slide)


def _with_holes(provenance: Provenance, embeddings: Embeddings) -> Provenance:
    """Name a result with holes after them, too: with other holes, or none, it is another result."""
    holes = np.flatnonzero(embeddings.holes)
    if not len(holes):
        return provenance
    key = ResultKey.of({"result": provenance.result_key, "holes": holes.tolist()})
    note = f"{len(holes)} of {len(embeddings)} patches are holes: their frames could not be had or decoded"
    return replace(provenance, result_key=key.sha256, notes=(*provenance.notes, note))


def _with_fallbacks(provenance: Provenance, embeddings: Embeddings) -> Provenance:
    """Say how many patches the encoder's pre-processing could not be applied to."""
    marks = embeddings.fallbacks
    if marks is None or not marks.any():
        return provenance
    note = f"{int(marks.sum())} of {len(embeddings)} patches fell back: they were embedded without stain normalisation"
    return replace(provenance, notes=(*provenance.notes, note))
