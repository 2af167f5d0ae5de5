"""Members of Slidewire's registries: found by entry point, loaded on first use, never two under one name."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from models.domain.errors import RequestError


@cache
def members(group: str) -> Mapping[str, EntryPoint]:
    """Return a group's members by name.

    Raises
    ------
    RequestError
        Two different members have one name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise RequestError(
                f"Two members of {group} are called {entry.name!r} ({other.value} and {entry.value}): uninstall one."
            )
    return found


def load_member(group: str, name: str) -> Any:
    """Return what is registered in a group under a name.

    Raises
    ------
    RequestError
        Nothing is; names what exists.
    """
    entry = members(group).get(name)
    if entry is None:
        raise RequestError(f"{group} has no member {name!r}; there are: {', '.join(sorted(members(group)))}.")
    return entry.load()
