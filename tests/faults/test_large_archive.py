"""An archive of 100,000 series is reconciled in bounded requests and memory, and a second time without a write."""

import datetime as dt
from pathlib import Path

import pytest

from connectors.archive import PAGE
from connectors.endpoints import Endpoint
from connectors.intake.protocol import Place
from models.domain.rule import Criteria, Rule
from tests.bench.feed_memory import memory_mb
from tests.services.made_up_archive import made_up_archive
from worker.intake_settings import WatchSettings
from worker.ledger import Ledger
from worker.ledger.arrival_records import ArrivalState
from worker.watch.reconcile import Reconciler

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

_SERIES = 100_000
_MOST_MB = 16.0
_RULES = (Rule("slides", Criteria(modality=("SM",))),)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_archive_of_a_hundred_thousand_series(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Two requests a page of a hundred studies and one at the end; memory grows by a page, not by the archive."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if database == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    first = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=_SERIES)
    with made_up_archive(_SERIES, 1, first) as archive, Ledger(url, tmp_path) as ledger:
        ledger.arrivals.open("pacs", Place())
        settings = WatchSettings(reconcile_days=0)
        reconciler = Reconciler(Endpoint(archive.url, "pacs"), ledger.arrivals, _RULES, settings)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew (proc(5))
        before_mb = memory_mb("VmHWM")
        reconciler.search()
        expected = 2 * _SERIES // PAGE + 1
        assert archive.requests == expected
        assert ledger.arrivals.tally("pacs")[ArrivalState.SETTLING] == _SERIES
        written = _last_write(ledger)
        reconciler.search()
        assert archive.requests == 2 * expected
        assert _last_write(ledger) == written
        assert memory_mb("VmHWM") - before_mb < _MOST_MB


def _last_write(ledger: Ledger) -> tuple[float, int]:
    with ledger._db.read() as connection:
        [row] = connection.exec_driver_sql("SELECT max(updated_at), sum(version) FROM arrival").all()
        return float(row[0]), int(row[1])
