"""Submit a slide, or embed it here and now: what the command line and Python programs call."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import fsspec
import numpy as np
from numpy.typing import NDArray

from connectors.tables.parquet import matrix_of
from models.domain.embedding import Output
from models.domain.errors import JobCancelled, ResultNotFound, WorkFailed
from models.domain.request import EmbedRequest
from worker.engine import Engine, Progress
from worker.ledger import JobRecord, JobState, Lane
from worker.pipeline import Cancellation
from worker.settings import Settings, load_settings
from worker.submission import Prepared, Ways, asked, prepare
from worker.wiring import Installation

_FINAL = {JobState.SUCCEEDED, JobState.FAILED, JobState.QUARANTINED, JobState.CANCELLED}
_WAIT_S = 0.2


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What became of a slide.

    Parameters
    ----------
    job : str
        Id in the ledger.
    patches, dimension : int
        Shape of the matrix.
    outputs : tuple of Output
    """

    job: str
    patches: int
    dimension: int
    outputs: tuple[Output, ...]

    def output(self, kind: str) -> Output:
        """Return the output of a kind (``parquet``, ``annotations``, ``report``, ``picture``)."""
        found = next((output for output in self.outputs if output.kind == kind), None)
        if found is None:
            raise ResultNotFound(f"The job left no {kind}; it left: {', '.join(o.kind for o in self.outputs)}.")
        return found

    def matrix(self) -> NDArray[np.float32]:
        """Return the embeddings (N, D) from the table, as it was written."""
        with fsspec.open(self.output("parquet").uri, "rb") as file:
            return matrix_of(file.read())


def submit(installation: Installation, request: EmbedRequest, lane: Lane = Lane.STANDARD) -> JobRecord:
    """Put a slide into the ledger; when this returns, the job is on disk.

    The same request finds the job it made before. One that failed or was cancelled is opened again and goes
    on from its checkpoints; one that succeeded is left alone if its outputs are still there, else made again.

    Raises
    ------
    RequestError, SourceError, EndpointError
        The request cannot be done; nothing was written.
    """
    prepared = prepare(request, installation.endpoints, Ways.of(installation.settings))
    installation.traffic += prepared.traffic
    endpoint = installation.endpoints.key_of(prepared.ref)
    new = prepared.job(installation.settings.shard_patches, lane, endpoint)
    submission = installation.ledger.jobs.submit(new)
    job = submission.job
    if job.state in _FINAL and not (job.state is JobState.SUCCEEDED and _outputs_there(installation, prepared, job)):
        job = installation.ledger.jobs.reopen(job.id)
    return job


def _outputs_there(installation: Installation, prepared: Prepared, job: JobRecord) -> bool:
    with installation.sinks(prepared.request.output, prepared.ref) as sinks:
        return all(any(sink.holds(output) for sink in sinks) for output in job.outputs)


def run_inline(
    installation: Installation,
    job: JobRecord,
    progress: Progress | None = None,
    cancellation: Cancellation | None = None,
    notice: Callable[[str], None] | None = None,
) -> JobRecord:
    """Work on one job in this process until it has ended; workers that share the ledger may help.

    Parameters
    ----------
    installation : Installation
    job : JobRecord
    progress : callable or None
        Told of patches as they are done.
    cancellation : Cancellation or None
        Stops the work.
    notice : callable or None
        Told once, in a sentence, if the job is in other hands.

    Raises
    ------
    VersionUnknown
        A newer Slidewire submitted the job before; it stays in the ledger for its workers.
    Interrupted
        Somebody asked to stop; the job stays in the ledger and goes on when it is submitted again.
    """
    if job.state not in _FINAL:
        asked(job)
    stop = cancellation or Cancellation()
    engine = Engine(installation, stop, inline=True, progress=progress)
    try:
        while job.state not in _FINAL:
            stop.check()
            if not engine.run_next(job.id):
                if notice is not None:
                    notice(
                        f"Another worker has the job; if it died, this goes on in {installation.settings.lease_s:g} s."
                    )
                    notice = None
                installation.ledger.shards.reap()
                time.sleep(min(_WAIT_S, installation.settings.poll_s))  # another worker has the rest
            job = installation.ledger.jobs.get(job.id)
    finally:
        engine.close()
    return job


def embed(request: EmbedRequest, settings: Settings | None = None, progress: Progress | None = None) -> EmbedResult:
    """Embed one slide in this process.

    Parameters
    ----------
    request : EmbedRequest
    settings : Settings or None
        None: from the environment and the settings file.
    progress : callable or None
        Told the number of patches each time some are done.

    Raises
    ------
    SlidewireError
        With the code of what went wrong; nothing half-written is left behind.
    """
    with Installation(settings or load_settings()) as installation:
        job = run_inline(installation, submit(installation, request, Lane.INTERACTIVE), progress)
    if job.state is JobState.CANCELLED:
        raise JobCancelled("The job was cancelled.")
    if job.state is not JobState.SUCCEEDED:
        raise WorkFailed(job.error_message, code=job.error_code)
    dimension = int(job.request["provenance"]["dimension"])
    return EmbedResult(job.id, job.patches, dimension, job.outputs)
