"""A ledger for each test, once on SQLite and once on a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.postgresql import postgresql_server, postgresql_url
from worker.ledger import Ledger

__all__ = ["postgresql_server", "postgresql_url"]


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a database that does not hold a ledger yet."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql_url"))
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def ledger(ledger_url: str, tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger."""
    with Ledger(ledger_url, tmp_path / "checkpoints") as opened:
        yield opened
