"""What a real worker says of itself: while a batch takes long, when it hangs, when ledger or broker are away."""

import signal
import time

import pytest
import requests

from tests.services.command import Slidewire
from tests.services.ports import free_port, wait_until
from tests.services.postgresql import running_postgresql
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk

_PROBE_S = 2.0


def _status(port: int, path: str) -> int:
    """Return the status of an answer; 0 if there is none in time."""
    try:
        return requests.get(f"http://127.0.0.1:{port}{path}", timeout=_PROBE_S).status_code
    except requests.RequestException:
        return 0


def _said(port: int, path: str) -> str:
    return requests.get(f"http://127.0.0.1:{port}{path}", timeout=_PROBE_S).text


def _metric(port: int, name: str) -> float:
    lines = _said(port, "/metrics").splitlines()
    [line] = [line for line in lines if line.startswith(f"slidewire_{name} ")]
    return float(line.split()[-1])


@pytest.fixture
def port(slidewire: Slidewire) -> int:
    """Let the command's processes serve on a port of this test's."""
    chosen = free_port()
    slidewire.environment |= {"SLIDEWIRE_METRICS_PORT": str(chosen), "SLIDEWIRE_BATCH_SIZE": "4"}
    return chosen


def _submit(slidewire: Slidewire, slide: SlideOnDisk) -> str:
    done = slidewire.done("submit", slide.folder, "--encoder", "pixel-grid", "--all-patches", "--out", "out")
    return str(done.json["job"])


@pytest.mark.faults
def test_a_worker_lives_while_a_batch_takes_long(
    slidewire: Slidewire, port: int, cmu_slide: SlideOnDisk, redis_server: RedisServer
) -> None:
    """A Celery worker has one thread for its work: probes are answered all the same; stopped, it is not alive."""
    redis_server.flush()
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = redis_server.url
    worker = slidewire.start("worker", armed=["slow=:2"])
    wait_until(lambda: _status(port, "/readyz") == 200, "the worker to be ready", 60.0)
    job = _submit(slidewire, cmu_slide)
    wait_until(lambda: _metric(port, "busy") == 1, "the shard to be in hand", 60.0)
    wait_until(lambda: _metric(port, "progress_age_seconds") > 1.0, "a batch to take its time", 60.0)
    started = time.monotonic()
    assert _status(port, "/livez") == _status(port, "/readyz") == 200
    assert time.monotonic() - started < _PROBE_S
    assert slidewire("health").rc == 0
    worker.process.send_signal(signal.SIGSTOP)
    assert _status(port, "/livez") == 0
    worker.process.send_signal(signal.SIGCONT)
    wait_until(lambda: _status(port, "/livez") == 200, "the worker to go on")
    assert worker.terminate() == 0, worker.log
    assert job in worker.log
    said = slidewire("health")
    assert said.rc == 1
    assert "no answer" in said.stderr


@pytest.mark.faults
def test_a_worker_that_hangs_is_not_alive(slidewire: Slidewire, port: int, cmu_slide: SlideOnDisk) -> None:
    """Until it ends itself it says why; the reason is a number of seconds, no place and no name."""
    slidewire.environment |= {"SLIDEWIRE_STALL_S": "1.5", "SLIDEWIRE_LEASE_S": "40"}  # looks every 10 s
    _submit(slidewire, cmu_slide)
    worker = slidewire.start("worker", armed=["encoder=hang"])
    wait_until(lambda: _status(port, "/livez") == 503, "the probe to say so", 60.0)
    assert "has not moved" in _said(port, "/livez")
    said = slidewire("health")
    assert (said.rc, "has not moved" in said.stderr) == (1, True)
    assert worker.wait() == 75


def test_an_idle_worker_and_what_it_did(slidewire: Slidewire, port: int, cmu_slide: SlideOnDisk) -> None:
    """It counts patches, batches, bytes and shards, and says each step once, with what it was about."""
    slidewire.environment["SLIDEWIRE_BATCH_SIZE"] = "64"
    job = _submit(slidewire, cmu_slide)
    worker = slidewire.start("worker")
    done = slidewire.wait_for(job)
    wait_until(lambda: _metric(port, "busy") == 0, "the worker to be idle")
    assert _status(port, "/livez") == 200
    patches = done["patches"]
    batches = -(-patches // 64)
    assert _metric(port, 'patches_total{encoder="pixel-grid"}') == patches
    assert _metric(port, "batch_fill_count") == batches
    assert _metric(port, "batch_fill_sum") == pytest.approx(patches / 64)
    for kind in ("embed", "publish"):
        assert _metric(port, f'shards_total{{event="completed",kind="{kind}"}}') == 1
    assert _metric(port, "fetched_bytes_total") > 10_000
    assert _metric(port, "requests_total") > 1
    assert worker.terminate() == 0
    for event in ("shard completed", "job published"):
        [line] = [line for line in worker.log.splitlines() if f'"{event}"' in line]
        for named in (f'"job": "{job}"', '"shard": ', '"kind": ', '"encoder": "pixel-grid"', '"endpoint": ""'):
            assert named in line, line
    assert worker.log.count('"shard claimed"') == 2


@pytest.mark.faults
def test_without_ledger_or_broker_a_worker_is_not_ready(
    slidewire: Slidewire, port: int, own_redis: RedisServer
) -> None:
    """It lives, as a restart would help nobody; and says which of the two is away."""
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = own_redis.url
    worker = slidewire.start("worker")
    wait_until(lambda: _status(port, "/readyz") == 200, "the worker to be ready", 60.0)
    own_redis.kill()
    wait_until(lambda: _status(port, "/readyz") == 503, "the probe to say so", 60.0)
    assert "the broker" in _said(port, "/readyz")
    assert "the ledger" not in _said(port, "/readyz")
    assert _status(port, "/livez") == 200
    own_redis.start()
    wait_until(lambda: _status(port, "/readyz") == 200, "the worker to be ready again", 60.0)
    worker.kill()


@pytest.mark.faults
def test_the_ledger_is_away(slidewire: Slidewire, port: int) -> None:
    """Worker: alive, not ready. The ledger's own metrics: a scrape that says so. Both recover."""
    with running_postgresql() as server:
        slidewire.environment["SLIDEWIRE_LEDGER_URL"] = server.create_database()
        worker = slidewire.start("worker")
        other = free_port()
        beside = slidewire.beside("metrics", SLIDEWIRE_METRICS_PORT=str(other))
        metrics = beside.start("metrics", "--serve")
        both = (port, other)
        wait_until(lambda: all(_status(one, "/readyz") == 200 for one in both), "both to be ready", 60.0)
        assert _metric(other, "ledger_up") == 1
        server.kill()
        wait_until(lambda: all(_status(one, "/readyz") == 503 for one in both), "the probes to say so", 60.0)
        assert [_status(one, "/livez") for one in both] == [200, 200]
        wait_until(lambda: _metric(other, "ledger_up") == 0, "the scrape to say so", 60.0)
        server.start()
        wait_until(lambda: all(_status(one, "/readyz") == 200 for one in both), "both to be ready again", 60.0)
        wait_until(lambda: _metric(other, "ledger_up") == 1, "the scrape to say so", 60.0)
        assert [worker.terminate(), metrics.terminate()] == [0, 0]


def test_a_port_that_is_taken_refuses_the_start(slidewire: Slidewire, port: int) -> None:
    """Two processes on one machine need two ports; the second says so."""
    first = slidewire.start("metrics", "--serve")
    wait_until(lambda: _status(port, "/livez") == 200, "the first", 60.0)
    assert '"metrics are served"' in first.log
    for command in (("worker",), ("metrics", "--serve")):
        said = slidewire(*command)
        assert said.rc == 1
        assert said.stderr.splitlines()[-1].startswith("slidewire: SETTINGS_INVALID: The settings metrics_host and")
        assert "metrics_port" in said.stderr
    assert first.terminate() == 0


def test_metrics_are_printed_once(slidewire: Slidewire) -> None:
    """Without a server; with --serve and no port the setting is named."""
    assert "slidewire_ledger_up 1.0\n" in slidewire("metrics").stdout
    assert "metrics_port" in slidewire("metrics", "--serve").stderr
    for said in (slidewire("health"), slidewire("health", "--url", "file:///etc/passwd")):
        assert said.rc == 1
        assert said.stderr.startswith("slidewire: SETTINGS_INVALID: ")
