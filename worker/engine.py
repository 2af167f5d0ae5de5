"""The engine: claim a shard, run the pipeline, complete. The same with a broker, without one, and inline."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from traceback import extract_tb
from typing import NoReturn

import structlog
from structlog.contextvars import bind_contextvars, bound_contextvars

from connectors.endpoints import name_of
from connectors.protocols import Metered, Result, Source, Traffic
from connectors.registry import open_source
from models.domain.embedding import Embeddings, Provenance
from models.domain.errors import (
    DeviceLost,
    Interrupted,
    JobCancelled,
    LeaseLost,
    LedgerError,
    SlidewireError,
    SourceError,
    VersionUnknown,
    WorkFailed,
)
from models.domain.patch import BatchEmbedding, Rows
from models.domain.plan import Plan
from models.domain.request import EmbedRequest
from worker.heartbeat import Pulse, end_process
from worker.killpoint import reach
from worker.ledger import ANYTHING, JobRecord, Lease, Remit
from worker.metrics.work import ShardEvent
from worker.outcome import result_of
from worker.pipeline import Cancellation, Limits, Part, embed_part
from worker.report.picture import draw_picture
from worker.stages.collect import assemble, collect_batches
from worker.stages.publish import publish_result
from worker.submission import asked
from worker.tissue import look_again
from worker.wiring import Installation

_log = structlog.get_logger(__name__)
_BEATS_A_LEASE = 4
_STALLS_A_PUBLICATION = 4

Progress = Callable[[int], None]
"""Told of patches as they are embedded or found in a checkpoint."""


def _unwatched(patches: int) -> None:
    del patches


@dataclass(frozen=True, slots=True)
class _Job:
    record: JobRecord
    request: EmbedRequest
    provenance: Provenance
    plan: Plan
    limits: Limits


class Engine:
    """Works off the ledger, one shard at a time.

    Parameters
    ----------
    installation : Installation
    cancellation : Cancellation
        Asks the engine to stop; the shard in hand goes back with what is in its checkpoints.
    inline : bool
        Nobody else will try again: an error that a queue would retry ends the job, which goes on from its
        checkpoints when it is submitted again.
    progress : callable or None
    after_shard : callable or None
        Called when a shard has ended, which may have made others ready.
    remit : Remit
        Only jobs within it.
    """

    def __init__(
        self,
        installation: Installation,
        cancellation: Cancellation,
        *,
        inline: bool = False,
        progress: Progress | None = None,
        after_shard: Callable[[], object] | None = None,
        remit: Remit = ANYTHING,
    ) -> None:
        self._installation = installation
        self._ledger = installation.ledger
        self._stop = cancellation
        self._inline = inline
        self._progress = progress or _unwatched
        self._after_shard = after_shard or (lambda: None)
        self._remit = remit
        self._open: tuple[str, _Job, Source] | None = None
        self._record: JobRecord | None = None
        self._told = Traffic()
        self._owed: tuple[Lease, SlidewireError, str] | None = None

    def close(self) -> None:
        """Let go of the slide in hand."""
        self._record = None
        if self._open:
            job_id, job, source = self._open
            traffic = source.close()
            self._tell(traffic)
            self._installation.traffic += traffic
            read = {"requests": traffic.requests, "bytes_read": traffic.bytes_read}
            _log.info("slide closed", job=job_id, encoder=job.request.encoder, **read)
            self._open, self._told = None, Traffic()

    def run_next(self, job_id: str | None = None) -> bool:
        """Claim one shard and work on it to its end, or until its turn is over.

        Parameters
        ----------
        job_id : str or None
            Only of this job.

        Returns
        -------
        bool
            False if there was nothing to claim.
        """
        self._pay()
        lease = self._ledger.shards.claim(self._installation.owner, job_id, self._remit)
        if lease is None:
            return False
        place = {"job": lease.job_id, "shard": lease.index, "kind": lease.kind, "endpoint": name_of(lease.endpoint)}
        with bound_contextvars(**place):
            event = self._try(lease)
            self._installation.metrics.ended(lease.kind, event)
        self._after_shard()
        return True

    def _try(self, lease: Lease) -> ShardEvent:
        """Work on a shard; whatever becomes of it is noted."""
        try:
            return self._work(lease)
        except LeaseLost:
            _log.warning("lease lost: the work is dropped")
            return ShardEvent.LOST
        except (Interrupted, JobCancelled, VersionUnknown) as exc:
            _log.info("shard given back", code=exc.code)
            self._end(lease, exc)
            return ShardEvent.RELEASED
        except SlidewireError as exc:
            _log.warning("shard failed", code=exc.code, retryable=exc.retryable)
            if isinstance(exc, DeviceLost) and not self._inline:
                self._end_with_process(lease, exc)
            self._end(lease, exc)
            return ShardEvent.FAILED
        except Exception as exc:  # noqa: BLE001 - a bug of ours ends the job, not the worker
            # The text of a foreign exception may hold anything; where it was raised may be told.
            where = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in extract_tb(exc.__traceback__)]
            _log.error("shard failed", code="INTERNAL", error=type(exc).__name__, where=where)
            bug = SlidewireError(f"Slidewire itself failed ({type(exc).__name__}); see the worker's log.")
            self._end(lease, bug, f"{type(exc).__name__} at {' > '.join(where[-4:])}")
            return ShardEvent.CRASHED

    def _end(self, lease: Lease, error: SlidewireError, detail: str = "") -> None:
        """End a lease with an error; the ledger knows what each means for shard and job."""
        if self._inline and not isinstance(error, Interrupted | JobCancelled | VersionUnknown):
            error = WorkFailed.of(error)
        self._owed = (lease, error, detail)
        self._pay()

    def _end_with_process(self, lease: Lease, error: DeviceLost) -> NoReturn:
        """End a lease and this process, in which no other shard would fare better."""
        try:
            self._end(lease, error)
        except LedgerError:
            _log.warning("the lease runs out by itself")
        end_process(error)

    def _pay(self) -> None:
        """Note how the last lease ended; if the ledger does not answer, that is owed before the next claim."""
        if self._owed is None:
            return
        self._installation.gates.flush()  # whether the server answered anybody decides what a failure means
        try:
            self._ledger.shards.fail(*self._owed)
        except LeaseLost:
            _log.warning("lease lost before its end was noted", job=self._owed[0].job_id)
        self._owed = None

    def _work(self, lease: Lease) -> ShardEvent:
        settings = self._installation.settings
        every_s = settings.lease_s / _BEATS_A_LEASE
        # A publication moves by whole objects.
        stall_s = settings.stall_s * (1 if lease.kind == "embed" else _STALLS_A_PUBLICATION)
        cancellation = Cancellation(after=self._stop)
        pulse = Pulse(self._ledger, lease, cancellation, every_s=every_s, stall_s=stall_s)
        with pulse, self._installation.activity.working(lambda: pulse.still_s, stall_s):
            bind_contextvars(encoder=self._record_of(lease).encoder)
            _log.info("shard claimed", patches=lease.stop - lease.start)
            started = time.monotonic()
            if lease.kind == "publish":
                return self._publish(lease, pulse, cancellation)
            self._embed(lease, pulse, cancellation)
            cancellation.check()
            self._ledger.shards.complete(lease)
            seconds = round(time.monotonic() - started, 1)
            _log.info("shard completed", patches=lease.stop - lease.start, seconds=seconds)
            return ShardEvent.COMPLETED

    def _record_of(self, lease: Lease) -> JobRecord:
        if self._record is None or self._record.id != lease.job_id:
            self._record = self._ledger.jobs.get(lease.job_id)
        return self._record

    def _load(self, lease: Lease) -> tuple[_Job, Source]:
        """Open the job's slide, once for all its shards, and see that it is still the slide that was planned.

        Raises
        ------
        SourceError
            It has changed, or is gone.
        VersionUnknown
            A newer Slidewire submitted the job.
        """
        if self._open and self._open[0] == lease.job_id:
            return self._open[1], self._open[2]
        self.close()
        record = self._record_of(lease)
        request, provenance = asked(record)
        plan = Plan.from_bytes(self._ledger.jobs.plan(lease.job_id))
        # One pace for all the job's shards that come here: what the server is like is learnt once a slide.
        limits = self._installation.limits_for(plan.slide.ref).paced()
        job = _Job(record, request, provenance, plan, limits)
        source = open_source(plan.slide.ref, self._installation.endpoints)
        if source.slide.levels != plan.slide.levels:
            source.close()
            raise SourceError("The slide has changed since it was submitted: submit it again.")
        self._open = (lease.job_id, job, source)
        return job, source

    def _embed(self, lease: Lease, pulse: Pulse, cancellation: Cancellation) -> None:
        pulse.enter("opening the slide")
        job, source = self._load(lease)
        pulse.enter("loading the encoder")
        encoder = self._installation.encoder(job.request, job.provenance.weights_sha256)
        pulse.enter("embedding")
        kept = self._ledger.checkpoints.load(lease.shard_id)
        safe = {number for part, _ in kept for number in range(part.first_batch, part.first_batch + part.batches)}
        self._advance(pulse, sum(part.patches for part, _ in kept))

        def save(first_batch: int, batches: int, rows: Rows) -> None:
            self._ledger.checkpoints.save(lease, first_batch, batches, rows)

        metrics, settings = self._installation.metrics, self._installation.settings
        turn_over = math.inf if self._inline else time.monotonic() + settings.turn_s

        def counted(batches: Iterator[BatchEmbedding]) -> Iterator[BatchEmbedding]:
            for batch in batches:
                self._advance(pulse, len(batch.rows))
                metrics.embedded(job.request.encoder, len(batch.rows), job.plan.batch_size)
                if isinstance(source, Metered):
                    self._tell(source.traffic)
                yield batch
                if time.monotonic() > turn_over:
                    raise Interrupted("The shard's turn is over; it goes on from its last checkpoint.")

        try:
            for part in missing_parts(lease, job.plan.batch_size, safe):
                embedded = embed_part(source, job.plan, part, encoder, job.limits, cancellation)
                collect_batches(counted(embedded), save, settings.checkpoint_s)
        except SourceError:
            self.close()
            self._load(lease)  # if frames are missing because the slide has changed, that is the error
            raise

    def _tell(self, traffic: Traffic) -> None:
        """Count what was read of the slide in hand since that was counted last."""
        self._installation.metrics.read(traffic - self._told)
        self._told = traffic

    def _advance(self, pulse: Pulse, patches: int) -> None:
        pulse.advance(patches)
        self._progress(patches)

    def _publish(self, lease: Lease, pulse: Pulse, cancellation: Cancellation) -> ShardEvent:
        pulse.enter("assembling")
        self.close()  # opened anew: nothing is published of a slide that has changed while it was read
        job, source = self._load(lease)
        kept = self._ledger.checkpoints.load(lease.job_id)
        if sum(part.patches for part, _ in kept) != len(job.plan.grid):
            _log.warning("checkpoints missing: their shards run again")
            self._ledger.shards.rewind(lease)
            return ShardEvent.RELEASED
        embeddings = assemble(job.plan, [rows for _, rows in kept], job.provenance.dimension)
        result = self._result(job, source, embeddings)
        pulse.enter("publishing")
        pulse.beat()  # who has lost the shard, or whose job was cancelled, publishes nothing
        cancellation.check()
        reach("publish.before_write")
        with self._installation.sinks(job.request.output, job.plan.slide.ref) as sinks:
            outputs = publish_result(result, sinks)
        reach("publish.after_write")
        self._ledger.shards.publish(lease, outputs, int(embeddings.holes.sum()))
        _log.info("job published", outputs=len(outputs), patches=len(job.plan.grid))
        self._ledger.checkpoints.discard(lease.job_id)
        self.close()
        return ShardEvent.COMPLETED

    def _result(self, job: _Job, source: Source, embeddings: Embeddings) -> Result:
        header = source.header(job.plan.grid.level)
        result = result_of(job.request.encoder, job.plan, job.provenance, embeddings, header)
        output = job.request.output
        if not (output.picture or output.maps):
            return result
        thumbnail, tissue = look_again(source, job.request.patches, job.plan.notes)
        if output.maps:
            result = replace(result, tissue=tissue)
        if output.picture:
            share = min(1.0, job.provenance.stride_px / job.provenance.patch_px)
            result = replace(result, picture=draw_picture(thumbnail, job.plan, embeddings, share, tissue))
        return result


def missing_parts(lease: Lease, batch_size: int, safe: set[int]) -> Iterator[Part]:
    """Yield the runs of a shard's batches that are in no checkpoint."""
    total = -(-(lease.stop - lease.start) // batch_size)
    first: int | None = None
    for number in range(total + 1):
        wanted = number < total and number not in safe
        if wanted and first is None:
            first = number
        elif not wanted and first is not None:
            stop = min(lease.start + number * batch_size, lease.stop)
            yield Part(lease.start + first * batch_size, stop, first)
            first = None
