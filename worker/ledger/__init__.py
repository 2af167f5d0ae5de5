"""The queue of record: what was asked for, who works on it, what is safe already.

`Ledger` opens it; `jobs` are queued and looked up, `shards` are leased by workers, `checkpoints` keep what they have
computed. Nothing else knows the database.
"""

from pathlib import Path
from typing import Self

from sqlalchemy import select

from models.domain.job import JobState, Lane
from worker.ledger.arrivals import Arrivals
from worker.ledger.backfills import Backfills
from worker.ledger.bells import Bells
from worker.ledger.breaker import Calls
from worker.ledger.census import Census
from worker.ledger.checkpoints import Checkpoints
from worker.ledger.database import Database
from worker.ledger.endpoints import EndpointBook
from worker.ledger.jobs import Jobs
from worker.ledger.notices import Notices
from worker.ledger.records import (
    ANYTHING,
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
    Remit,
    Rules,
    ShardState,
    Standing,
    Submission,
)
from worker.ledger.shards import Shards

__all__ = [
    "ANYTHING",
    "Arrivals",
    "Backfills",
    "Bells",
    "Calls",
    "Census",
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
    "Notices",
    "PurgeReport",
    "QuietHours",
    "ReapReport",
    "Remit",
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
    arrivals : Arrivals
    notices : Notices
    bells : Bells
    census : Census
    """

    def __init__(self, url: str, checkpoints: Path, rules: Rules | None = None) -> None:
        self._db = Database(url)
        rules = rules or Rules()
        self.jobs = Jobs(self._db)
        self.shards = Shards(self._db, rules)
        self.endpoints = EndpointBook(self._db)
        self.checkpoints = Checkpoints(self._db, checkpoints)
        self.backfills = Backfills(self._db)
        self.arrivals = Arrivals(self._db)
        self.notices = Notices(self._db)
        self.bells = Bells(self._db, rules)
        self.census = Census(self._db, rules)

    def ask(self) -> None:
        """Return if the database answers.

        Raises
        ------
        LedgerUnavailable
            It does not.
        """
        with self._db.read() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Close the connections to the database."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
