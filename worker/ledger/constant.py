"""Values that are the same in every run of a statement."""

from typing import Any

from sqlalchemy import ColumnElement, Integer, String, literal_column


def constant(value: str | int) -> ColumnElement[Any]:
    """Return a value of ours as part of a statement's text.

    As a parameter it would be one that PostgreSQL cannot know when it plans a statement for all its runs, and then it
    plans each run, which takes longer than the run.
    """
    return literal_column(str(value), Integer) if isinstance(value, int) else literal_column(f"'{value}'", String)
