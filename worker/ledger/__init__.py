"""The queue of record: what was asked for, who works on it, what is safe already.

`Ledger` opens it; `jobs` are queued and looked up, `shards` are leased by workers, `checkpoints` keep what they have
computed. Nothing else knows the database.
"""

from pathlib import Path
from typing import Self

from worker.ledger.checkpoints import Checkpoints
from worker.ledger.database import Database
from worker.ledger.jobs import Jobs
from worker.ledger.records import (
    Checkpoint,
    Doorbell,
    Heartbeat,
    JobRecord,
    JobState,
    Lease,
    NewJob,
    ReapReport,
    ShardState,
    Submission,
)
from worker.ledger.shards import Shards

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Database",
    "Doorbell",
    "Heartbeat",
    "JobRecord",
    "JobState",
    "Jobs",
    "Lease",
    "Ledger",
    "NewJob",
    "ReapReport",
    "ShardState",
    "Shards",
    "Submission",
]


class Ledger:
    """A ledger, opened and brought up to date; a context manager that closes it.

    Threads may share one; processes open their own, after a fork at the earliest.

    Parameters
    ----------
    url : str
        ``sqlite:///path`` or ``postgresql://user:password@host/name``; see `Database`.
    checkpoints : Path
        Folder of the checkpoints.
    lease_s : float
        Seconds without a heartbeat after which a worker is taken for dead.

    Attributes
    ----------
    jobs : Jobs
    shards : Shards
    checkpoints : Checkpoints
    """

    def __init__(self, url: str, checkpoints: Path, lease_s: float = 60.0) -> None:
        self._db = Database(url)
        self.jobs = Jobs(self._db)
        self.shards = Shards(self._db, lease_s)
        self.checkpoints = Checkpoints(self._db, checkpoints)

    def close(self) -> None:
        """Close the connections to the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
