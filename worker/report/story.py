"""The story of a job: all that its page shows, gathered from the ledger, from what the job left, and from the slide."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from connectors.registry import open_source
from models.domain.embedding import Embeddings, Provenance
from models.domain.errors import SlidewireError, SourceError
from models.domain.patch import Rows
from models.domain.plan import Plan
from models.domain.request import EmbedRequest
from models.domain.slide import safe_name
from worker.ledger import JobRecord
from worker.report.clusters import Clusters, find_clusters
from worker.report.samples import Samples, take_samples
from worker.report.stored import read_back
from worker.report.timeline import Timeline
from worker.submission import asked
from worker.tissue import look_again
from worker.wiring import Installation


@dataclass(frozen=True, eq=False)
class Seen:
    """The slide, read again.

    Parameters
    ----------
    thumbnail : uint8 array, shape (H, W, 3)
    tissue : bool array, shape (any, any), or None
    samples : Samples
    """

    thumbnail: NDArray[np.uint8]
    tissue: NDArray[np.bool_] | None
    samples: Samples


@dataclass(frozen=True, eq=False)
class Story:
    """What there is to tell of a job, in whatever state it is.

    Parameters
    ----------
    job : JobRecord
    request : EmbedRequest
    provenance : Provenance
    plan : Plan
    timeline : Timeline
    embeddings : Embeddings or None
        None: it has left none, or they cannot be read.
    clusters : Clusters or None
        Of the embeddings that are no holes.
    seen : Seen or None
        None: the slide cannot be read any more.
    missing : tuple of str
        What cannot be shown, and why; sentences.
    """

    job: JobRecord
    request: EmbedRequest
    provenance: Provenance
    plan: Plan
    timeline: Timeline
    embeddings: Embeddings | None
    clusters: Clusters | None
    seen: Seen | None
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the result, safe as a file name."""
        return safe_name(f"{self.plan.slide.name}.{self.request.encoder}.{self.provenance.result_key[:8]}")

    @property
    def places(self) -> Embeddings:
        """Where the patches lie: the embeddings, or for want of them as many of no component."""
        return self.embeddings or self.plan.assemble(Rows(np.empty((len(self.plan.grid), 0), np.float32)))

    @property
    def share(self) -> float:
        """Part of a patch's side that no other patch covers, at most 1."""
        return min(1.0, self.provenance.stride_px / self.provenance.patch_px)

    @classmethod
    def of(cls, installation: Installation, job_id: str) -> Self:
        """Gather what there is.

        Parameters
        ----------
        installation : Installation
        job_id : str
            Id of the job, or its first characters.

        Raises
        ------
        JobNotFound, LedgerError
            The ledger does not know it. Whatever else fails is in `missing`.
        """
        ledger = installation.ledger
        job = ledger.jobs.get(job_id)
        plan = Plan.from_bytes(ledger.jobs.plan(job.id))
        request, provenance = asked(job)
        missing: list[str] = []
        embeddings = clusters = seen = None
        try:
            embeddings = read_back(job, plan, installation.endpoints)
        except SlidewireError as exc:
            missing.append(f"Nothing is shown of the embeddings: {exc.message}")
        whole = np.arange(len(plan.grid)) if embeddings is None else np.flatnonzero(~embeddings.holes)
        if embeddings is not None and len(whole):
            clusters = find_clusters(embeddings.matrix[whole] if embeddings.holes.any() else embeddings.matrix)
        try:
            seen = _look(installation, request, plan, (clusters, whole))
        except SlidewireError as exc:
            missing.append(f"Nothing is shown of the slide itself: {exc.message}")
        timeline = Timeline.of(job, ledger.jobs.history(job.id))
        return cls(job, request, provenance, plan, timeline, embeddings, clusters, seen, tuple(missing))


def _look(
    installation: Installation, request: EmbedRequest, plan: Plan, wanted: tuple[Clusters | None, NDArray[np.int64]]
) -> Seen:
    source = open_source(plan.slide.ref, installation.endpoints)
    try:
        if source.slide.levels != plan.slide.levels:
            raise SourceError("The slide has changed since it was submitted.")
        thumbnail, tissue = look_again(source, request.patches, plan.notes)
        samples = take_samples(source, plan, installation.limits_for(plan.slide.ref), *wanted)
        return Seen(thumbnail, tissue, samples)
    finally:
        installation.traffic += source.close()
