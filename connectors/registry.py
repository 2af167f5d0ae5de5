"""The sources and sinks that are installed; each is one file and one entry-point line."""

from collections.abc import Iterator
from contextlib import contextmanager

from connectors.endpoints import Endpoints
from connectors.protocols import Sink, Source
from models.domain.request import OutputSpec
from models.domain.slide import SlideRef
from models.members import load_member, members

SOURCES, SINKS = "slidewire.sources", "slidewire.sinks"


def open_source(ref: SlideRef, endpoints: Endpoints) -> Source:
    """Open a slide with the source of its kind.

    Raises
    ------
    SourceError, EndpointError
        It cannot be opened.
    """
    source: Source = load_member(SOURCES, ref.kind)(ref, endpoints)
    return source


@contextmanager
def open_sinks(output: OutputSpec, ref: SlideRef, endpoints: Endpoints) -> Iterator[tuple[Sink, ...]]:
    """Open the sinks that a request asks for, in the order of their names (files before the PACS), and close them.

    A report in the PACS never speaks of a table that could not be written.
    """
    opened = (load_member(SINKS, name)(output, ref, endpoints) for name in sorted(members(SINKS)))
    sinks: tuple[Sink, ...] = tuple(sink for sink in opened if sink is not None)
    try:
        yield sinks
    finally:
        for sink in sinks:
            sink.close()
