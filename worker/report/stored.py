"""The embeddings of a job, read back from where it left them: its table, else the annotations in the PACS."""

import hashlib
from pathlib import PurePath

import fsspec
import numpy as np

from connectors.endpoints import Endpoints
from connectors.export import Choice, read_stored
from connectors.stored_table import read_table
from models.domain.embedding import Embeddings, Output
from models.domain.errors import ResultCorrupt, ResultNotFound
from models.domain.patch import Rows
from models.domain.plan import Plan
from worker.ledger import JobRecord


def read_back(job: JobRecord, plan: Plan, endpoints: Endpoints) -> Embeddings:
    """Return the embeddings of a job, in the order in which the patches were asked for.

    Raises
    ------
    ResultNotFound
        It has left none, or they cannot be read now.
    ResultCorrupt
        They are not those that it left.
    EndpointError
        The PACS does not give them.
    """
    for output in job.outputs:
        if output.kind == "parquet":
            return _from_table(output, plan)
    for output in job.outputs:
        if output.kind == "annotations" and plan.slide.ref.kind == "dicomweb":
            return _from_pacs(output, plan, endpoints)
    raise ResultNotFound("The job has left no embeddings yet.")


def _from_table(output: Output, plan: Plan) -> Embeddings:
    try:
        with fsspec.open(output.uri, "rb") as file:
            content: bytes = file.read()
    except Exception as exc:  # file systems of buckets raise what they like
        raise ResultNotFound(f"The job's table cannot be read ({type(exc).__name__}).") from exc
    if hashlib.sha256(content).hexdigest() != output.sha256:
        raise ResultCorrupt("The job's table is not the one that it wrote.")
    return _placed(read_table(content, PurePath(output.uri)).embeddings, plan)


def _from_pacs(output: Output, plan: Plan, endpoints: Endpoints) -> Embeddings:
    ref = plan.slide.ref
    series = f"{ref.location.rstrip('/')}/studies/{ref.study_uid}/series/{output.series_uid}"
    [found] = read_stored([series], endpoints, Choice(kind="annotations"))
    return _placed(found.stored.embeddings, plan)


def _placed(stored: Embeddings, plan: Plan) -> Embeddings:
    """Return embeddings in the plan's order; a patch that has none is a hole."""
    places = {tuple(box): number for number, box in enumerate(stored.boxes.tolist())}
    found = np.asarray([places.get(tuple(box), -1) for box in plan.grid.boxes.tolist()], np.int64)
    there = found >= 0
    if len(np.unique(found[there])) != len(places):
        raise ResultCorrupt("What the job left holds patches that are not in its plan.")
    matrix = np.full((len(found), stored.dimension), np.nan, np.float32)
    matrix[there] = stored.matrix[found[there]]
    marks = None
    if stored.fallbacks is not None:
        marks = np.zeros(len(found), np.bool_)
        marks[there] = stored.fallbacks[found[there]]
    return plan.assemble(Rows(matrix, marks))


def size_of(output: Output) -> int | None:
    """Return the bytes that a file or folder takes; None of what is in a PACS, gone, or cannot be asked for."""
    if output.instance_uid and output.uri.startswith(("http://", "https://")):
        return None
    try:
        system, path = fsspec.core.url_to_fs(output.uri)
        return int(system.du(path)) if system.exists(path) else None
    except Exception:  # noqa: BLE001 - file systems of buckets raise what they like, and it is only a number on a page
        return None
