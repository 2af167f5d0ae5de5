"""The time a job took: who worked on which shard from when to when, from the ledger's history."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from worker.ledger import Incident, JobRecord

_QUIET = {"claimed", "completed"}


@dataclass(frozen=True, slots=True)
class Span:
    """A shard in the hands of a worker.

    Parameters
    ----------
    worker : int
        1-based number of the worker, in the order in which they came.
    shard : int
        0-based; the publication has the last.
    kind : {"embed", "publish"}
    start_s, end_s : float
        Seconds since the submission.
    event : str
        How it ended, as in `Incident`; ``running`` if it has not.
    """

    worker: int
    shard: int
    kind: str
    start_s: float
    end_s: float
    event: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """A job from its submission to its end, or as far as it got.

    Parameters
    ----------
    spans : tuple of Span
        By their start.
    took_s : float
        From submission to the last thing known of it.
    incidents : tuple of Incident
        What went otherwise than claimed and completed, oldest first.
    """

    spans: tuple[Span, ...]
    took_s: float
    incidents: tuple[Incident, ...]

    @classmethod
    def of(cls, job: JobRecord, history: Sequence[Incident]) -> Self:
        """Read it off a job's history, oldest first."""
        last = max([job.updated_at, *(one.at for one in history)])
        owners = {owner: number for number, owner in enumerate(dict.fromkeys(one.owner for one in history), 1)}
        ends = {(one.shard, one.epoch): one for one in history if one.event != "claimed"}
        spans = []
        for begun in (one for one in history if one.event == "claimed"):
            end = ends.get((begun.shard, begun.epoch))
            at, event = (last, "running") if end is None else (end.at, end.event)
            start_s, end_s = begun.at - job.created_at, at - job.created_at
            spans.append(Span(owners[begun.owner], begun.shard, begun.kind, start_s, max(start_s, end_s), event))
        incidents = tuple(one for one in history if one.event not in _QUIET)
        return cls(tuple(spans), max(0.0, last - job.created_at), incidents)

    @property
    def waited_s(self) -> float | None:
        """Seconds in the queue before the first worker came; None: none did."""
        return max(0.0, self.spans[0].start_s) if self.spans else None

    @property
    def retries(self) -> int:
        """How often a shard was claimed again."""
        return len(self.spans) - len({span.shard for span in self.spans})

    @property
    def workers(self) -> int:
        """How many workers had a part in it."""
        return max((span.worker for span in self.spans), default=0)

    def busy_s(self, kind: str) -> float:
        """Return the seconds in which at least one shard of a kind was worked on."""
        total, reached = 0.0, 0.0
        for span in sorted((span for span in self.spans if span.kind == kind), key=lambda one: one.start_s):
            total += max(0.0, span.end_s - max(reached, span.start_s))
            reached = max(reached, span.end_s)
        return total
