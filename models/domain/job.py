"""How urgent a job is, and where it stands."""

from enum import StrEnum


class Lane(StrEnum):
    """How urgent a job is: a shard of a later lane is claimed only if none of an earlier one is due."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BACKFILL = "backfill"

    @property
    def rank(self) -> int:
        """Its place in the order of claims, ascending."""
        return {"interactive": -10, "standard": 0, "backfill": 10}[self.value]


class JobState(StrEnum):
    """Where a job stands; the last four are final, until somebody reopens it."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELLED = "cancelled"
