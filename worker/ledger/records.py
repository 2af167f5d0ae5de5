"""What goes into the ledger and comes out of it: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Literal

from models.domain.embedding import Output
from models.domain.errors import LedgerError
from models.domain.job import JobState, Lane

ShardKind = Literal["embed", "publish"]


class ShardState(StrEnum):
    """Where a shard stands; all but the first two are final."""

    PENDING = "pending"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class QuietHours:
    """The hours of a day in which a server is left to its other users.

    Parameters
    ----------
    start, stop : time
        The first moment of quiet and the first one after it; the night between them if `stop` is before `start`.
    zone : tzinfo
        Of both.
    """

    start: time
    stop: time
    zone: tzinfo = UTC

    def contains(self, seconds: float) -> bool:
        """Whether a moment (seconds since 1970) is in them."""
        now = datetime.fromtimestamp(seconds, self.zone).time()
        if self.start <= self.stop:
            return self.start <= now < self.stop
        return now >= self.start or now < self.stop


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """How the whole fleet treats one server.

    Parameters
    ----------
    workers : int or None
        Shards that are worked on at the same time; None: as many as there are workers.
    requests_per_s : float or None
        Of all workers together; None: no limit.
    quiet : QuietHours or None
        When no backfill reads from it.
    """

    workers: int | None = None
    requests_per_s: float | None = None
    quiet: QuietHours | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What the ledger goes by; the same for all workers of a fleet.

    Parameters
    ----------
    lease_s : float
        Seconds without a heartbeat after which a worker is taken for dead.
    patience_s : float
        Seconds that a shard waits for an endpoint that answers nobody, before its job fails.
    endpoints : mapping of str to EndpointRules
        By key of the endpoint; others have no limits.
    """

    lease_s: float = 60.0
    patience_s: float = 7 * 86400.0
    endpoints: Mapping[str, EndpointRules] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Remit:
    """The part of the queue that a worker serves.

    Parameters
    ----------
    lanes : tuple of Lane
        Only jobs of these.
    encoders : tuple of str
        Only jobs of these, by name; empty: of any.
    """

    lanes: tuple[Lane, ...] = tuple(Lane)
    encoders: tuple[str, ...] = ()


ANYTHING: Final = Remit()


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a server may be asked.

    Parameters
    ----------
    closed : bool
        Its breaker is: nothing is wrong.
    pause_s : float
        Seconds for which nothing is sent to it; 0 if its breaker is closed, or waits for a call that tries.
    code : str
        Of the error that opened the breaker; "" if it is closed.
    """

    closed: bool = True
    pause_s: float = 0.0
    code: str = ""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """A server as the ledger knows it.

    Parameters
    ----------
    key : str
        Its name, or scheme, host and port.
    state : {"closed", "open", "half-open", "denied"}
        Of its breaker; half-open: the next call decides.
    code : str
        Of the error that opened it; "" if it is closed.
    until : float or None
        When it opens or opened to a call that tries, in seconds since 1970; None if it is closed.
    leased, waiting : int
        Shards that are worked on, and that wait.
    succeeded_at : float or None
        When a call was last known to succeed.
    """

    key: str
    state: str
    code: str
    until: float | None
    leased: int
    waiting: int
    succeeded_at: float | None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be queued.

    Parameters
    ----------
    key : str
        What makes it the same job when it is submitted again.
    result_key : str
        `ResultKey.sha256` of what it will produce.
    encoder : str
        Name of the encoder.
    lane : Lane
    request : dict
        `EmbedRequest` as JSON.
    plan : bytes
        The frozen list of patches; the ledger does not look into it, but verifies its digest.
    patches : int
    shards : tuple of (int, int)
        First patch and the one after the last, of each shard; together 0 to `patches` without a gap.
    endpoint : str
        Key of the server that the slide is read from; "" if it is none that the fleet is careful with.
    """

    key: str
    result_key: str
    encoder: str
    lane: Lane
    request: dict[str, Any]
    plan: bytes
    patches: int
    shards: tuple[tuple[int, int], ...]
    endpoint: str = ""

    def __post_init__(self) -> None:
        edge = 0
        for start, stop in self.shards:
            if start != edge or stop <= start:
                raise LedgerError("The shards of a job must be non-empty and follow one another from patch 0.")
            edge = stop
        if edge != self.patches:
            raise LedgerError(f"The shards of the job end at patch {edge}, its patches at {self.patches}.")


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the ledger knows it.

    Parameters
    ----------
    id : str
        32 hexadecimal digits.
    key, result_key, encoder, lane, request, patches
        As submitted; see `NewJob`.
    state : JobState
    patches_done : int
        Patches embedded so far, by the last heartbeat of each shard.
    created_at, updated_at : float
        Submission and last change of state, in seconds since 1970.
    error_code, error_message : str
        Why it failed or was quarantined; else "".
    outputs : tuple of Output
        What it left behind; empty unless it succeeded.
    holes : int
        Patches whose pixels could not be had, where the request allows that.
    """

    id: str
    key: str
    result_key: str
    encoder: str
    state: JobState
    lane: Lane
    request: dict[str, Any]
    patches: int
    patches_done: int
    created_at: float
    updated_at: float
    error_code: str
    error_message: str
    outputs: tuple[Output, ...]
    holes: int = 0


@dataclass(frozen=True, slots=True)
class Submission:
    """The answer to a submission: the job, and whether it is new."""

    job: JobRecord
    created: bool


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one shard until somebody else gets it.

    Parameters
    ----------
    shard_id, job_id : str
    kind : {"embed", "publish"}
    index : int
        0-based index of the shard in its job.
    start, stop : int
        First patch and the one after the last; 0, 0 for a publish shard.
    epoch : int
        How often the shard was claimed, this time included: the fence of every write.
    owner : str
        Who claimed it.
    dispatch_no : int
        Number of the doorbell that was rung last; 0 if none was.
    endpoint : str
        As in `NewJob`.
    """

    shard_id: str
    job_id: str
    kind: ShardKind
    index: int
    start: int
    stop: int
    epoch: int
    owner: str
    dispatch_no: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class Incident:
    """One line of a shard's history.

    Parameters
    ----------
    shard : int
        0-based index of the shard in its job.
    kind : {"embed", "publish"}
    epoch : int
    owner : str
        Host, process and a number of the worker's own.
    event : {"claimed", "completed", "released", "failed", "deferred", "crashed", "expired"}
        A failure uses an attempt, a deferral (the server answers nobody) does not; a crash is a bug or a hang that
        the worker itself noted, an expiry the silence of one that died.
    code : str
        Of the error, if there was one.
    detail : str
        What is known of it: where the worker was, or the error's message.
    at : float
        Seconds since 1970.
    """

    shard: int
    kind: ShardKind
    epoch: int
    owner: str
    event: str
    code: str
    detail: str
    at: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Embeddings of consecutive batches, safe on disk.

    Parameters
    ----------
    first_batch, batches : int
        Number of the first batch, 0-based, and how many there are.
    patches : int
        Rows of the matrix.
    sha256 : str
        Of the file's bytes.
    path : Path
    """

    first_batch: int
    batches: int
    patches: int
    sha256: str
    path: Path


@dataclass(frozen=True, slots=True)
class Doorbell:
    """A message to be sent: shard `shard_id` is ready. Losing or repeating it is harmless."""

    shard_id: str
    dispatch_no: int
    kind: ShardKind
    lane: Lane


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The ledger's answer to a heartbeat: whether to stop, as the job was cancelled or has ended otherwise."""

    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What a purge removed: jobs whose checkpoints were forgotten, files, and the bytes they took."""

    jobs: int
    files: int
    freed_bytes: int


@dataclass(frozen=True, slots=True)
class ReapReport:
    """What the reaper found: leases that ran out, and the shards among them that were given up."""

    expired: int
    quarantined: int
