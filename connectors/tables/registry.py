"""The table layouts that are installed; each is one file and one entry-point line."""

from connectors.tables.protocol import Table
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
