"""What becomes of a shard whose work ended with an error; each kind of error has its own path.

transient   the same again may succeed: an attempt is used, the shard waits longer each time; after twelve the job fails
access      the server denies access: as transient; the endpoint is paused meanwhile
permanent   nothing changes by trying again: the job fails
bug         Slidewire itself failed, or its process hung or died: a crash; after three the job is quarantined
newer       a newer Slidewire submitted the job: it waits for a worker that knows how, and nothing counts

A server that answers nobody is not the shard's fault: then no attempt is used, and the shard waits for the server.
"""

from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy import Connection, Row, select

from models.domain.codes import ErrorCode
from models.domain.errors import (
    AccessDenied,
    EndpointError,
    EndpointPaused,
    SlidewireError,
    VersionUnknown,
    WorkerLost,
    WorkFailed,
)
from models.domain.job import JobState
from worker.ledger import endpoints, transitions
from worker.ledger.backoff import ATTEMPTS, delay_s
from worker.ledger.clock import NOW
from worker.ledger.records import Lease, ShardState
from worker.ledger.schema import shard

_NEWER_S = 60.0  # so long the same worker does not come across the same shard again
CRASHES = 3  # so many workers die on a shard before it is taken for the cause


class Failure(Enum):
    """The five kinds."""

    TRANSIENT = auto()
    ACCESS = auto()
    PERMANENT = auto()
    BUG = auto()
    NEWER = auto()


def failure_of(error: SlidewireError) -> Failure:
    """Return the kind of an error."""
    if isinstance(error, WorkFailed):
        return Failure.PERMANENT
    if isinstance(error, VersionUnknown):
        return Failure.NEWER
    if isinstance(error, AccessDenied):
        return Failure.ACCESS
    if error.retryable:
        return Failure.TRANSIENT
    bug = isinstance(error, WorkerLost) or error.code == ErrorCode.INTERNAL
    return Failure.BUG if bug else Failure.PERMANENT


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that ended a lease, and where it happened, as far as that is known."""

    lease: Lease
    error: SlidewireError
    detail: str = ""


def count_failure(connection: Connection, failed: Failed, patience_s: float) -> None:
    """Give back the lease of a job that is wanted, and take the step that follows from the error."""
    kind = failure_of(failed.error)
    lease, error = failed.lease, failed.error
    if kind is Failure.BUG:
        count_crash(connection, lease, "crashed", error.code, failed.detail or error.message)
        return
    if kind is Failure.NEWER:
        _leave_to_newer(connection, failed)
        return
    row = _row(connection, lease)
    if kind is not Failure.PERMANENT and _nobody_answers(connection, lease, error, row):
        _defer(connection, failed, row, patience_s)
        return
    attempts = row.attempts + 1
    transitions.audit(connection, lease, "failed", error.code, failed.detail or error.message)
    values: dict[str, object] = {"attempts": attempts, "deferred_at": None}
    if kind is not Failure.PERMANENT and attempts < ATTEMPTS:
        values["not_before"] = NOW + delay_s(attempts, error.retry_after_s)
        transitions.end_lease(connection, lease, ShardState.PENDING, values)
        return
    transitions.end_lease(connection, lease, ShardState.FAILED, values)
    message = error.message if kind is Failure.PERMANENT else f"Given up after {attempts} attempts: {error.message}"
    transitions.end_job(connection, lease.job_id, JobState.FAILED, error.code, message)


def count_crash(connection: Connection, lease: Lease, event: str, code: str, detail: str) -> ShardState:
    """Give back the lease of a job that is wanted; at the third crash shard and job are quarantined."""
    crashes = _row(connection, lease).crashes + 1
    transitions.audit(connection, lease, event, code, detail)
    if crashes < CRASHES:
        values: dict[str, object] = {"crashes": crashes, "not_before": NOW + delay_s(crashes, None)}
        if event == "expired":  # its worker is gone: nothing is won by waiting
            values["not_before"] = 0.0
        transitions.end_lease(connection, lease, ShardState.PENDING, values)
        return ShardState.PENDING
    transitions.end_lease(connection, lease, ShardState.QUARANTINED, {"crashes": crashes})
    message = (
        f"Shard {lease.index} of this job brought down {crashes} workers, the last one here: {detail or 'unknown'}. "
        "Look at `slidewire jobs show` and the workers' logs, then `slidewire jobs retry`."
    )
    transitions.end_job(connection, lease.job_id, JobState.QUARANTINED, code, message)
    return ShardState.QUARANTINED


def _nobody_answers(connection: Connection, lease: Lease, error: SlidewireError, row: Row[tuple[object, ...]]) -> bool:
    if isinstance(error, EndpointPaused):
        return True
    if not isinstance(error, EndpointError) or not lease.endpoint:
        return False
    return not endpoints.answered_since(connection, lease.endpoint, row.claimed_at)


def _defer(connection: Connection, failed: Failed, row: Row[tuple[object, ...]], patience_s: float) -> None:
    lease, error = failed.lease, failed.error
    waited_s = 0.0 if row.deferred_at is None else row.now - row.deferred_at
    transitions.audit(connection, lease, "deferred", error.code, failed.detail or error.message)
    if waited_s > patience_s:
        transitions.end_lease(connection, lease, ShardState.FAILED, {})
        message = f"Given up after waiting {waited_s / 3600:.0f} h for the server: {error.message}"
        transitions.end_job(connection, lease.job_id, JobState.FAILED, error.code, message)
        return
    # A paused endpoint holds its shards back by itself; one that is not paused yet is not asked again at once.
    wait_s = 0.0 if isinstance(error, EndpointPaused) else delay_s(1, error.retry_after_s)
    values: dict[str, object] = {
        "not_before": NOW + wait_s,
        "deferred_at": row.now if row.deferred_at is None else row.deferred_at,
    }
    transitions.end_lease(connection, lease, ShardState.PENDING, values)


def _leave_to_newer(connection: Connection, failed: Failed) -> None:
    transitions.audit(connection, failed.lease, "deferred", failed.error.code, failed.error.message)
    transitions.end_lease(connection, failed.lease, ShardState.PENDING, {"not_before": NOW + _NEWER_S})


def _row(connection: Connection, lease: Lease) -> Row[tuple[object, ...]]:
    columns = (shard.c.attempts, shard.c.crashes, shard.c.claimed_at, shard.c.deferred_at, NOW.label("now"))
    return connection.execute(select(*columns).where(shard.c.id == lease.shard_id)).one()
