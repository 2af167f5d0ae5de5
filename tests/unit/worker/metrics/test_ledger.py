"""What the ledger's metrics say, of whom they are silent, and that a ledger that is away makes no scrape fail."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from connectors.intake.protocol import Place, Sighting
from models.domain.errors import LedgerUnavailable
from tests.unit.worker.ledger.sample import submit
from worker.intake_settings import WebhookSettings
from worker.ledger import Calls, Ledger
from worker.ledger.arrival_records import Patience
from worker.ledger.census import Figures
from worker.metrics import ledger as module
from worker.metrics.ledger import LedgerMetrics
from worker.settings import Settings


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "checkpoints") as opened:
        yield opened


def _scrape(metrics: LedgerMetrics) -> list[str]:
    lines = generate_latest(metrics.registry()).decode().splitlines()
    return [line.removeprefix("slidewire_") for line in lines if not line.startswith("#")]


def test_an_empty_ledger_has_numbers(ledger: Ledger) -> None:
    """All lanes and states, at nought."""
    found = _scrape(LedgerMetrics(ledger, {}))
    assert "ledger_up 1.0" in found
    for lane in ("interactive", "standard", "backfill"):
        assert f'queue_age_seconds{{lane="{lane}"}} 0.0' in found
    assert 'jobs{state="quarantined"} 0.0' in found
    assert "quarantined_jobs 0.0" in found
    assert "lease_expiries_total 0.0" in found
    assert "oldest_unclaimed_shard_seconds 0.0" in found


def test_notices_count_where_somebody_is_told(ledger: Ledger) -> None:
    """Without a webhook nobody is to be told, so nothing waits; with one, what ended does."""
    ledger.jobs.cancel(submit(ledger, "job", 1).id)
    alone, told = Settings(), Settings(webhook=WebhookSettings(url="https://hook", secret="env:KEY"))
    assert "notices_due" not in "".join(_scrape(LedgerMetrics.of(ledger, alone)))
    assert "notices_due 1.0" in _scrape(LedgerMetrics.of(ledger, told))


def test_no_host_gets_into_a_label(ledger: Ledger) -> None:
    """Servers without a name are counted together; jobs from a disk have no server."""
    for key in ("https://pacs.hospital.example:8443", "http://10.0.0.7", "pacs", ""):
        submit(ledger, f"job of {key}", 1, endpoint=key)
    for key in ("https://pacs.hospital.example:8443", "http://10.0.0.7"):
        ledger.endpoints.note(key, Calls(failure="ACCESS_DENIED", denied=True))
    found = _scrape(LedgerMetrics(ledger, {"pacs": False}))
    assert [line for line in found if line.startswith("endpoint_open")] == [
        'endpoint_open{endpoint="other"} 2.0', 'endpoint_open{endpoint="pacs"} 0.0',
    ]  # fmt: skip
    assert "hospital" not in "".join(found)
    assert "10.0.0.7" not in "".join(found)


def test_encoders_are_told_with_what_waits_for_them(ledger: Ledger) -> None:
    """Also that nobody works on it."""
    submit(ledger, "a", 3)
    found = _scrape(LedgerMetrics(ledger, {}))
    assert 'due_shards{encoder="pixel-grid",lane="standard"} 3.0' in found
    assert 'leased_shards{encoder="pixel-grid"} 0.0' in found


def test_only_archives_of_the_settings_are_told(ledger: Ledger) -> None:
    """One that nobody is meant to watch any more raises no alarm; one without an event log is not behind with it."""
    for name in ("pacs", "plain", "gone"):
        ledger.arrivals.open(name, Place())
    ledger.arrivals.read("pacs", Place(), Place(1), [Sighting("1.2", "1.3")], Patience(1.0, 9.0))
    found = "\n".join(_scrape(LedgerMetrics(ledger, {"pacs": True, "plain": False})))
    assert "gone" not in found
    assert 'watch_behind_seconds{endpoint="pacs"}' in found
    assert 'watch_behind_seconds{endpoint="plain"}' not in found
    assert 'reconciled_age_seconds{endpoint="plain"}' in found
    assert 'arrivals{endpoint="pacs",state="settling"} 1.0' in found
    assert 'overdue_slides{endpoint="pacs"} 0.0' in found
    assert "1.3" not in found


def test_a_census_is_told_again_for_a_while(ledger: Ledger) -> None:
    """However often somebody looks, the ledger is asked every ten seconds."""
    metrics = LedgerMetrics(ledger, {})
    assert 'jobs{state="queued"} 0.0' in _scrape(metrics)
    submit(ledger)
    assert 'jobs{state="queued"} 0.0' in _scrape(metrics)
    assert 'jobs{state="queued"} 1.0' in _scrape(LedgerMetrics(ledger, {}, fresh_s=0.0))


def test_a_ledger_that_fails_is_told(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scrape succeeds, says so, and holds no number that may be old."""

    def fail() -> Figures:
        raise LedgerUnavailable("x")

    metrics = LedgerMetrics(ledger, {}, fresh_s=0.0)
    assert len(_scrape(metrics)) > 1
    with monkeypatch.context() as patch:
        patch.setattr(ledger.census, "take", fail)
        assert _scrape(metrics) == ["ledger_up 0.0"]
    assert "ledger_up 1.0" in _scrape(metrics)


def test_a_ledger_that_hangs_holds_up_no_scrape(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once, however many look; when it answers in the end, that is told."""
    asked, answer = [], threading.Event()

    def hang() -> Figures:
        asked.append(1)
        assert answer.wait(30.0)
        return Figures()

    metrics = LedgerMetrics(ledger, {}, fresh_s=0.0)
    assert "ledger_up 1.0" in _scrape(metrics), "what was counted before is not told meanwhile"
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(ledger.census, "take", hang)
    assert _scrape(metrics) == _scrape(metrics) == ["ledger_up 0.0"]
    assert asked == [1]
    monkeypatch.setattr(module, "_PATIENCE_S", 30.0)
    answer.set()
    assert "ledger_up 1.0" in _scrape(metrics)
    assert len(asked) <= 2
