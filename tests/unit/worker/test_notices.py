"""The notifier: a real ledger on one side, a receiver over HTTP on the other."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.intake.protocol import Place, Sighting
from models.domain.errors import SettingsInvalid
from models.domain.plan import Plan
from models.domain.slide import SlideRef
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.memory_slide import make_grid, make_level, make_slide
from tests.services.ports import free_port, wait_until
from tests.unit.connectors.test_webhook import SECRET, verified
from tests.unit.worker.ledger.sample import new_job, submit
from worker.intake_settings import WebhookSettings
from worker.ledger import Ledger
from worker.ledger.arrival_records import ArrivalState, Decision, Patience
from worker.notices import Notifier, open_webhook


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a ledger."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", tmp_path / "checkpoints") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_KEY", SECRET)


@contextmanager
def notifying(ledger: Ledger, url: str, **more: Any) -> Iterator[None]:
    """Run a notifier for the length of a block."""
    thread = Notifier(ledger, WebhookSettings(url=url, secret="env:HOOK_KEY", **more))
    thread.start()
    try:
        yield
    finally:
        thread.stop()
        assert not thread.is_alive()


def cancelled(ledger: Ledger, key: str = "job") -> str:
    """Queue a job and cancel it: it has ended."""
    return ledger.jobs.cancel(submit(ledger, key).id).id


def told(asked: list[Asked]) -> list[Any]:
    """Return what the receiver was told, verified."""
    return [verified(one) for one in asked]


@pytest.mark.parametrize("state", [ArrivalState.OVERDUE, ArrivalState.FAILED])
def test_jobs_and_slides_that_did_not_become_one_are_told(ledger: Ledger, state: ArrivalState) -> None:
    """Each is told once, signed, with what a script needs; no UID is told unless the settings say so."""
    job_id = cancelled(ledger)
    ledger.arrivals.open("pacs", Place())
    sighting = Sighting("1.2.840.7", "1.2.840.7.8")
    ledger.arrivals.read("pacs", Place(), Place(1, "a"), [sighting], Patience(0.0, 10.0))
    [seen] = ledger.arrivals.due("pacs", 1)
    ledger.arrivals.decide(seen, Decision(state, "SLIDE_INCOMPLETE", "all"))
    with hostile_server(lambda _: Answer(200)) as receiver, notifying(ledger, receiver.url):
        wait_until(lambda: not ledger.notices.due(), "all to be told")
    job, slide = told(receiver.asked)
    assert (job["type"], job["data"]["job"], job["data"]["encoder"]) == ("job.cancelled", job_id, "pixel-grid")
    found = (slide["type"], slide["data"]["code"], slide["data"]["endpoint"])
    assert found == (f"slide.{state}", "SLIDE_INCOMPLETE", "pacs")
    assert b"1.2.840.7" not in b"".join(one.body for one in receiver.asked)


def test_it_is_tried_until_it_is_taken(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that fails is told again, under the same id; the ledger keeps what is to be told meanwhile."""
    monkeypatch.setattr("worker.notices.delay_s", lambda _tries, _asked: 0.01)
    answers = iter([Answer(500), Answer(503), Answer(302)])
    cancelled(ledger)
    with (
        hostile_server(lambda _: next(answers, Answer(204))) as receiver,
        notifying(ledger, receiver.url),
    ):
        wait_until(lambda: not ledger.notices.due(), "all to be told")
    assert len(receiver.asked) == 4
    assert len({one.headers["Webhook-Id"] for one in receiver.asked}) == 1
    assert len({json.dumps(one) for one in told(receiver.asked)}) == 1


def test_nothing_is_lost_while_nobody_listens(ledger: Ledger) -> None:
    """What ended while there was no receiver, and no notifier, is told when there is."""
    jobs = {cancelled(ledger, key) for key in ("one", "two", "three")}
    with notifying(ledger, f"http://127.0.0.1:{free_port()}/hook"):
        wait_until(lambda: _tries(ledger) > 0, "a try")
    _hurry(ledger)
    with hostile_server(lambda _: Answer(200)) as receiver, notifying(ledger, receiver.url):
        wait_until(lambda: not ledger.notices.due(), "all to be told")
    assert {one["data"]["job"] for one in told(receiver.asked)} == jobs


def test_it_is_given_up_after_the_patience(ledger: Ledger) -> None:
    """A notice older than the patience is not posted any more."""
    cancelled(ledger)
    with (
        hostile_server(lambda _: Answer(200)) as receiver,
        notifying(ledger, receiver.url, patience_h=1e-9),
    ):
        wait_until(lambda: not ledger.notices.due(), "all to be told")
    assert receiver.asked == []


def test_a_ledger_that_is_away_for_a_while(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the ledger answers again, what is in it is told."""
    monkeypatch.setattr("worker.notices._AWAY_S", 0.02)
    cancelled(ledger)
    with hostile_server(lambda _: Answer(200)) as receiver:
        _run(ledger, "ALTER TABLE job RENAME TO gone")
        with notifying(ledger, receiver.url):
            wait_until(lambda: ledger._db.failed_within(60.0), "the notifier to find no ledger")
            _run(ledger, "ALTER TABLE gone RENAME TO job")
            wait_until(lambda: len(receiver.asked) == 1, "the notice")


@pytest.mark.parametrize("kind", ["job", "arrival"])
def test_slides_are_named_if_the_settings_say_so(ledger: Ledger, kind: str) -> None:
    """A receiver that is trusted is told study and series; by default nobody is."""
    if kind == "job":
        level = make_level(64, 64)
        ref = SlideRef("dicomweb", "https://pacs/dicom-web", "pacs", "1.2.840.7", "1.2.840.7.8")
        plan = Plan(replace(make_slide(level), ref=ref), make_grid([(0, 0, 32, 32)], 32), 1, 8, ())
        ledger.jobs.cancel(ledger.jobs.submit(replace(new_job(), plan=plan.to_bytes())).job.id)
    else:
        ledger.arrivals.open("pacs", Place())
        ledger.arrivals.read("pacs", Place(), Place(1), [Sighting("1.2.840.7", "1.2.840.7.8")], Patience(0.0, 9.0))
        ledger.arrivals.decide(ledger.arrivals.due("pacs", 1)[0], Decision(ArrivalState.OVERDUE))
    notice = ledger.notices.take(60.0)
    assert notice is not None
    settings = WebhookSettings(url="https://hook", secret="env:HOOK_KEY")
    assert b"1.2.840.7" not in Notifier(ledger, settings)._body(notice)
    named = Notifier(ledger, settings.model_copy(update={"identify": True}))
    data = json.loads(named._body(notice))["data"]
    assert (data["study_uid"], data["series_uid"]) == ("1.2.840.7", "1.2.840.7.8")


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"url": "http://host/hook", "secret": "env:HOOK_KEY", "identify": True}, "webhook.identify"),
        ({"url": "https://host/hook", "secret": "env:NOT_SET"}, "NOT_SET"),
        ({"url": "https://host/hook", "secret": SECRET}, "reference"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], names: str) -> None:
    """A webhook that could not sign, or would name slides in the open, refuses the start."""
    with pytest.raises(SettingsInvalid) as caught:
        open_webhook(WebhookSettings(**settings))
    assert names in caught.value.message
    assert SECRET not in caught.value.message


def _tries(ledger: Ledger) -> int:
    return int(_one(ledger, "SELECT max(notice_tries) FROM job"))


def _hurry(ledger: Ledger) -> None:
    _run(ledger, "UPDATE job SET notice_at = 0")


def _run(ledger: Ledger, statement: str) -> None:
    with ledger._db.write("test") as connection:
        connection.exec_driver_sql(statement)


def _one(ledger: Ledger, query: str) -> Any:
    with ledger._db.read() as connection:
        return connection.exec_driver_sql(query).scalar_one()
