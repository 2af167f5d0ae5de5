"""The notifier: tells the webhook of jobs that ended and of slides that are late, until it has been told."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from connectors.endpoints import Endpoint, Timeouts
from connectors.secret import resolve_secret
from connectors.webhook import Webhook, signing_key
from models.domain.errors import EndpointError, LedgerError, SettingsInvalid
from models.domain.plan import Plan
from worker.intake_settings import WebhookSettings
from worker.ledger import Ledger
from worker.ledger.backoff import delay_s
from worker.ledger.notices import Notice
from worker.settings import Settings

_LOOK_S = 1.0  # between looks at a ledger that has nothing to tell
_AWAY_S = 10.0  # after a ledger that does not answer
_STOP_S = 2.0
_LEASE_S: Final = 60.0  # beyond the timeouts: who is killed while posting has it posted by another

_log = structlog.get_logger(__name__)


def open_webhook(settings: WebhookSettings) -> Webhook:
    """Return the webhook that the settings describe.

    Raises
    ------
    SettingsInvalid
        It cannot be signed, or would name slides in the open.
    """
    key = signing_key(resolve_secret(settings.secret))
    if settings.identify and not settings.url.startswith("https://"):
        raise SettingsInvalid("The setting webhook.identify sends UIDs, and webhook.url is no https:// address.")
    limit_s = settings.timeout_s
    timeouts = Timeouts(connect_s=limit_s, read_s=limit_s, total_s=limit_s)
    return Webhook(Endpoint(settings.url, "webhook", ca_bundle=settings.ca_bundle, timeouts=timeouts), key)


class Notifier(threading.Thread):
    """Takes notices from the ledger one after the other; what is not taken there waits there.

    A thread of its own: a receiver that does not answer holds up nobody's work.

    Parameters
    ----------
    ledger : Ledger
    settings : WebhookSettings
    """

    def __init__(self, ledger: Ledger, settings: WebhookSettings) -> None:
        super().__init__(name="notifier", daemon=True)
        self._ledger, self._settings = ledger, settings
        self._webhook = open_webhook(settings)
        self._over = threading.Event()

    def run(self) -> None:
        """Tell until told to stop."""
        while not self._over.is_set():
            try:
                told = self._tell_one()
            except LedgerError as exc:
                _log.warning("the ledger does not answer; notices wait", error=exc.message)
                self._over.wait(_AWAY_S)
                continue
            if not told:
                self._over.wait(_LOOK_S)

    def stop(self) -> None:
        """Stop, and wait for it; not for long, as a receiver may hang."""
        self._over.set()
        self.join(_STOP_S)
        self._webhook.close()

    def _tell_one(self) -> bool:
        """Try one notice; return whether there was one, and it was taken."""
        notice = self._ledger.notices.take(self._settings.timeout_s + _LEASE_S)
        if notice is None:
            return False
        log = _log.bind(notice=notice.id, of=notice.kind, tries=notice.tries)
        if notice.age_s > self._settings.patience_h * 3600.0:
            log.error("a notice was given up: nobody took it for too long")
            self._ledger.notices.give_up(notice)
            return True
        try:
            self._webhook.post(notice.id, self._body(notice), int(time.time()))
        except EndpointError as exc:
            log.warning("a notice was not taken; it waits for another try", code=exc.code)
            self._ledger.notices.later(notice, delay_s(notice.tries, exc.retry_after_s))
            return False
        self._ledger.notices.sent(notice)
        return True

    def _body(self, notice: Notice) -> bytes:
        said = _of_job(notice.row) if notice.kind == "job" else _of_arrival(notice.row)
        if self._settings.identify:
            said["data"] |= self._identity(notice)
        return json.dumps(said, sort_keys=True).encode()

    def _identity(self, notice: Notice) -> dict[str, str]:
        if notice.kind == "arrival":
            return {name: notice.row[name] for name in ("study_uid", "series_uid")}
        try:
            ref = Plan.from_bytes(self._ledger.jobs.plan(notice.row["id"])).slide.ref
        except LedgerError:  # a damaged plan; the job is named all the same
            return {}
        return {"study_uid": ref.study_uid, "series_uid": ref.series_uid} if ref.kind == "dicomweb" else {}


@contextmanager
def notifying(ledger: Ledger, settings: Settings) -> Iterator[None]:
    """Tell the webhook for the length of a block, if there is one."""
    if settings.webhook is None:
        yield
        return
    thread = Notifier(ledger, settings.webhook)
    thread.start()
    try:
        yield
    finally:
        thread.stop()


def _of_job(row: dict[str, Any]) -> dict[str, Any]:
    error = {"code": row["error_code"], "message": row["error_message"]} if row["error_code"] else None
    return {
        "type": f"job.{row['state']}",
        "timestamp": _moment(row["updated_at"]),
        "data": {"job": row["id"], "error": error}
        | {name: row[name] for name in ("state", "encoder", "lane", "endpoint", "patches", "holes")},
    }


def _of_arrival(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": f"slide.{row['state']}",
        "timestamp": _moment(row["updated_at"]),
        "data": {
            "arrival": row["serial"],
            "since": _moment(row["first_at"]),
            "job": row["job_id"] or None,
            **{name: row[name] for name in ("endpoint", "code", "rule")},
        },
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
