"""What an archive's event log must do; nothing else about it is known further up."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogPlace:
    """How far an event log has been read.

    Parameters
    ----------
    cursor : int
        Number of the last entry that was read; 0: none.
    mark : str
        What that entry was; another one under its number is another log. "" if it is not known.
    """

    cursor: int = 0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class SeriesSeen:
    """A series that entries of the log are about.

    Parameters
    ----------
    study_uid, series_uid : str
        For the archive, not for messages.
    calling_aet : str
        Who sent it by DIMSE; "" if the archive does not say.
    instances : int
        That it has now.
    changed : bool
        An instance came. False: the log only says that it is there.
    """

    study_uid: str
    series_uid: str
    calling_aet: str = ""
    instances: int = 0
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Events:
    """A page of an event log.

    Parameters
    ----------
    after : LogPlace
        Where to read on.
    series : tuple of SeriesSeen
        Each once.
    more : bool
        There is another page.
    reset : bool
        It is another log than the one that was read before; `after` is its beginning.
    truncated : bool
        Entries that were not read yet may have been removed from it.
    unusable : int
        Series that are left out, as their UIDs are none.
    """

    after: LogPlace
    series: tuple[SeriesSeen, ...] = ()
    more: bool = False
    reset: bool = False
    truncated: bool = False
    unusable: int = 0


class EventLog(Protocol):
    """The event log of one archive; for one thread."""

    def head(self) -> LogPlace:
        """Return the end of the log: what comes from now on is after it.

        Raises
        ------
        EndpointError
            The archive fails, or answers something else.
        """

    def read(self, after: LogPlace) -> Events:
        """Return the page that follows a place; what has been deleted from the archive since is not among it.

        Raises
        ------
        EndpointError
            The archive fails, or answers something else: nothing was skipped.
        """

    def close(self) -> None:
        """Let go of connections."""
