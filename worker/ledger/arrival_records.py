"""What the ledger knows of watched archives: frozen values."""

from dataclasses import dataclass
from enum import StrEnum

from connectors.intake.protocol import Place
from worker.ledger.backfills import Cursor


class ArrivalState(StrEnum):
    """What became of a series; the first two will be looked at by themselves, any other at its next event."""

    SETTLING = "settling"
    INCOMPLETE = "incomplete"
    OVERDUE = "overdue"
    SUBMITTED = "submitted"
    PASSED_OVER = "passed-over"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a series is waited for.

    Parameters
    ----------
    quiet_s : float
        Without an event, before it is looked at.
    deadline_s : float
        From its first event on, after which it is late.
    """

    quiet_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class WatchRecord:
    """A watched endpoint as the ledger knows it; times in seconds since 1970 by the database's clock, None: never.

    Parameters
    ----------
    endpoint : str
    place : Place
        How far its event log has been read.
    search : Cursor
        How far the reconciliation under way has come.
    read_at, reconciled_at : float or None
        When the event log was last read, and the last reconciliation ended.
    created_at, now : float
    """

    endpoint: str
    place: Place
    search: Cursor
    read_at: float | None
    reconciled_at: float | None
    created_at: float
    now: float


@dataclass(frozen=True, slots=True)
class Arrival:
    """A series that came; its UIDs are for the archive, not for messages. Times as in `WatchRecord`.

    Parameters
    ----------
    serial : int
        Order in which it was first seen.
    endpoint, study_uid, series_uid, calling_aet : str
    state : ArrivalState
    code, rule, job_id, set_sha256 : str
        Why it stands so, the rule that matched, the job that was made of it, and of which instances; "" for none.
    instances, version, tries : int
        As far as is known; events so far; looks since the last event.
    first_at, changed_at, due_at, deadline_at : float
    now : float
    """

    serial: int
    endpoint: str
    study_uid: str
    series_uid: str
    calling_aet: str
    state: ArrivalState
    code: str
    rule: str
    job_id: str
    set_sha256: str
    instances: int
    version: int
    tries: int
    first_at: float
    changed_at: float
    due_at: float
    deadline_at: float
    now: float

    @property
    def late(self) -> bool:
        """Whether its deadline has passed."""
        return self.now >= self.deadline_at


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided about a series.

    Parameters
    ----------
    state : ArrivalState
    code, rule, set_sha256 : str
        As in `Arrival`.
    instances : int
        That it had.
    again_s : float
        Seconds after which it is looked at again, if the state is one that is.
    """

    state: ArrivalState
    code: str = ""
    rule: str = ""
    set_sha256: str = ""
    instances: int = 0
    again_s: float = 0.0
