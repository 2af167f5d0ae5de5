"""Ledgers to measure: SQLite and PostgreSQL as they are run, commits on disk, filled in bulk."""

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from tests.services.postgresql import running_postgresql
from worker.ledger import Database, Lane, Ledger, endpoints

SHARDS_A_JOB = 3  # a slide of 10,000 patches, 4,096 a shard

_JOBS = """
INSERT INTO job (id, key, result_key, encoder, state, lane, endpoint, request, plan, plan_sha256, patches, holes,
    cancel_requested, error_code, error_message, outputs, created_at, updated_at)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :count - 1)
SELECT {job_id}, {job_id}, 'result', 'pixel-grid', 'queued', :lane, :endpoint, '{{}}', {nothing}, '', 10000, 0,
    false, '', '', '[]', 0, 0
FROM n
"""
_SHARDS = """
INSERT INTO shard (id, job_id, kind, idx, start, stop, state, endpoint, rank, turn, queue, epoch, owner, note,
    patches_done, not_before, attempts, crashes, dispatch_no, updated_at)
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < :count - 1)
SELECT {shard_id}, {job_id}, 'embed', idx, idx * 4096, idx * 4096 + 4096, 'pending', :endpoint, :rank, :first + i,
    'pixel-grid ' || :endpoint, 0, '', '', 0, :not_before, 0, 0, 0, 0
FROM n CROSS JOIN (SELECT 0 AS idx UNION SELECT 1 UNION SELECT 2) AS part
"""
_DIGITS = {
    "sqlite": {
        "job_id": "printf('%032x', :first + i)",
        "shard_id": "printf('%030x%02x', :first + i, idx)",
        "nothing": "x''",
    },
    "postgresql": {
        "job_id": "lpad(to_hex(CAST(:first + i AS integer)), 32, '0')",
        "shard_id": "lpad(to_hex(CAST(:first + i AS integer)) || '0' || idx, 32, '0')",
        "nothing": "''::bytea",
    },
}


@contextmanager
def fresh_ledgers() -> Iterator[dict[str, tuple[str, Path]]]:
    """Give the URL and the checkpoint folder of an empty ledger by the name of its database."""
    with tempfile.TemporaryDirectory() as name, running_postgresql(durable=True) as server:
        folder = Path(name)
        yield {
            "sqlite": (f"sqlite:///{folder / 'ledger.sqlite'}", folder / "sqlite"),
            "postgresql": (server.create_database(), folder / "postgresql"),
        }


def fill(ledger: Ledger, shards: int, *, first: int = 1, endpoint: str = "", not_before: float = 0.0) -> None:
    """Queue jobs of three shards in bulk, without plans; `first` is the number of the first job."""
    database: Database = ledger._db
    jobs = -(-shards // SHARDS_A_JOB)
    values = {"count": jobs, "first": first, "endpoint": endpoint, "lane": Lane.STANDARD, "rank": Lane.STANDARD.rank}
    with database.write("fill") as connection:
        endpoints.enter(connection, endpoint)
        dialect = connection.dialect.name
        connection.execute(text(_JOBS.format(**_DIGITS[dialect])), values)
        connection.execute(text(_SHARDS.format(**_DIGITS[dialect])), values | {"not_before": not_before})
    with database._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("VACUUM ANALYZE"))


def size_mb(url: str, ledger: Ledger) -> float:
    """Return what the ledger takes on disk, in MB."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.stat().st_size / 1e6
    with ledger._db.read() as connection:
        return float(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()) / 1e6
