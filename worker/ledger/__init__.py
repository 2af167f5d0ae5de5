"""The queue of record: what was asked for, who works on it, what is safe already.

`Ledger` opens it; `jobs` are queued and looked up, `shards` are leased by workers, `checkpoints` keep what they have
computed. Nothing else knows the database.
"""

from pathlib import Path
from typing import Self

from models.domain.job import JobState, Lane
from worker.ledger.backfills import Backfills
from worker.ledger.bells import Bells
from worker.ledger.breaker import Calls
from worker.ledger.checkpoints import Checkpoints
from worker.ledger.database import Database
from worker.ledger.endpoints import EndpointBook
from worker.ledger.jobs import Jobs
from worker.ledger.records import (
    Checkpoint,
    Doorbell,
    EndpointRecord,
    EndpointRules,
    Heartbeat,
    Incident,
    JobRecord,
    Lease,
    NewJob,
    PurgeReport,
    QuietHours,
    ReapReport,
    Rules,
    ShardState,
    Standing,
    Submission,
)
from worker.ledger.shards import Shards

__all__ = [
    "Backfills",
    "Bells",
    "Calls",
    "Checkpoint",
    "Checkpoints",
    "Database",
    "Doorbell",
    "EndpointBook",
    "EndpointRecord",
    "EndpointRules",
    "Heartbeat",
    "Incident",
    "JobRecord",
    "JobState",
    "Jobs",
    "Lane",
    "Lease",
    "Ledger",
    "NewJob",
    "PurgeReport",
    "QuietHours",
    "ReapReport",
    "Rules",
    "ShardState",
    "Shards",
    "Standing",
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
    rules : Rules or None
        None: as they come.

    Attributes
    ----------
    jobs : Jobs
    shards : Shards
    endpoints : EndpointBook
    checkpoints : Checkpoints
    backfills : Backfills
    bells : Bells
    """

    def __init__(self, url: str, checkpoints: Path, rules: Rules | None = None) -> None:
        self._db = Database(url)
        rules = rules or Rules()
        self.jobs = Jobs(self._db)
        self.shards = Shards(self._db, rules)
        self.endpoints = EndpointBook(self._db)
        self.checkpoints = Checkpoints(self._db, checkpoints)
        self.backfills = Backfills(self._db)
        self.bells = Bells(self._db, rules)

    def close(self) -> None:
        """Close the connections to the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
