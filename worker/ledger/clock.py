"""The database's clock, the only one the ledger believes: seconds since 1970 as a float."""

from typing import Any

from sqlalchemy import Double
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class EpochSeconds(FunctionElement[float]):
    """The time at which the statement runs, by the clock of the database."""

    type = Double()
    inherit_cache = True


@compiles(EpochSeconds, "sqlite")  # type: ignore[no-untyped-call,untyped-decorator,unused-ignore]
def _sqlite(element: EpochSeconds, compiler: SQLCompiler, **kw: Any) -> str:  # noqa: ARG001
    # unixepoch('subsec') needs SQLite 3.42; Debian 12 has 3.40. 2440587.5 is 1970-01-01 as a Julian day.
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(EpochSeconds, "postgresql")  # type: ignore[no-untyped-call,untyped-decorator,unused-ignore]
def _postgresql(element: EpochSeconds, compiler: SQLCompiler, **kw: Any) -> str:  # noqa: ARG001
    # now() would be the start of the transaction, which may have waited for a lock since. A subselect, as that is
    # evaluated once a statement: a bare volatile function is called for every row, and no index is searched by it.
    return "(SELECT extract(epoch from clock_timestamp())::double precision)"


NOW = EpochSeconds()
