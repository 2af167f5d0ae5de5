"""Readiness: asked in the background, old answers count for nothing, and the end of the process is told."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.domain.errors import LedgerUnavailable
from tests.services.ports import free_port, wait_until
from worker.ledger import Ledger
from worker.pipeline import Cancellation
from worker.readiness import Question, Readiness


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "checkpoints") as opened:
        yield opened


def test_a_question_before_and_after_its_answer() -> None:
    """Nothing is assumed; then it is known; then a failure is, by its code alone."""
    answer, failing = threading.Event(), threading.Event()

    def ask() -> None:
        answer.wait(30.0)
        if failing.is_set():
            raise LedgerUnavailable("canary-password")

    question = Question("ledger", ask, every_s=0.01)
    assert "not answered yet" in question.complaint()
    question.start()
    assert "not answered yet" in question.complaint()
    answer.set()
    wait_until(lambda: not question.complaint(), "an answer")
    failing.set()
    wait_until(lambda: "LEDGER_UNAVAILABLE" in question.complaint(), "the failure")
    assert "canary" not in question.complaint()
    failing.clear()
    wait_until(lambda: not question.complaint(), "an answer")
    question.stop()


def test_an_answer_that_is_old_counts_for_nothing() -> None:
    """Who asks hangs: the probe itself never does."""
    hanging, first = threading.Event(), threading.Event()

    def ask() -> None:
        if first.is_set():
            hanging.wait(30.0)
        first.set()

    question = Question("broker", ask, every_s=0.01, lasts_s=0.3)
    question.start()
    wait_until(lambda: "broker has not answered for" in question.complaint(), "the answer to be old")
    question.stop()
    hanging.set()


def test_ready_and_about_to_end(ledger: Ledger) -> None:
    """With a ledger that answers, until somebody asks the process to end."""
    cancellation = Cancellation()
    with Readiness(ledger, "", cancellation) as readiness:
        wait_until(lambda: not readiness.complaints(), "the ledger to answer")
        cancellation.cancel()
        assert readiness.complaints() == ("the process is about to end",)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_not_there(ledger: Ledger, scheme: str) -> None:
    """It is named, without its address and password."""
    url = f"{scheme}://user:canary-password@127.0.0.1:{free_port()}//"
    with Readiness(ledger, url, Cancellation()) as readiness:
        wait_until(lambda: "ledger" not in " ".join(readiness.complaints()), "the ledger to answer")
        wait_until(lambda: "does not answer (" in " ".join(readiness.complaints()), "the broker's failure")
        [said] = readiness.complaints()
    assert said.startswith("the broker does not answer (")
    assert "canary" not in said
