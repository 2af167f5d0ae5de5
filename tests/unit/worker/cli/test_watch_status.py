"""How watches stand, as people and scripts read it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.intake.protocol import Place, Sighting
from models.domain.errors import RequestError
from worker.cli.watch_status import look_again, tell_list, tell_status
from worker.ledger import Ledger
from worker.ledger.arrival_records import ArrivalState, Decision, Patience


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the state folder of an installation in which three series have come to an archive."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIDEWIRE_STATE_FOLDER", str(tmp_path))
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path) as ledger:
        ledger.arrivals.open("pacs", Place(12, "mark"))
        found = [Sighting("1.2.71", f"1.2.71.{number}", instances=4) for number in range(3)]
        ledger.arrivals.read("pacs", Place(12, "mark"), Place(17, "other"), found, Patience(0.0, 0.1))
        ends = (ArrivalState.OVERDUE, "SLIDE_INCOMPLETE"), (ArrivalState.FAILED, "SOURCE_INVALID")
        for one, (end, code) in zip(ledger.arrivals.due("pacs", 2), ends, strict=True):
            ledger.arrivals.decide(one, Decision(end, code, rule="all"))
    return tmp_path


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[], Any]:
    """Return what was printed since the last time, as JSON."""
    return lambda: json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("watched")
def test_status_is_how_far_and_how_many(said: Callable[[], Any]) -> None:
    """The event log, the search, series by state, and why they stand so."""
    tell_status(None, as_json=True)
    [report] = said()
    assert (report["endpoint"], report["events"]["read_to"]) == ("pacs", 17)
    assert 0 <= report["events"]["behind_s"] < 60
    assert (report["reconciliation"]["ended_at"], report["reconciliation"]["under_way"]) == (None, False)
    counted = {state: number for state, number in report["arrivals"].items() if number}
    assert counted == {"settling": 1, "overdue": 1, "failed": 1}
    assert report["codes"] == {"overdue": {"SLIDE_INCOMPLETE": 1}, "failed": {"SOURCE_INVALID": 1}}


@pytest.mark.usefixtures("watched")
def test_uids_are_told_only_if_asked_for(capsys: pytest.CaptureFixture[str], said: Callable[[], Any]) -> None:
    """On a terminal and in JSON."""
    tell_status("pacs", as_json=False)
    tell_status("pacs", as_json=True)
    tell_list("pacs", "overdue", show_uids=False, as_json=False)
    tell_list(None, "overdue", show_uids=False, as_json=True)
    shown = capsys.readouterr().out
    assert shown.count("SLIDE_INCOMPLETE") == 4
    assert "1.2.71" not in shown
    tell_list("pacs", "overdue", show_uids=True, as_json=True)
    [late] = said()
    assert (late["study_uid"], late["series_uid"], late["rule"]) == ("1.2.71", "1.2.71.0", "all")


@pytest.mark.usefixtures("watched")
def test_what_was_given_up_is_looked_at_again(said: Callable[[], Any]) -> None:
    """Those in the state that is named."""
    look_again("pacs", "overdue", as_json=True)
    assert said() == {"again": 1}
    tell_status("pacs", as_json=True)
    [report] = said()
    assert (report["arrivals"]["settling"], report["arrivals"]["overdue"], report["arrivals"]["failed"]) == (2, 0, 1)


@pytest.mark.usefixtures("watched")
def test_what_is_misspelt_is_said() -> None:
    """An archive that nobody watched, a state that there is not, one that is nobody's to look at again."""
    with pytest.raises(RequestError, match="never watched"):
        tell_status("pax", as_json=True)
    with pytest.raises(RequestError, match="never watched"):
        look_again("pax", "failed", as_json=True)
    with pytest.raises(RequestError, match="--list takes one of settling"):
        tell_list("pacs", "gone", show_uids=False, as_json=True)
    with pytest.raises(RequestError, match="--retry takes one of failed"):
        look_again("pacs", "submitted", as_json=True)


def test_nothing_is_watched_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An installation without a watch says so."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLIDEWIRE_STATE_FOLDER", str(tmp_path))
    tell_status(None, as_json=False)
    assert capsys.readouterr().out == "No watches.\n"
