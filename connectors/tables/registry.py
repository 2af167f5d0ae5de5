"""The table layouts that are installed; each is one file and one entry-point line."""

from collections.abc import Iterable

import numpy as np

from connectors.tables.protocol import Table, TableContent
from models.domain.embedding import Embeddings, Provenance
from models.members import load_member, members

TABLES = "slidewire.tables"
CANONICAL = "parquet"


def table_names() -> tuple[str, ...]:
    """Return the names of all layouts, sorted."""
    return tuple(sorted(members(TABLES)))


def find_table(name: str) -> Table:
    """Return a layout.

    Raises
    ------
    RequestError
        There is none of that name.
    """
    table: Table = load_member(TABLES, name)
    return table


def check_tables(names: Iterable[str], provenance: Provenance) -> None:
    """Write each layout without a patch, for nothing: what it lacks is to be known before anything is computed.

    Raises
    ------
    RequestError
        There is no such layout, or it needs an extra that is not installed.
    ResultError
        The layout cannot hold results of that kind.
    """
    corners = np.zeros((0, 2))
    um = None if provenance.level_0_spacing_um is None else corners
    none = Embeddings(np.zeros((0, provenance.dimension), np.float32), np.zeros((0, 4), np.int32), corners, um)
    for name in names:
        for _ in find_table(name).write(TableContent("none", none, provenance)):
            pass
