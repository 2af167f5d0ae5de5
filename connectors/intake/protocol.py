"""What an archive tells of series that come in, and what its event log must do."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Place:
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
class Sighting:
    """Something has happened to a series, or it is there.

    Parameters
    ----------
    study_uid, series_uid : str
    calling_aet : str
        Who sent it; "" if the archive does not say.
    instances : int
        Of the series, as far as the archive says; 0: it does not.
    changed : bool
        Something has happened to it. False: it is there, which is news of one that never arrived, or that has another
        number of instances now.
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
    after : Place
        Where to read on.
    series : tuple of Sighting
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

    after: Place
    series: tuple[Sighting, ...] = ()
    more: bool = False
    reset: bool = False
    truncated: bool = False
    unusable: int = 0


class EventLog(Protocol):
    """The event log of one archive; for one thread."""

    def head(self) -> Place:
        """Return the end of the log: what comes from now on is after it.

        Raises
        ------
        EndpointError
            The archive fails, or answers something else.
        """

    def read(self, after: Place) -> Events:
        """Return the page that follows a place; what has been deleted from the archive since is not among it.

        Raises
        ------
        EndpointError
            The archive fails, or answers something else: nothing was skipped.
        """

    def close(self) -> None:
        """Let go of connections."""
