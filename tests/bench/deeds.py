"""What is done to a ledger over and over: claims, whole turns of a shard; and the least that could be done."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import psycopg

from worker.ledger import Lease, Ledger

_RAW = "CREATE TABLE raw (id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL)"
_ROWS = 100_000
_RAW_ROWS = """
INSERT INTO raw WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999) SELECT i, 0 FROM n
"""


@contextmanager
def claims(url: str) -> Iterator[Callable[[], object]]:
    """Claim the next shard of any job."""
    with Ledger(url, Path("/nonexistent")) as ledger:
        yield lambda: _claim(ledger)


@contextmanager
def turns(url: str) -> Iterator[Callable[[], object]]:
    """Claim a shard, renew its lease once, complete it; publish as it comes."""
    with Ledger(url, Path("/nonexistent")) as ledger:

        def turn() -> None:
            lease = _claim(ledger)
            ledger.shards.heartbeat(lease, 1, "embedding, 1 of 2 patches, peak 500 MB")
            if lease.kind == "publish":
                ledger.shards.publish(lease, ())
            else:
                ledger.shards.complete(lease)

        yield turn


@contextmanager
def raw_commits(url: str) -> Iterator[Callable[[], object]]:
    """Change one row of a table by the driver alone, and commit as durably as the ledger does."""
    numbers = count(id(url))
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, timeout=30)) as database:
            database.execute("PRAGMA synchronous = FULL")

            def change() -> None:
                database.execute("BEGIN IMMEDIATE")
                database.execute("UPDATE raw SET epoch = epoch + 1 WHERE id = ?", (next(numbers) * 7919 % _ROWS,))
                database.execute("COMMIT")

            yield change
    else:
        with psycopg.connect(url, autocommit=True) as server:
            yield lambda: server.execute(
                "UPDATE raw SET epoch = epoch + 1 WHERE id = %s", (next(numbers) * 7919 % _ROWS,)
            )


def lay_out_raw(ledger: Ledger) -> None:
    """Create the table of `raw_commits`."""
    with ledger._db.write("raw") as connection:
        connection.exec_driver_sql(_RAW)
        connection.exec_driver_sql(_RAW_ROWS)


def _claim(ledger: Ledger) -> Lease:
    lease = ledger.shards.claim("bench")
    assert lease is not None
    return lease
