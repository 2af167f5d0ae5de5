"""What a source and a sink must do; nothing else about them is known further up."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from models.domain.embedding import Embeddings, Output, Provenance, ResultKey
from models.domain.errors import SlidewireError
from models.domain.patch import EncodedFrame
from models.domain.slide import Slide


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a source has read from where the slide is: requests (or reads), and bytes."""

    requests: int = 0
    bytes_read: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.requests + other.requests, self.bytes_read + other.bytes_read)

    def __sub__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.requests - other.requests, self.bytes_read - other.bytes_read)


class Gate(Protocol):
    """What each request to a server passes; safe to use from several threads."""

    def admit(self) -> None:
        """Return when a request may be sent.

        Raises
        ------
        EndpointPaused
            None may for a while.
        """

    def report(self, error: SlidewireError | None) -> None:
        """Take note of how a request that was let through ended; None: well."""


class OpenGate:
    """A `Gate` that lets everything through."""

    def admit(self) -> None:
        """Return at once."""

    def report(self, error: SlidewireError | None) -> None:
        """Take note of nothing."""


class Source(Protocol):
    """A slide that is open for reading; safe to use from several threads."""

    @property
    def slide(self) -> Slide:
        """The slide's geometry."""

    def frames(self, level: int, indices: Sequence[int]) -> Iterator[EncodedFrame]:
        """Yield the frames of a level, in the order of `indices` (tile numbers of `Level`, ascending, each once).

        An absent tile is never asked for.

        Raises
        ------
        FrameMissing
            The source does not give a frame that its metadata promise.
        EndpointError
            The server fails.
        """

    def header(self, level: int) -> Mapping[str, Any] | None:
        """Return the DICOM JSON (PS3.18 F) of the level's first instance without pixels; None if not DICOM."""

    def icc_profile(self, level: int) -> bytes | None:
        """Return the ICC profile of a level's pixels; None if the slide has none."""

    def close(self) -> Traffic:
        """Let go of connections and memory, and say what was read."""


@runtime_checkable
class Metered(Protocol):
    """A source that says while it is open what was read so far."""

    @property
    def traffic(self) -> Traffic:
        """What was read of the slide."""


@dataclass(frozen=True, slots=True)
class Result:
    """All that a sink needs to write a result.

    Parameters
    ----------
    key : ResultKey
    name : str
        File-name-safe name: slide, encoder and start of the key.
    embeddings : Embeddings
    provenance : Provenance
    header : DICOM JSON of the instance the patches were cut from, or None if the source is no DICOM
    picture : bytes or None
        PNG, if one was asked for.
    tissue : bool array, shape (any, any), or None
        Mask over the whole slide, if a map was asked for and tissue was looked for.
    slide : str
        File-name-safe name of the slide alone: a series UID in a PACS, else the file's; "" if unknown.
    written : tuple of Output
        What has been written of the result already; the report names its tables.
    step_px : (float, float) or None
        Pixels of the level that was read from a patch of the grid to the next (x, y); None if unknown.
    """

    key: ResultKey
    name: str
    embeddings: Embeddings
    provenance: Provenance
    header: Mapping[str, Any] | None
    picture: bytes | None = None
    tissue: NDArray[np.bool_] | None = None
    slide: str = ""
    written: tuple[Output, ...] = ()
    step_px: tuple[float, float] | None = None


class Sink(Protocol):
    """A place that results go to."""

    def write(self, result: Result) -> tuple[Output, ...]:
        """Write all of the result or raise; writing the same result again changes nothing.

        Raises
        ------
        ResultError
            Nothing that a reader could mistake for a result is left behind.
        """

    def holds(self, output: Output) -> bool:
        """Whether an output written earlier is still there; an output of another place is not.

        Raises
        ------
        ResultError, EndpointError
            That cannot be told now: nothing is known to be lost.
        """

    def close(self) -> None:
        """Let go of connections."""
