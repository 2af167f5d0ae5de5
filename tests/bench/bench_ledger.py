"""How fast the ledger is: claims and whole turns a second, beside bare commits; and with a million shards in it.

``make bench-ledger``: SQLite (WAL, synchronous FULL) and PostgreSQL (as it comes: fsync, synchronous_commit), one and
four processes, rounds in turn, medians. The bare commit is one UPDATE by the driver alone, as durable: no ledger that
commits each claim is faster. Celery over Redis, which promises less, for comparison.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.broker import celery_rates
from tests.bench.deeds import claims, lay_out_raw, raw_commits, turns
from tests.bench.ledgers import fill, fresh_ledgers, size_mb
from tests.bench.rates import PROCESSES, Deed, Hands, hands, percentiles
from worker.ledger import Ledger

ROUNDS = 5
ROUND_S = 1.5
MILLION = 1_000_000
BACKING_OFF = 10_000
IN_A_ROW = 200_000
_FAR = 4e9  # seconds since 1970: not before that
_DEEDS: dict[str, Deed] = {"commit": raw_commits, "claim": claims, "turn": turns}


def rates(urls: dict[str, str], pool: Hands) -> dict[str, dict[str, float]]:
    """Return how often a second each deed is done, by database, deed and processes; medians of alternating rounds."""
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(ROUNDS):
        for database, url in urls.items():
            for name, deed in _DEEDS.items():
                for processes in (1, PROCESSES):
                    rate = pool.rate(deed, url, processes, ROUND_S)
                    key = f"{database}, {name}, {processes}"
                    found.setdefault(key, []).append((rate.per_s, rate.p50_ms, rate.p99_ms))
    medians = {key: [statistics.median(column) for column in zip(*rows, strict=True)] for key, rows in found.items()}
    return {
        key: {
            "per_s": round(per_s),
            "p50_ms": p50,
            "p99_ms": p99,
            "of_a_commit": round(per_s / medians[_bare(key)][0], 2),
        }
        for key, (per_s, p50, p99) in medians.items()
    }


def _bare(key: str) -> str:
    database, _, processes = key.split(", ")
    return f"{database}, commit, {processes}"


def a_million(url: str, folder: Path) -> dict[str, float | tuple[float, float]]:
    """Return what everyday calls take (p50, p99 in ms) with half of a million shards barred, and thousands waiting."""
    with Ledger(url, folder) as ledger:
        started = time.perf_counter()
        fill(ledger, BACKING_OFF, first=MILLION, endpoint="open", not_before=_FAR)
        fill(ledger, MILLION // 2 - BACKING_OFF, first=MILLION * 2, endpoint="open")
        fill(ledger, MILLION // 2, first=1, endpoint="barred")
        _bar(ledger)
        figures: dict[str, float | tuple[float, float]] = {
            "fill_s": round(time.perf_counter() - started, 1),
            "size_mb": round(size_mb(url, ledger)),
            "claim": _taken(lambda: ledger.shards.claim("bench"), 1000),
        }
        lease = ledger.shards.claim("bench")
        assert lease is not None
        assert lease.endpoint == "open"
        others: dict[str, Callable[[], object]] = {
            "heartbeat": lambda: ledger.shards.heartbeat(lease, 1, "embedding"),
            "reap": ledger.shards.reap,
            "jobs list": lambda: ledger.jobs.list(50),
            "job": lambda: ledger.jobs.get(lease.job_id),
            "remaining": ledger.shards.remaining,
        }
        return figures | {name: _taken(call, 100) for name, call in others.items()}


def in_a_row(url: str, folder: Path) -> dict[str, tuple[float, float]]:
    """Return p50 and p99 in ms of the first and of the last tenth of very many claims, nothing vacuumed by hand."""
    with Ledger(url, folder) as ledger:
        fill(ledger, IN_A_ROW + 3, first=MILLION * 3)
        tenth = IN_A_ROW // 10
        first = _taken(lambda: ledger.shards.claim("bench"), tenth)
        _taken(lambda: ledger.shards.claim("bench"), IN_A_ROW - 2 * tenth)
        return {"first tenth": first, "last tenth": _taken(lambda: ledger.shards.claim("bench"), tenth)}


def _bar(ledger: Ledger) -> None:
    with ledger._db.write("bar") as connection:
        connection.exec_driver_sql(f"UPDATE endpoint SET state = 'open', open_until = {_FAR} WHERE key = 'barred'")


def _taken(call: Callable[[], object], times: int) -> tuple[float, float]:
    call()
    latencies = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        latencies.append(time.perf_counter() - started)
    return percentiles(latencies)


def main() -> None:
    """Measure, and print a table and one line of JSON."""
    with fresh_ledgers() as places, hands() as pool:
        for url, folder in places.values():
            with Ledger(url, folder) as ledger:
                lay_out_raw(ledger)
                fill(ledger, 150_000)
        figures: dict[str, object] = {"rates": rates({name: url for name, (url, _) in places.items()}, pool)}
    figures["celery"] = celery_rates()
    with fresh_ledgers() as places:
        figures["a million"] = {name: a_million(*place) for name, place in places.items()}
    with fresh_ledgers() as places:
        figures["in a row"] = {name: in_a_row(*place) for name, place in places.items()}
    for title, table in figures.items():
        assert isinstance(table, dict)
        for name, values in table.items():
            sys.stdout.write(f"{title:<10} {name:<24} {values}\n")
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
