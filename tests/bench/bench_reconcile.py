"""What it takes to reconcile a large archive: requests, seconds, memory, and what the ledger grows by.

    python -m tests.bench.bench_reconcile [--series 100000]

The archive is made up by another process. It is gone through three times: all is new, nothing is new, and the last
three days only.
"""

import argparse
import datetime as dt
import time

from connectors.endpoints import Endpoint
from connectors.intake.protocol import Place
from models.domain.rule import Criteria, Rule
from tests.bench.feed_memory import memory_mb
from tests.bench.ledgers import fresh_ledgers, size_mb
from tests.services.made_up_archive import MadeUpArchive, made_up_archive
from worker.intake_settings import WatchSettings
from worker.ledger import Ledger
from worker.ledger.arrival_records import ArrivalState
from worker.watch.reconcile import Reconciler

_A_DAY = 20
_RULES = (Rule("slides", Criteria(modality=("SM",))),)


def _search(archive: MadeUpArchive, ledger: Ledger, days: int, what: str) -> None:
    reconciler = Reconciler(Endpoint(archive.url, "pacs"), ledger.arrivals, _RULES, WatchSettings(reconcile_days=days))
    asked, before_mb, start = archive.requests, memory_mb("VmRSS"), time.perf_counter()
    reconciler.search()
    passed_s, requests = time.perf_counter() - start, archive.requests - asked
    print(
        f"  {what:<12} {requests} requests, {passed_s:.1f} s, memory {before_mb:.0f} MB before, "
        f"{memory_mb('VmHWM'):.0f} MB at its highest so far"
    )


def main() -> None:
    """Measure."""
    options = argparse.ArgumentParser()
    options.add_argument("--series", type=int, default=100_000)
    series = options.parse_args().series
    first = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=-(-series // _A_DAY) - 1)
    with made_up_archive(series, _A_DAY, first) as archive, fresh_ledgers() as ledgers:
        for name, (url, folder) in ledgers.items():
            print(f"{name}: {series} series")
            with Ledger(url, folder) as ledger:
                ledger.arrivals.open("pacs", Place())
                empty_mb = size_mb(url, ledger)
                _search(archive, ledger, 0, "all is new")
                full_mb = size_mb(url, ledger)
                _search(archive, ledger, 0, "nothing new")
                _search(archive, ledger, 3, "three days")
                start = time.perf_counter()
                found = ledger.arrivals.tally("pacs")[ArrivalState.SETTLING]
                counted_ms = 1000 * (time.perf_counter() - start)
                assert found == series, found
                grown = 1e6 * (full_mb - empty_mb) / series
                print(f"  ledger       {grown:.0f} bytes an arrival; counted in {counted_ms:.0f} ms")


if __name__ == "__main__":
    main()
