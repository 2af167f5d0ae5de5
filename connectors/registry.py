"""The sources and sinks that are installed, found by entry point and loaded on first use."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from connectors.endpoints import Endpoints
from connectors.protocols import Source
from models.domain.errors import RequestError
from models.domain.slide import SlideRef

SOURCES, SINKS = "slidewire.sources", "slidewire.sinks"


@cache
def entries(group: str) -> Mapping[str, EntryPoint]:
    """Return a group's members by name; two under one name are an error."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise RequestError(f"Two members of {group} are called {entry.name!r}: uninstall one.")
    return found


def load(group: str, name: str) -> Any:
    """Return what is registered in a group under a name."""
    entry = entries(group).get(name)
    if entry is None:
        raise RequestError(f"{group} has no member {name!r}; there are: {', '.join(sorted(entries(group)))}.")
    return entry.load()


def open_source(ref: SlideRef, endpoints: Endpoints) -> Source:
    """Open a slide with the source of its kind.

    Raises
    ------
    SourceError, EndpointError
        It cannot be opened.
    """
    source: Source = load(SOURCES, ref.kind)(ref, endpoints)
    return source
