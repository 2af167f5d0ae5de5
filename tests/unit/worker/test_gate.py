"""worker.gate: the gates of several workers to one server, over one ledger."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import update

from connectors.endpoints import Endpoint
from models.domain.errors import (
    AccessDenied,
    EndpointBusy,
    EndpointError,
    EndpointFailed,
    EndpointPaused,
    EndpointUnreachable,
    LedgerUnavailable,
    ResponseInvalid,
    SlidewireError,
    SourceUnreadable,
)
from tests.unit.worker.ledger.sample import together
from worker.gate import Gates, LedgerGate
from worker.ledger import EndpointRecord, EndpointRules, Ledger
from worker.ledger.schema import endpoint

_PACS = Endpoint("https://pacs.test/wado", "pacs")
_FAILED = EndpointFailed("The endpoint 'pacs' failed (500).")
_OUTAGES = [
    _FAILED,
    EndpointUnreachable("The endpoint 'pacs' did not answer in time."),
    EndpointBusy("The endpoint 'pacs' is busy (503)."),
    EndpointError("The certificate of the endpoint 'pacs' is not trusted."),
]
_ANSWERS = [None, ResponseInvalid("Refused (404)."), SourceUnreadable("There is no file.")]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "checkpoints") as opened:
        yield opened


@pytest.fixture
def gate(ledger: Ledger) -> LedgerGate:
    """Give the gate of one worker."""
    return _gate(ledger)


def _gate(ledger: Ledger, rate: float | None = None) -> LedgerGate:
    return Gates(ledger.endpoints, {"pacs": EndpointRules(requests_per_s=rate)}).of(_PACS)


def _known(ledger: Ledger) -> EndpointRecord:
    [found] = ledger.endpoints.list()
    return found


def _fail(gate: LedgerGate, *errors: SlidewireError | None) -> None:
    for error in errors:
        gate.admit()
        gate.report(error)


def _set(ledger: Ledger, **values: object) -> None:
    with ledger._db.write() as connection:
        connection.execute(update(endpoint).values(**values))


def _shift_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let time pass for this process, and not for the ledger."""
    real = time.monotonic
    monkeypatch.setattr("worker.gate.time.monotonic", lambda: real() + seconds)


@pytest.mark.parametrize("error", _OUTAGES, ids=lambda error: type(error).__name__)
def test_five_outages_close_the_gate(ledger: Ledger, gate: LedgerGate, error: EndpointError) -> None:
    """Then nothing is sent, and the error says for how long, why, and what ends it; nothing of the URL's path."""
    _fail(gate, *[error] * 5)
    with pytest.raises(
        EndpointPaused, match=r"'pacs' is left alone for (29|30) s more.*slidewire endpoints resume pacs"
    ) as caught:
        gate.admit()
    assert error.code in caught.value.message
    assert caught.value.retry_after_s == pytest.approx(30.0, abs=3.0)
    assert "wado" not in caught.value.message
    assert _known(ledger).code == error.code


@pytest.mark.parametrize("answer", _ANSWERS, ids=lambda error: type(error).__name__)
def test_answers_of_a_living_server_keep_it_open(ledger: Ledger, gate: LedgerGate, answer: SlidewireError) -> None:
    """A refusal, a missing file and a broken body of JSON are answers; they count as successes."""
    _fail(gate, *[_FAILED] * 4, answer, *[_FAILED] * 4)
    assert _known(ledger).state == "closed"
    assert _known(ledger).succeeded_at is not None


def test_one_refusal_of_access_closes_it(ledger: Ledger, gate: LedgerGate) -> None:
    """For a minute: wrong passwords lock accounts."""
    _fail(gate, None, AccessDenied("Denied (401)."))
    with pytest.raises(EndpointPaused, match=r"(59|60) s more, since it denied access \(ACCESS_DENIED\)"):
        gate.admit()
    assert _known(ledger).state == "denied"


def test_what_one_worker_finds_the_others_know(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new worker at once, one at work within seconds, and failures of all add up."""
    one, other = _gate(ledger), _gate(ledger)
    _fail(other, None)
    _fail(one, *[_FAILED] * 5)
    with pytest.raises(EndpointPaused):
        _gate(ledger).admit()
    _shift_clock(monkeypatch, 3.1)
    with pytest.raises(EndpointPaused):
        other.admit()


def test_a_pause_that_is_ended_is_over_for_all_at_once(ledger: Ledger, gate: LedgerGate) -> None:
    """By hand, or by another worker's success: who is refused has asked the ledger."""
    _fail(gate, *[_FAILED] * 5)
    ledger.endpoints.resume("pacs")
    gate.admit()


def test_the_first_success_after_a_pause_lets_everybody_in(ledger: Ledger, gate: LedgerGate) -> None:
    """It is told at once."""
    _fail(gate, *[_FAILED] * 5)
    _set(ledger, open_until=ledger._db.now - 1.0)
    gate.admit()
    assert _known(ledger).state == "half-open"
    gate.report(None)
    assert _known(ledger).state == "closed"


def test_the_first_failure_after_a_pause_begins_the_next(ledger: Ledger, gate: LedgerGate) -> None:
    """Twice as long."""
    _fail(gate, *[_FAILED] * 5)
    _set(ledger, open_until=ledger._db.now - 1.0)
    _fail(gate, _FAILED)
    with pytest.raises(EndpointPaused, match=r"(59|60) s more"):
        gate.admit()


def test_successes_are_told_together_and_by_a_flush(
    ledger: Ledger, gate: LedgerGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred requests are one write at most; a flush tells the rest, from when it was."""
    notes = []
    note = ledger.endpoints.note
    monkeypatch.setattr(ledger.endpoints, "note", lambda key, calls: notes.append(calls) or note(key, calls))
    _fail(gate, *[None] * 100)
    assert ledger.endpoints.list() == ()
    before = time.time()
    _shift_clock(monkeypatch, 100.0)
    gate.flush()
    gate.flush()
    assert [calls.successes for calls in notes] == [100]
    assert _known(ledger).succeeded_at == pytest.approx(before - 100.0, abs=5.0)


def test_successes_before_a_failure_are_told_before_it(ledger: Ledger, gate: LedgerGate) -> None:
    """Four failures, a success, four failures: no five in a row, though the success was told with a failure."""
    _fail(gate, *[_FAILED] * 4, None, *[_FAILED] * 4)
    assert _known(ledger).state == "closed"
    _fail(gate, _FAILED)
    assert _known(ledger).state == "open"


def test_a_long_wish_to_be_left_alone_is_the_fleets(ledger: Ledger, gate: LedgerGate) -> None:
    """Retry-After of ten minutes: nobody asks until then."""
    _fail(gate, EndpointBusy("Busy (503).", retry_after_s=600.0))
    with pytest.raises(EndpointPaused, match=r"(599|600) s more"):
        _gate(ledger).admit()


def test_a_short_wish_to_be_left_alone_is_kept_by_all_threads(ledger: Ledger, gate: LedgerGate) -> None:
    """Retry-After of half a second: the next request of this worker waits so long; nothing is paused."""
    start = time.monotonic()
    _fail(gate, EndpointBusy("Busy (429).", retry_after_s=0.5))
    gate.admit()
    assert 0.5 <= time.monotonic() - start < 5.0
    assert _known(ledger).state == "closed"


def test_workers_share_one_rate(ledger: Ledger) -> None:
    """Two workers with three threads each send what the rate and a second's burst allow, and not much less."""
    gates = [_gate(ledger, 40.0), _gate(ledger, 40.0)]
    end, sent = time.monotonic() + 2.0, list[float]()

    def work(gate: LedgerGate) -> None:
        while time.monotonic() < end:
            gate.admit()
            sent.append(time.monotonic())

    found = together(*[lambda gate=gate: work(gate) for gate in gates for _ in range(3)])
    assert found == [None] * 6
    sent.sort()
    spent_s = sent[-1] - sent[0]
    assert len(sent) <= 40.0 * spent_s + 40.0 + 1
    assert len(sent) >= 40.0 * spent_s * 0.6
    for start in sent:
        assert sum(start <= moment < start + 0.5 for moment in sent) <= 0.5 * 40.0 + 40.0 + 1


def test_tokens_that_are_not_used_are_lost(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker keeps none for later: many that rested must not begin together with more than the burst."""
    draws = []
    draw = ledger.endpoints.draw
    monkeypatch.setattr(ledger.endpoints, "draw", lambda *asked: draws.append(asked) or draw(*asked))
    gate = _gate(ledger, 40.0)
    for _ in range(10):
        gate.admit()
    assert len(draws) == 1, "ten at a time"
    gate.admit()
    _shift_clock(monkeypatch, 2.0)
    gate.admit()
    assert len(draws) == 3


def test_a_turn_that_would_not_come_soon_is_not_waited_for(ledger: Ledger) -> None:
    """So many wait that this one would for more than a minute: it is told what to set."""
    ledger.endpoints.draw("pacs", 1, 0.1, 60.0)
    for _ in range(6):
        ledger.endpoints.draw("pacs", 1, 0.1, 60.0)
    with pytest.raises(EndpointPaused, match="`workers`"):
        _gate(ledger, 0.1).admit()


def test_without_a_limit_nothing_is_drawn(ledger: Ledger, gate: LedgerGate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket costs nothing where there is none."""
    monkeypatch.setattr(ledger.endpoints, "draw", None)
    _fail(gate, None, None)


@pytest.mark.parametrize("rate", [None, 1000.0])
def test_a_ledger_that_is_away_stops_nobody(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, rate: float | None
) -> None:
    """Requests go on, one line is logged, it is not asked each time; successes are told when it is back."""
    gate, asked = _gate(ledger, rate), list[str]()

    def away(name: str) -> object:
        def fail(*_: object) -> None:
            asked.append(name)
            raise LedgerUnavailable("The ledger does not answer.")

        return fail

    with monkeypatch.context() as broken, structlog.testing.capture_logs() as logs:
        for name in ("note", "standing", "draw"):
            broken.setattr(ledger.endpoints, name, away(name))
        _fail(gate, *[None] * 20, *[_FAILED] * 20, None)
        assert len(asked) == 1
        _shift_clock(broken, 11.0)
        _fail(gate, *[None] * 20)
        assert len(asked) == 2
        assert [log["log_level"] for log in logs] == ["warning"]
        _shift_clock(broken, 22.0)
        for name in ("note", "standing", "draw"):
            broken.delattr(ledger.endpoints, name)
        gate.flush()
    assert _known(ledger).succeeded_at is not None


def test_without_the_ledger_the_rate_is_kept_alone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot ask for tokens goes on at the rate of the whole fleet, not faster."""
    gate = _gate(ledger, 20.0)
    ledger.close()

    def fail(*_: object) -> None:
        raise LedgerUnavailable("The ledger does not answer.")

    for name in ("standing", "draw"):
        monkeypatch.setattr(ledger.endpoints, name, fail)
    start = time.monotonic()
    for _ in range(20):
        gate.admit()
    assert 0.7 <= time.monotonic() - start < 5.0


def test_each_endpoint_has_one_gate(ledger: Ledger) -> None:
    """A server that is paused bars no other; two stores of one server share a gate."""
    gates = Gates(ledger.endpoints, {})
    stores = [Endpoint("https://raw.test/one"), Endpoint("https://raw.test/two")]
    assert gates.of(stores[0]) is gates.of(stores[1])
    _fail(gates.of(stores[0]), *[_FAILED] * 5)
    gates.of(_PACS).admit()
    with pytest.raises(EndpointPaused, match=r"server raw\.test"):
        gates.of(stores[1]).admit()


def test_flushing_flushes_all(ledger: Ledger) -> None:
    """Whatever was not told of any endpoint."""
    gates = Gates(ledger.endpoints, {})
    for one in (_PACS, Endpoint("https://raw.test/one")):
        gates.of(one).report(None)
    gates.flush()
    assert [one.key for one in ledger.endpoints.list()] == ["https://raw.test", "pacs"]
