"""Nobody types a command, everything fails once, and nothing that was planted comes out where it must not.

A slide of a patient that can be told from anything else arrives; the archive fails with patient and token in its
answers; worker, watch, broker, ledger and webhook all have passwords. What they leave behind is searched for all of it.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from redis import Redis
from sqlalchemy import inspect, text

from tests.services.command import Slidewire
from tests.services.hostile import Answer, Asked, hostile_server
from tests.services.orthanc import Orthanc
from tests.services.pacs import load, renamed
from tests.services.ports import free_port, wait_until
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk

pytestmark = pytest.mark.faults

_TOKEN, _BROKER, _HOOK = "canary-token-31337", "canary-broker-271", base64.b64encode(b"canary-hook" * 3).decode()
_PERSON = {
    "PatientName": "Canaria^Serina", "PatientID": "CANARY-PID-77", "AccessionNumber": "CANARYACC55",
    "PatientBirthDate": "19120623", "StudyDescription": "Canary biopsy of Serina",
    "ReferringPhysicianName": "Doctor^Canarius",
}  # fmt: skip
_SECRET = ("Canaria", "Serina", "Canarius", "CANARY-PID-77", "CANARYACC55", "19120623", _TOKEN, _BROKER, _HOOK)
_SECRETS = (*_SECRET, "canary-password")  # of the ledger's database: see tests.services.postgresql
_ECHO = b'{"patient": "Canaria^Serina", "Authorization": "Bearer canary-token-31337"}'
_MAY_HOLD_UIDS = {
    ("job", "request"), ("job", "plan"), ("job", "outputs"), ("backfill_item", "study_uid"),
    ("backfill_item", "series_uid"), ("arrival", "study_uid"), ("arrival", "series_uid"),
}  # fmt: skip


@pytest.fixture
def broker(own_redis: RedisServer) -> str:
    """Give the URL of a broker with a password."""
    with Redis.from_url(own_redis.url) as client:
        client.config_set("requirepass", _BROKER)
    return own_redis.url.replace("redis://", f"redis://:{_BROKER}@")


def _dump(broker: str) -> Iterator[str]:
    """Yield all keys and values of the broker, bodies in clear."""
    with Redis.from_url(broker) as client:
        for key in client.scan_iter():
            yield repr(key)
            if client.type(key) == b"list":
                for entry in client.lrange(key, 0, -1):
                    yield repr(entry)
                    yield base64.b64decode(json.loads(entry)["body"]).decode()
            else:
                yield repr(client.dump(key))


def _columns(slidewire: Slidewire) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the name and all values of each column of the ledger."""
    with slidewire.ledger() as connection:
        for table in inspect(connection).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings():
                for name, value in row.items():
                    raw = bytes(value).decode("latin-1") if isinstance(value, bytes | memoryview) else str(value)
                    yield (table, str(name)), raw


def _found(words: tuple[str, ...], told: str) -> list[str]:
    return [word for word in words if word.lower() in told.lower()]


def test_nothing_planted_comes_out(
    slidewire: Slidewire, broker: str, postgresql_url: str, orthanc: Orthanc, cmu_slide: SlideOnDisk, tmp_path: Path
) -> None:
    """From arrival to write-back, with a PACS that fails and a webhook that refuses."""
    mode, hooks, ports = {"pacs": "500", "hook": "refusing"}, [], (free_port(), free_port())

    def pacs_says(asked: Asked) -> Answer | None:
        if "/frames/" not in asked.path or mode["pacs"] == "fine":
            return None
        headers = {"X-Patient": "Canaria^Serina", "WWW-Authenticate": f'Bearer realm="{_TOKEN}"', "Retry-After": "0"}
        return Answer(int(mode["pacs"]), _ECHO, headers)

    def hook_says(asked: Asked) -> Answer:
        hooks.append(asked)
        return Answer(200 if mode["hook"] == "taking" else 500, _ECHO)

    with hostile_server(pacs_says, orthanc.dicomweb) as pacs, hostile_server(hook_says) as hook:
        slidewire.environment |= {
            "SLIDEWIRE_LEDGER_URL": postgresql_url, "SLIDEWIRE_BROKER_URL": broker, "PACS_TOKEN": _TOKEN,
            "SLIDEWIRE_ENDPOINTS__PACS__URL": pacs.url, "SLIDEWIRE_ENDPOINTS__PACS__AUTH": "bearer",
            "SLIDEWIRE_ENDPOINTS__PACS__SECRET": "env:PACS_TOKEN", "HOOK_KEY": f"whsec_{_HOOK}",
            "SLIDEWIRE_ENDPOINTS__PACS__ORTHANC_URL": orthanc.url, "SLIDEWIRE_WEBHOOK__URL": hook.url,
            "SLIDEWIRE_WEBHOOK__SECRET": "env:HOOK_KEY", "SLIDEWIRE_WATCH__QUIET_S": "1",
            "SLIDEWIRE_RULES": json.dumps([{"name": "canaries", "encoder": "pixel-grid", "write_back": True,
                                            "study_description": ["Canary*"]}]),
        }  # fmt: skip
        watch = slidewire.beside("watch", SLIDEWIRE_METRICS_PORT=str(ports[0])).start("watch", "pacs")
        wait_until(lambda: "watching" in watch.log or watch.process.poll() is not None, "the watch", 90.0)
        patient = load(orthanc, renamed(cmu_slide, tmp_path / "slide", **_PERSON))
        wait_until(lambda: "ENDPOINT_FAILED" in watch.log, "the watch to meet the failure", 90.0)
        mode["pacs"] = "fine"
        wait_until(lambda: _let_try(slidewire, "SELECT 1 FROM job"), "the job", 90.0)
        mode["pacs"] = "500"
        worker = slidewire.beside("worker", SLIDEWIRE_METRICS_PORT=str(ports[1])).start("worker")
        _wait_for_failure(slidewire, "ENDPOINT_FAILED")
        mode["pacs"] = "401"
        denied = "SELECT 1 FROM attempt WHERE code = 'ACCESS_DENIED'"
        wait_until(lambda: _let_try(slidewire, denied), "the PACS to deny access", 90.0)
        said = [_asked(port, path) for port in ports for path in ("/metrics", "/readyz", "/livez", "/canary")]
        mode["pacs"] = "fine"
        done = "SELECT 1 FROM job WHERE state = 'succeeded'"
        wait_until(lambda: _let_try(slidewire, done), "the job to be done", 90.0)
        wait_until(lambda: bool(hooks), "the webhook to be told", 60.0)
        mode["hook"] = "taking"
        shown = [slidewire(*command) for command in (("metrics",), ("endpoints",), ("watch", "--status"))]
        listed = slidewire("jobs", "--json")
        dump = "\n".join(_dump(broker))
        assert [watch.terminate(), worker.terminate()] == [0, 0], watch.log + worker.log
    uids = (patient.slide.study_uid, patient.slide.series_uid, *patient.instances())
    told = "\n".join((watch.log, worker.log, *said, *(one.stdout + one.stderr for one in shown), dump))
    assert _found((*_SECRETS, *uids), told) == []
    assert '"shard claimed"' in worker.log
    assert _found(_SECRETS, listed.stdout + listed.stderr) == [], "where results lie may be told who asks for it"
    assert _found(_SECRETS, "\n".join(f"{asked.headers} {asked.body!r}" for asked in hooks)) == []
    _ledger_holds(slidewire, uids)
    assert _found((*_SECRET[:6],), "\n".join(asked.path for asked in pacs.asked)) == []


def _ledger_holds(slidewire: Slidewire, uids: tuple[str, ...]) -> None:
    columns: dict[tuple[str, str], list[str]] = {}
    for name, value in _columns(slidewire):
        columns.setdefault(name, []).append(value)
    assert _found(uids, "\n".join(columns["job", "request"])), "the search finds what is there"
    for name, values in columns.items():
        assert _found(_SECRETS, "\n".join(values)) == [], name
        if name not in _MAY_HOLD_UIDS:
            assert _found(uids, "\n".join(values)) == [], name


def _wait_for_failure(slidewire: Slidewire, code: str) -> None:
    query = f"SELECT 1 FROM attempt WHERE code = '{code}'"
    wait_until(lambda: bool(slidewire.rows(query)), f"a failure with {code}", 60.0)


def _let_try(slidewire: Slidewire, query: str) -> bool:
    """Whether a query has rows by now; who waits for the server is let try again."""
    slidewire("endpoints", "resume", "pacs")
    with slidewire.ledger() as connection:
        connection.execute(text("UPDATE shard SET not_before = 0 WHERE state = 'pending'"))
        connection.execute(text("UPDATE arrival SET due_at = 0 WHERE state = 'settling'"))
        connection.commit()
    return bool(slidewire.rows(query))


def _asked(port: int, path: str) -> str:
    said = requests.get(f"http://127.0.0.1:{port}{path}", timeout=10.0)
    return f"{said.status_code} {said.headers} {said.text}"
