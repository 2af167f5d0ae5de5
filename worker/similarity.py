"""The similarity of all patches of a job to one of them: worked out from what the job left, drawn, and mapped."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from connectors.dicom.result.maps import build_similarity, pixel_digest
from connectors.dicom.result.result_object import ResultObject
from connectors.protocols import Result
from connectors.registry import open_source
from connectors.sinks.files import put
from connectors.sinks.stow import StowSink
from models.domain.embedding import Embeddings, Output
from models.domain.errors import RequestError, SourceError
from models.domain.job import JobState
from models.domain.plan import Plan
from models.domain.request import EmbedRequest
from models.domain.slide import safe_name
from models.imaging.similarity import cosine_similarity
from worker.outcome import result_of
from worker.report.heat import draw_heat
from worker.report.stored import read_back
from worker.submission import asked
from worker.tissue import read_thumbnail
from worker.wiring import Installation


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike the patches of a job are to one of them.

    Parameters
    ----------
    job : str
        Id in the ledger.
    plan : Plan
    request : EmbedRequest
    result : Result
        Of the job.
    row : int
        Of the chosen patch, 0-based.
    values : float32 array, shape (N,)
        `cosine_similarity`.
    thumbnail : uint8 array, shape (H, W, 3)
        Of the slide.
    """

    job: str
    plan: Plan
    request: EmbedRequest
    result: Result
    row: int
    values: NDArray[np.float32]
    thumbnail: NDArray[np.uint8]

    @classmethod
    def of(cls, installation: Installation, job_id: str, point: tuple[int, int]) -> Self:
        """Work it out.

        Parameters
        ----------
        installation : Installation
        job_id : str
            Id of the job, or its first characters.
        point : (int, int)
            In pixels of level 0 (x, y); the patch that covers it is chosen, of several the one it is most central to.

        Raises
        ------
        JobNotFound
        RequestError
            The job has not succeeded, or no patch is there.
        ResultNotFound, ResultCorrupt
            Its table, or annotations, cannot be had, or are not those that it left.
        SourceError, EndpointError
            The slide cannot be read any more.
        """
        job = installation.ledger.jobs.get(job_id)
        if job.state is not JobState.SUCCEEDED:
            raise RequestError(f"The job is {job.state}: there is nothing to compare before it has succeeded.")
        plan = Plan.from_bytes(installation.ledger.jobs.plan(job.id))
        request, provenance = asked(job)
        embeddings = read_back(job, plan, installation.endpoints)
        row = patch_at(plan, embeddings, point)
        source = open_source(plan.slide.ref, installation.endpoints)
        try:
            if source.slide.levels != plan.slide.levels:
                raise SourceError("The slide has changed since it was submitted.")
            thumbnail, header = read_thumbnail(source), source.header(plan.grid.level)
        finally:
            installation.traffic += source.close()
        result = result_of(request.encoder, plan, provenance, embeddings, header)
        return cls(job.id, plan, request, result, row, cosine_similarity(embeddings.matrix, row), thumbnail)

    @property
    def name(self) -> str:
        """Name of its files, without a suffix: that of the result, and where the patch begins at level 0."""
        x, y = np.rint(self.result.embeddings.positions_px[self.row]).astype(int).tolist()
        return f"{safe_name(self.result.name)}.similarity-{x}-{y}"

    def mapped(self) -> ResultObject:
        """Return the Parametric Map.

        Raises
        ------
        ResultError
            The slide does not say where it lies, or the patches lie on no grid.
        SourceError
            The slide is no DICOM.
        """
        dataset = build_similarity(self.result, self.row)
        return ResultObject("map", 1, dataset, pixel_digest(dataset))

    def write(self, folder: str, *, dicom: bool) -> Iterator[Output]:
        """Write the picture, and on request the map, into a folder or bucket."""
        provenance = self.result.provenance
        share = min(1.0, provenance.stride_px / provenance.patch_px)
        picture = draw_heat(self.thumbnail, self.plan, self.result.embeddings, self.values, self.row, share)
        yield _put("picture", f"{folder.rstrip('/')}/{self.name}.png", picture)
        if dicom:
            made = self.mapped()
            content = b"".join(made.chunks())
            uids = str(made.dataset.SeriesInstanceUID), str(made.dataset.SOPInstanceUID)
            yield _put("map", f"{folder.rstrip('/')}/{self.name}.dcm", content, *uids)

    def store(self, installation: Installation) -> Output:
        """Store the map in the PACS that the slide came from, if it is not there yet.

        Raises
        ------
        RequestError
            The slide came from none.
        StoreRefused, StoreMismatch, EndpointError
            See `StowSink.write`.
        """
        ref = self.plan.slide.ref
        if ref.kind != "dicomweb":
            raise RequestError(
                "--write-back stores the map beside the slide, and the slide is in no PACS: use --dicom."
            )
        sink = StowSink(installation.endpoints.of_ref(ref), ref.study_uid)
        try:
            return sink.store(self.mapped())
        finally:
            sink.close()


def patch_at(plan: Plan, embeddings: Embeddings, point: tuple[int, int]) -> int:
    """Return the row of the patch that covers a point of level 0 (x, y); of several the one nearest to its centre.

    Raises
    ------
    RequestError
        None does; the message names the centre of the nearest. Or there is a hole.
    """
    there = np.asarray(point, np.float64)
    scale = np.asarray(plan.scale)
    start, sides = embeddings.boxes[:, :2] * scale, embeddings.boxes[:, 2:] * scale
    whole = ~embeddings.holes
    if not whole.any():
        raise RequestError("The job has embedded no patch: there is nothing to compare.")
    distances = np.hypot(*(start + sides / 2 - there).T)
    covering = ((start <= there) & (there < start + sides)).all(axis=1)
    if (covering & whole).any():
        return int(np.where(covering & whole, distances, np.inf).argmin())
    nearest = int(np.where(whole, distances, np.inf).argmin())
    x, y = (start + sides / 2)[nearest].astype(int).tolist()
    what = "The patch that covers it is a hole" if covering.any() else "No patch covers it"
    raise RequestError(f"--at {point[0]},{point[1]}: {what}; the nearest that was embedded has its centre at {x},{y}.")


def _put(kind: str, uri: str, content: bytes, series_uid: str = "", instance_uid: str = "") -> Output:
    put(uri, content)
    return Output(kind, uri, hashlib.sha256(content).hexdigest(), series_uid, instance_uid)
