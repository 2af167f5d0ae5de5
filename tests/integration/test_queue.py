"""The queue with real processes: Celery over Redis, a ledger on disk, workers that are stopped and killed."""

import base64
import hashlib
import json
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from redis import Redis

from tests.services.broker import Broker, waiting
from tests.services.command import Running, Slidewire
from tests.services.pacs import SlideInPacs
from tests.services.ports import wait_until
from tests.services.rabbitmq import RabbitServer
from tests.services.redis import RedisServer
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess

_QUEUE = "pe:embed.std"
_LONG = ("--encoder", "pixel-grid", "--all-patches", "--stride-px", "16")  # 21,500 patches: some seconds


@pytest.fixture
def broker(redis_server: RedisServer, slidewire: Slidewire) -> RedisServer:
    """Give the command an empty broker."""
    redis_server.flush()
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = redis_server.url
    return redis_server


@pytest.fixture
def rabbit(rabbit_server: RabbitServer, slidewire: Slidewire) -> RabbitServer:
    """Give the command an empty broker of the other kind."""
    rabbit_server.flush()
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = rabbit_server.url
    return rabbit_server


def _dump(server: RedisServer) -> dict[str, Any]:
    """Return everything that a Redis holds."""
    held: dict[str, Any] = {}
    with Redis.from_url(server.url) as client:
        for key in client.scan_iter():
            kind = client.type(key)
            readers: dict[bytes, Any] = {
                b"string": client.get,
                b"list": lambda name: client.lrange(name, 0, -1),
                b"set": client.smembers,
                b"hash": client.hgetall,
                b"zset": lambda name: client.zrange(name, 0, -1, withscores=True),
            }
            held[key.decode()] = readers[kind](key)
    return held


def _push(server: RedisServer, message: bytes) -> None:
    with Redis.from_url(server.url) as client:
        client.lpush(_QUEUE, message)


def _embedding(slidewire: Slidewire, worker: Running, job: str) -> None:
    """Wait until a worker has something of a job in a checkpoint, and is not done with it."""

    def at_it() -> bool:
        assert worker.process.poll() is None, worker.log
        [(state, kept)] = slidewire.rows(
            "SELECT shard.state, (SELECT count(*) FROM checkpoint WHERE shard_id = shard.id) "
            f"FROM shard WHERE job_id = '{job}' AND kind = 'embed'"
        )
        assert state != "done", "too fast to be interrupted"
        return state == "leased" and kept > 0

    wait_until(at_it, "a checkpoint")


@pytest.fixture(scope="module")
def uninterrupted(cmu_slide: SlideOnDisk, warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Embed the long job once without trouble; give the digest of its table."""
    command = Slidewire(tmp_path_factory.mktemp("uninterrupted"), warm)
    return command.done("embed", cmu_slide.folder, *_LONG, "--out", "out").output("parquet")["sha256"]


def _slow(slidewire: Slidewire, slide: SlideOnDisk) -> str:
    """Submit the long job, in one shard with many checkpoints; return its id."""
    slidewire.environment |= {
        "SLIDEWIRE_LEASE_S": "2",
        "SLIDEWIRE_CHECKPOINT_S": "0.1",
        "SLIDEWIRE_SHARD_PATCHES": "1000000",
        "SLIDEWIRE_DECODERS": "1",
    }
    return str(slidewire.done("submit", slide.folder, *_LONG, "--out", "out").json["job"])


@pytest.mark.parametrize("ledger", ["sqlite", "postgresql"])
def test_a_slide_in_the_pacs_becomes_embeddings_in_the_pacs(
    slidewire: Slidewire, broker: RedisServer, pacs_slide: SlideInPacs, ledger: str, request: pytest.FixtureRequest
) -> None:
    """A Celery worker embeds the slide, QIDO finds both objects, export gives the table, again makes nothing new."""
    slidewire.environment |= pacs_slide.endpoint
    if ledger == "postgresql":
        slidewire.environment["SLIDEWIRE_LEDGER_URL"] = request.getfixturevalue("postgresql_url")
    ask = ("submit", pacs_slide.source, "--encoder", "pixel-grid", "--write-back", "--out", "out")
    submitted = slidewire.done(*ask).json
    assert submitted["state"] == "queued"
    assert submitted["outputs"] == []
    [listed] = slidewire.done("jobs").json
    assert (listed["state"], listed["patches"], listed["patches_done"]) == ("queued", submitted["patches"], 0)

    worker = slidewire.start("worker")
    done = slidewire.wait_for(submitted["job"])
    assert done["patches_done"] == done["patches"] == submitted["patches"] > 20
    outputs = {output["kind"]: output for output in done["outputs"]}
    assert set(outputs) == {"parquet", "annotations", "report"}
    assert pacs_slide.found("ANN") == [outputs["annotations"]["series_uid"]]
    assert pacs_slide.found("SR") == [outputs["report"]["series_uid"]]
    held = pacs_slide.instances()
    assert len(held) == len(pacs_slide.slide.levels) + 2
    assert {outputs["annotations"]["instance_uid"], outputs["report"]["instance_uid"]} <= set(held)

    table = Path(outputs["parquet"]["uri"]).read_bytes()
    assert hashlib.sha256(table).hexdigest() == outputs["parquet"]["sha256"]
    exported = slidewire.done("export", pacs_slide.source, "--out", "back.parquet").json
    assert exported["patches"] == done["patches"]
    assert Path(exported["uri"]).read_bytes() == table
    annotations = f"{pacs_slide.study_url}/series/{outputs['annotations']['series_uid']}"
    with np.load(slidewire.done("export", annotations, "--out", "back.npz").json["uri"]) as arrays:
        columns = pq.read_table(outputs["parquet"]["uri"], use_threads=False)
        wanted = columns["embedding"].combine_chunks().flatten().to_numpy()
        assert arrays["features"].astype("<f4").tobytes() == wanted.tobytes()
        corners = np.stack([columns["x"].to_numpy(), columns["y"].to_numpy()], axis=1)
        assert np.array_equal(arrays["coords"], corners)

    again = slidewire.done(*ask).json
    assert (again["job"], again["state"], again["outputs"]) == (done["job"], "succeeded", done["outputs"])
    assert worker.terminate() == 0, worker.log
    if ledger == "sqlite":
        fresh = slidewire.beside("fresh", SLIDEWIRE_BROKER_URL="")
        job = fresh.done(*ask).json["job"]
        assert fresh("worker", "--drain").rc == 0
        second = {output["kind"]: output for output in fresh.job(job)["outputs"]}
        assert second["annotations"] == outputs["annotations"]
        assert second["report"] == outputs["report"]
        assert second["parquet"]["sha256"] == outputs["parquet"]["sha256"]
    assert pacs_slide.instances() == held


def test_a_message_names_a_shard_and_nothing_else(
    slidewire: Slidewire, broker: RedisServer, pacs_slide: SlideInPacs
) -> None:
    """What waits in the broker holds the shard's id: no UID, no URL, no path, no encoder."""
    out = slidewire.folder / "a-telling-folder"
    job = slidewire.done("submit", pacs_slide.url, "--encoder", "pixel-grid", "--out", out, "--write-back").json["job"]
    held = _dump(broker)
    assert all(key.startswith("pe:") for key in held), list(held)
    [message] = [json.loads(entry) for entry in held[_QUEUE]]
    arguments, keywords, _ = json.loads(base64.b64decode(message["body"]))
    [(shard, number)] = slidewire.rows("SELECT id, dispatch_no FROM shard")
    assert (arguments, keywords) == ([{"v": 1, "shard": shard, "n": number}], {})
    assert message["headers"]["argsrepr"] == message["headers"]["kwargsrepr"] == ""
    everything = repr(held) + base64.b64decode(message["body"]).decode()
    telling = (
        pacs_slide.slide.study_uid,
        pacs_slide.slide.series_uid,
        pacs_slide.orthanc.url.rpartition(":")[2],
        "dicom-web",
        "a-telling-folder",
        "pixel-grid",
        job,
    )
    assert not [word for word in telling if word in everything]


def test_a_worker_without_a_broker_polls(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Without a broker a worker finds jobs in the ledger, also those submitted while it is idle."""
    worker = slidewire.start("worker")
    submitted = slidewire.done("submit", cmu_slide.folder, "--encoder", "pixel-grid", "--out", "out").json
    done = slidewire.wait_for(submitted["job"])
    assert Path(done["outputs"][0]["uri"]).is_file()
    assert worker.terminate() == 0, worker.log


def test_a_draining_worker_leaves_when_nothing_is_left(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """With --drain the worker ends by itself: at once with nothing to do, else after the last job."""
    assert slidewire("worker", "--drain").rc == 0
    jobs = [
        slidewire.done("submit", cmu_slide.folder, "--encoder", "pixel-grid", "--out", out).json["job"]
        for out in ("one", "two")
    ]
    drained = slidewire("worker", "--drain")
    assert drained.rc == 0
    assert drained.stdout == ""
    assert {slidewire.job(job)["state"] for job in jobs} == {"succeeded"}


def test_a_wiped_broker_loses_no_job(slidewire: Slidewire, broker: RedisServer, cmu_slide: SlideOnDisk) -> None:
    """After FLUSHALL the sweeper announces the shard again, and the job ends."""
    job = slidewire.done("submit", cmu_slide.folder, "--encoder", "pixel-grid", "--out", "out").json["job"]
    assert waiting(broker) == 1
    broker.flush()
    with slidewire.ledger() as connection:
        # A while goes by: what was announced longer ago, and is in no queue, is announced again.
        connection.exec_driver_sql("UPDATE shard SET rung_at = rung_at - 16")
        connection.commit()
    worker = slidewire.start("worker")
    slidewire.wait_for(job)
    [(number,)] = slidewire.rows("SELECT dispatch_no FROM shard WHERE kind = 'embed'")
    assert number == 2
    assert worker.terminate() == 0, worker.log


def test_a_job_is_on_disk_though_the_broker_is_down(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """Submit succeeds without a broker that answers; a worker that polls does the job."""
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = "redis://127.0.0.1:1/0"
    submitted = slidewire("submit", cmu_slide.folder, "--encoder", "pixel-grid", "--out", "out", "--json")
    assert submitted.rc == 0, submitted
    slidewire.environment["SLIDEWIRE_BROKER_URL"] = ""
    assert slidewire("worker", "--drain").rc == 0
    assert slidewire.job(submitted.json["job"])["state"] == "succeeded"


def test_a_killed_worker_loses_nothing(slidewire: Slidewire, cmu_slide: SlideOnDisk, uninterrupted: str) -> None:
    """After SIGKILL in the middle another worker goes on from the checkpoints; the bytes are the same."""
    job = _slow(slidewire, cmu_slide)
    worker = slidewire.start("worker")
    _embedding(slidewire, worker, job)
    worker.kill()
    [(kept,)] = slidewire.rows("SELECT sum(patches) FROM checkpoint")
    assert kept > 0
    assert slidewire("worker", "--drain").rc == 0
    done = slidewire.job(job)
    assert done["state"] == "succeeded"
    assert done["outputs"][0]["sha256"] == uninterrupted
    assert slidewire.rows("SELECT crashes, attempts FROM shard WHERE kind = 'embed'") == [(1, 0)]
    assert not list(slidewire.folder.glob("out/.*"))


@pytest.mark.parametrize(
    "over",
    [pytest.param("redis", marks=pytest.mark.faults), pytest.param("rabbitmq", marks=pytest.mark.faults), "ledger"],
)
def test_a_worker_stops_in_order(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, uninterrupted: str, over: str, request: pytest.FixtureRequest
) -> None:
    """SIGTERM ends a worker in seconds, with a checkpoint and no attempt used; the job goes on to the same bytes."""
    broker: Broker | None = None
    if over != "ledger":
        broker = request.getfixturevalue("broker" if over == "redis" else "rabbit")
    job = _slow(slidewire, cmu_slide)
    worker = slidewire.start("worker")
    _embedding(slidewire, worker, job)
    since = time.monotonic()
    assert worker.terminate(10.0) == 0, worker.log
    assert time.monotonic() - since < 5.0
    [(state, attempts, crashes)] = slidewire.rows("SELECT state, attempts, crashes FROM shard")
    assert (state, attempts, crashes) == ("pending", 0, 0)
    [(kept,)] = slidewire.rows("SELECT sum(patches) FROM checkpoint")
    assert 0 < kept < slidewire.job(job)["patches"]
    if broker is not None:
        assert waiting(broker) >= 1, "no message is back in the queue"
    second = slidewire.start("worker")
    done = slidewire.wait_for(job)
    assert done["outputs"][0]["sha256"] == uninterrupted
    assert slidewire.rows("SELECT event FROM attempt WHERE event NOT IN ('claimed', 'completed')") == [("released",)]
    assert second.terminate() == 0, second.log


class _Bomb:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._path), "w")


@pytest.mark.faults
def test_a_worker_survives_entries_that_are_no_messages(
    slidewire: Slidewire, broker: RedisServer, cmu_slide: SlideOnDisk
) -> None:
    """What somebody pushes into the list itself is dropped, never run, and the next real message is worked on."""
    trap = slidewire.folder / "unpickled"
    _push(broker, pickle.dumps(_Bomb(trap)))
    _push(broker, b"\x00\xff garbage")
    _push(broker, b"no json either")
    _push(broker, b"{}")
    _push(broker, b"[1, 2]")
    _push(broker, json.dumps({"body": "%%%", "headers": {"task": "slidewire.run"}, "properties": {}}).encode())
    worker = slidewire.start("worker")
    wait_until(lambda: waiting(broker) == 0 or worker.process.poll() is not None, "the strange entries to go")
    job = slidewire.done("submit", cmu_slide.folder, "--encoder", "pixel-grid", "--out", "out").json["job"]
    try:
        slidewire.wait_for(job)
    except TimeoutError:
        pytest.fail(f"exit status {worker.process.poll()}: {worker.log[-4000:]}")
    assert worker.process.poll() is None, worker.log
    assert not trap.exists()
    assert worker.terminate() == 0, worker.log
    left = [key for key in _dump(broker) if "_kombu" not in key]
    assert not left, "nothing comes back later"


def test_a_cancelled_job_stops(slidewire: Slidewire, cmu_slide: SlideOnDisk) -> None:
    """A job that is cancelled while a worker is at it ends cancelled, and leaves nothing behind."""
    job = _slow(slidewire, cmu_slide)
    worker = slidewire.start("worker")
    _embedding(slidewire, worker, job)
    slidewire.done("jobs", "cancel", job)
    slidewire.wait_for(job, "cancelled")
    assert not (slidewire.folder / "out").exists()
    assert worker.terminate() == 0, worker.log


@pytest.mark.faults
def test_an_interrupted_embed_goes_on(slidewire: Slidewire, cmu_slide: SlideOnDisk, uninterrupted: str) -> None:
    """Ctrl-C ends `slidewire embed` with 130 and a checkpoint; the same command again gives the same bytes."""
    command = ("embed", str(cmu_slide.folder), *_LONG, "--out", "out", "--json")
    slow = slidewire.environment | {"SLIDEWIRE_CHECKPOINT_S": "0.1", "SLIDEWIRE_BATCH_SIZE": "16"}
    slidewire.environment.update(slow)
    running = slidewire.start(*command)
    wait_until((slidewire.folder / "state" / "ledger.sqlite").exists, "the ledger")

    def kept() -> bool:
        assert running.process.poll() is None, running.log
        made = slidewire.rows("SELECT 1 FROM sqlite_master WHERE name = 'checkpoint'")
        return bool(made and slidewire.rows("SELECT name FROM checkpoint"))

    wait_until(kept, "a checkpoint")
    running.process.send_signal(signal.SIGINT)
    assert running.wait(20.0) == 130, running.log
    assert "INTERRUPTED" in running.log
    assert not list(slidewire.folder.glob("out/*"))
    [(before,)] = slidewire.rows("SELECT sum(patches) FROM checkpoint")
    assert before > 0
    assert slidewire.done(*command[:-1]).output("parquet")["sha256"] == uninterrupted
