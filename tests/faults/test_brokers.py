"""What a broker does to the messages (faults 7 to 12): it loses, repeats, delays and invents them; no job minds."""

import json
import pickle
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.faults.conftest import Fault
from tests.faults.invariants import assert_sound, digests
from tests.faults.quick import some_quick
from tests.services.broker import Broker, put, waiting
from tests.services.command import Running, Slidewire
from tests.services.ports import wait_until
from tests.services.rabbitmq import RabbitServer, start_rabbitmq
from tests.services.redis import RedisServer, start_redis
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess
from worker.doorbell import QUEUES, TASK
from worker.ledger import Lane

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--out", "out")
_STRIDES = (112, 128, 144)
_MANY_SHARDS = {
    "SLIDEWIRE_SHARD_PATCHES": "64", "SLIDEWIRE_BATCH_SIZE": "16", "SLIDEWIRE_CHECKPOINT_S": "0.1",
    "SLIDEWIRE_LEASE_S": "2", "SLIDEWIRE_DECODERS": "1",
}  # fmt: skip
_RECOVERY_S = 30.0
_SLOW = ("slow=:0.05",)
_KILLED = -signal.SIGKILL
faults = pytest.mark.faults


@pytest.fixture(scope="module")
def golden(cmu_slide: SlideOnDisk, warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> Mapping[int, Any]:
    """Embed the slide at each stride without trouble; give the digests of the outputs."""
    quiet = Slidewire(tmp_path_factory.mktemp("quiet"), warm, dict(_MANY_SHARDS))
    return {stride: digests(quiet, [_job(quiet, cmu_slide, stride, "embed")])[0] for stride in _STRIDES}


@pytest.fixture(params=some_quick(["redis", "rabbitmq"], {"redis"}))
def broker(request: pytest.FixtureRequest, slidewire: Slidewire, tmp_path: Path) -> Iterator[Broker]:
    """Give the command a broker of each kind that may be killed; Redis keeps nothing, RabbitMQ its queues."""
    server: Broker = start_redis(tmp_path / "redis") if request.param == "redis" else _rabbit(request)
    slidewire.environment |= _MANY_SHARDS | {"SLIDEWIRE_BROKER_URL": server.url}
    yield server
    if isinstance(server, RedisServer):
        server.stop()
    elif not server.running:
        server.start()


@pytest.fixture
def redis(own_redis: RedisServer, slidewire: Slidewire) -> RedisServer:
    """Give the command a Redis of its own."""
    slidewire.environment |= _MANY_SHARDS | {"SLIDEWIRE_BROKER_URL": own_redis.url}
    return own_redis


def _rabbit(request: pytest.FixtureRequest) -> RabbitServer:
    server: RabbitServer = request.getfixturevalue("rabbit_server")
    server.flush()
    return server


def _job(slidewire: Slidewire, slide: SlideOnDisk, stride: int = 112, command: str = "submit") -> str:
    return str(slidewire.done(command, slide.folder, *_WHAT, "--stride-px", stride).json["job"])


def _jobs(slidewire: Slidewire, slide: SlideOnDisk) -> dict[str, int]:
    return {_job(slidewire, slide, stride): stride for stride in _STRIDES}


def _working(slidewire: Slidewire, *workers: Running) -> None:
    """Wait until something is being embedded, and not all of it is done."""

    def at_it() -> bool:
        for worker in workers:
            assert worker.process.poll() is None, worker.log
        [(done, leased, left)] = slidewire.rows(
            "SELECT sum(state = 'done'), sum(state = 'leased'), sum(state = 'pending') FROM shard"
        )
        return bool(done and leased and left)

    wait_until(at_it, "work")


def _ends(slidewire: Slidewire, jobs: Mapping[str, int], golden: Mapping[int, Any], *workers: Running) -> None:
    """Wait for all jobs, stop the workers in order, ask whether everything is as it should be."""
    for job in jobs:
        slidewire.wait_for(job)
    for worker in workers:
        assert worker.terminate() == 0, worker.log
        assert "Traceback" not in worker.log, worker.log
    assert_sound(slidewire, {job: golden[stride] for job, stride in jobs.items()})


def _nobody_came(slidewire: Slidewire) -> None:
    """Let a while go by since the shards were announced."""
    with slidewire.ledger() as connection:
        connection.exec_driver_sql("UPDATE shard SET rung_at = rung_at - 16")
        connection.commit()


def _claimed(slidewire: Slidewire) -> int:
    [(count,)] = slidewire.rows("SELECT count(*) FROM attempt WHERE event = 'claimed'")
    return int(count)


@faults
def test_messages_that_repeat_come_late_or_out_of_order(
    slidewire: Slidewire, broker: Broker, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """Each five times, the last one first, those of ended jobs again: two workers claim every shard once."""
    fault.is_number(10, "duplicate, reordered and replayed messages", "copies into the queue")
    jobs = _jobs(slidewire, cmu_slide)
    messages = [
        json.dumps([[{"v": 1, "shard": shard, "n": number}], {}, {}]).encode()
        for shard, number in slidewire.rows("SELECT id, dispatch_no FROM shard ORDER BY id DESC")
    ]
    number = "6b1b8b6c-8a7c-4d0e-9f58-3a6f6f1f0b57"
    headers = {"lang": "py", "task": TASK, "id": number, "root_id": number, "argsrepr": "", "kwargsrepr": ""}
    for message in messages * 5:
        put(broker, message, headers=headers)
    fault.strikes()
    workers = [slidewire.start("worker") for _ in range(2)]
    for job in jobs:
        slidewire.wait_for(job)
    for message in messages:
        put(broker, message, headers=headers)
    wait_until(lambda: waiting(broker) == 0, "the old messages to go")
    fault.is_over()
    _ends(slidewire, jobs, golden, *workers)
    assert {epoch for (epoch,) in slidewire.rows("SELECT epoch FROM shard")} == {1}


_POINTS = ["rung.before_commit", "ring.before_send", "ring.after_send"]


@faults
@pytest.mark.parametrize("point", ["rung.after_commit", *_POINTS])
def test_a_submission_that_dies_while_it_rings(
    slidewire: Slidewire,
    redis: RedisServer,
    cmu_slide: SlideOnDisk,
    golden: Mapping[int, Any],
    fault: Fault,
    point: str,
) -> None:
    """The job is on disk; whatever became of its messages, a worker finds it, and again the same command knows it."""
    fault.is_number(7, "dispatcher killed between outbox and broker", f"kill point {point}")
    dying = slidewire.start("submit", str(cmu_slide.folder), *_WHAT, "--stride-px", "112", armed=[f"kill={point}"])
    assert dying.wait() == _KILLED, dying.log
    fault.strikes()
    _nobody_came(slidewire)
    worker = slidewire.start("worker")
    wait_until(lambda: _claimed(slidewire) > 0, "a claim", _RECOVERY_S)
    fault.is_over()
    [(job,)] = slidewire.rows("SELECT id FROM job")
    slidewire.wait_for(job)
    assert _job(slidewire, cmu_slide) == job
    _ends(slidewire, {job: 112}, golden, worker)


@pytest.mark.faults
def test_more_urgent_jobs_come_first(slidewire: Slidewire, broker: Broker, cmu_slide: SlideOnDisk) -> None:
    """A backfill was queued first; the interactive job's shards are claimed before the rest of it."""
    jobs = {_job(slidewire, cmu_slide, stride): lane for stride, lane in zip(_STRIDES, reversed(Lane), strict=True)}
    broker.flush()
    _into_lanes(slidewire, jobs)
    worker = slidewire.start("worker")
    for job in jobs:
        slidewire.wait_for(job)
    assert worker.terminate() == 0, worker.log
    claims = slidewire.rows(
        "SELECT shard.rank FROM attempt JOIN shard ON shard.id = attempt.shard_id "
        "WHERE event = 'claimed' AND kind = 'embed' ORDER BY attempt.id"
    )
    assert claims == sorted(claims)
    assert len(set(claims)) == len(jobs)


@faults
def test_a_worker_of_one_lane_leaves_the_others_alone(
    slidewire: Slidewire, broker: Broker, cmu_slide: SlideOnDisk
) -> None:
    """It takes no message of another lane and claims no shard of one, though it announces them."""
    jobs = {_job(slidewire, cmu_slide, stride): lane for stride, lane in zip(_STRIDES, Lane, strict=True)}
    broker.flush()
    _into_lanes(slidewire, jobs)
    worker = slidewire.start("worker", "--lane", "interactive")
    interactive, *others = jobs
    slidewire.wait_for(interactive)
    wait_until(lambda: waiting(broker, QUEUES[Lane.INTERACTIVE]) == 0, "the interactive queue to be empty")
    for job in others:
        [(shards, epochs)] = slidewire.rows(f"SELECT count(*), sum(epoch) FROM shard WHERE job_id = '{job}'")
        assert epochs == 0
        assert waiting(broker, QUEUES[jobs[job]]) == shards > 1
    assert worker.terminate() == 0, worker.log


def _into_lanes(slidewire: Slidewire, jobs: Mapping[str, Lane]) -> None:
    """Move jobs into lanes, as if nobody had been told of them yet."""
    with slidewire.ledger() as connection:
        for job, lane in jobs.items():
            connection.exec_driver_sql(f"UPDATE job SET lane = '{lane}' WHERE id = '{job}'")
            connection.exec_driver_sql(f"UPDATE shard SET rank = {lane.rank}, rung_at = NULL WHERE job_id = '{job}'")
        connection.commit()


class _Bomb:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._path), "w")


@faults
def test_messages_that_are_none_of_ours(
    slidewire: Slidewire, broker: Broker, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """Garbage, pickles, foreign, unsigned and huge messages are dropped, never run; the worker lives and works."""
    fault.is_number(12, "garbage, pickled, foreign and huge messages", "put into the queue")
    trap = slidewire.folder / "unpickled"
    number = "6b1b8b6c-8a7c-4d0e-9f58-3a6f6f1f0b57"
    ours = {"lang": "py", "task": TASK, "id": number, "root_id": number}
    shard = {"v": 1, "shard": "0" * 32, "n": 1}
    bodies: list[Any] = [
        [[shard], {}, {}], [[shard, shard], {}, {}], [[{"v": 2}], {}, {}], [["../../etc/passwd"], {}, {}],
        [[], {"shard": "x"}, {}], [[{"v": 1, "shard": "x" * 5_000_000}], {}, {}], {"no": "list"}, None, 7,
    ]  # fmt: skip
    waiting(broker)
    for body in bodies:
        put(broker, json.dumps(body).encode(), headers=ours)
    put(broker, b"[[], {}, {}]", headers=ours | {"task": "os.system"})
    put(broker, b"[[], {}, {}]", headers=ours | {"eta": "no time", "timelimit": ["x", 3]})
    put(broker, b"[[], {}, {}]")
    put(broker, b"\xff\xfe no json", headers=ours)
    put(broker, b"")
    for kind in ("application/x-python-serialize", "application/x-yaml", "text/plain", "no/type", ""):
        put(broker, pickle.dumps(([_Bomb(trap)], {}, {})), content_type=kind, headers=ours)
        put(broker, pickle.dumps(_Bomb(trap)), content_type=kind)
    fault.strikes()
    worker = slidewire.start("worker")
    wait_until(lambda: waiting(broker) == 0 or worker.process.poll() is not None, "the strange messages to go")
    fault.is_over()
    assert worker.process.poll() is None, worker.log
    job = _job(slidewire, cmu_slide)
    slidewire.wait_for(job)
    assert not trap.exists()
    assert worker.terminate() == 0, worker.log
    assert_sound(slidewire, {job: golden[112]})


@faults
def test_a_full_queue_is_lost(
    slidewire: Slidewire, broker: Broker, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """Redis is killed without a file of its own, or every message purged: work is announced again within 30 s."""
    fault.is_number(8, "broker loses a full queue", "kill -9 of Redis without AOF; purge of RabbitMQ")
    jobs = _jobs(slidewire, cmu_slide)
    assert waiting(broker) > len(jobs)
    workers = [slidewire.start("worker", "--lane", "interactive"), slidewire.start("worker", "--lane", "backfill")]
    if isinstance(broker, RedisServer):
        broker.kill()
        broker.start()
    else:
        broker.flush()
    fault.strikes()
    assert waiting(broker) == 0
    workers += [slidewire.start("worker") for _ in range(2)]
    wait_until(lambda: _claimed(slidewire) > 0, "a claim", _RECOVERY_S)
    fault.is_over()
    _ends(slidewire, jobs, golden, *workers)


@faults
def test_a_broker_is_killed_and_comes_back_in_the_middle(
    slidewire: Slidewire, broker: Broker, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """The shard in hand is finished, the workers connect anew, and are not deaf afterwards."""
    fault.is_number(8, "broker killed and started again under work", "kill -9")
    jobs = _jobs(slidewire, cmu_slide)
    workers = [slidewire.start("worker", armed=_SLOW) for _ in range(2)]
    _working(slidewire, *workers)
    broker.kill()
    fault.strikes()
    broker.start()
    for job in jobs:
        slidewire.wait_for(job)
    fault.is_over()
    later = _job(slidewire, cmu_slide, 160)
    slidewire.wait_for(later)
    _ends(slidewire, jobs, golden, *workers)


@faults
def test_all_messages_are_lost_in_the_middle(
    slidewire: Slidewire, broker: Broker, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """FLUSHALL, or a purge, again and again while workers work."""
    fault.is_number(9, "broker emptied under work", "FLUSHALL; purge")
    jobs = _jobs(slidewire, cmu_slide)
    workers = [slidewire.start("worker", armed=_SLOW) for _ in range(2)]
    _working(slidewire, *workers)

    def ended() -> bool:
        broker.flush()
        fault.strikes()
        return not slidewire.rows("SELECT 1 FROM job WHERE state IN ('queued', 'running')")

    wait_until(ended, "the jobs to end", 90.0)
    fault.is_over()
    later = _job(slidewire, cmu_slide, 160)
    slidewire.wait_for(later)
    _ends(slidewire, jobs, golden, *workers)


@faults
def test_a_broker_that_is_down_for_long(
    slidewire: Slidewire, broker: Broker, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """Jobs are accepted meanwhile; idle workers wait for it, and work once it is back."""
    fault.is_number(9, "broker down", "stopped for 15 s, then started")
    workers = [slidewire.start("worker") for _ in range(2)]
    first = _job(slidewire, cmu_slide, 160)
    slidewire.wait_for(first)
    broker.stop()
    fault.strikes()
    since = time.monotonic()
    jobs = {str(_submitted(slidewire, cmu_slide, stride)): stride for stride in _STRIDES}
    assert time.monotonic() - since < 10.0 * len(jobs)
    wait_until(lambda: time.monotonic() - since > 15.0, "the outage to last")
    for worker in workers:
        assert worker.process.poll() is None, worker.log
    broker.start()
    wait_until(lambda: _claimed(slidewire) > _claims_of(slidewire, first), "a claim", 60.0)
    fault.is_over()
    _ends(slidewire, jobs, golden, *workers)


def _claims_of(slidewire: Slidewire, job: str) -> int:
    [(count,)] = slidewire.rows(f"SELECT sum(epoch) FROM shard WHERE job_id = '{job}'")
    return int(count)


def _submitted(slidewire: Slidewire, slide: SlideOnDisk, stride: int) -> str:
    """Submit while the broker is in trouble, of which the log may tell."""
    said = slidewire("submit", slide.folder, *_WHAT, "--stride-px", stride, "--json")
    assert said.rc == 0, said
    assert said.json["state"] == "queued"
    return str(said.json["job"])


@faults
def test_a_broker_that_does_not_answer_in_time(
    slidewire: Slidewire, redis: RedisServer, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """CLIENT PAUSE for 25 s: a submission is on disk all the same, and a worker that is stopped then ends in time."""
    fault.is_number(9, "Redis answers nobody", "CLIENT PAUSE")
    stopped, worker = slidewire.start("worker"), slidewire.start("worker")
    first = _job(slidewire, cmu_slide, 160)
    slidewire.wait_for(first)
    with Redis.from_url(redis.url) as client:
        client.client_pause(25_000)
    fault.strikes()
    since = time.monotonic()
    job = _submitted(slidewire, cmu_slide, 112)
    assert time.monotonic() - since < 25.0
    stopped.process.terminate()
    slidewire.wait_for(job)
    fault.is_over()
    stopped.wait()
    _ends(slidewire, {job: 112}, golden, worker)


@faults
def test_a_broker_that_is_full(
    slidewire: Slidewire, redis: RedisServer, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """With maxmemory reached nothing can be announced and nothing noted; no worker ends, no job is lost."""
    fault.is_number(9, "Redis is full", "maxmemory, noeviction")
    early = _job(slidewire, cmu_slide, 128)
    with Redis.from_url(redis.url) as client:
        client.config_set("maxmemory", 1)
        worker = slidewire.start("worker")
        fault.strikes()
        job = _submitted(slidewire, cmu_slide, 112)
        wait_until(lambda: worker.process.poll() is not None or "maxmemory" in worker.log or _old(worker), "trouble")
        assert worker.process.poll() is None, worker.log
        client.config_set("maxmemory", 0)
    slidewire.wait_for(job)
    fault.is_over()
    _ends(slidewire, {job: 112, early: 128}, golden, worker)


def _old(worker: Running) -> bool:
    return "broker does not answer" in worker.log


@faults
def test_work_that_outlasts_the_visibility_timeout(
    slidewire: Slidewire, redis: RedisServer, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """Redis gives the message to another worker while the first is at it: that one finds nothing to do."""
    fault.is_number(11, "task longer than the visibility timeout", "timeout of 5 s, shards of 9 s")
    slidewire.environment["SLIDEWIRE_SHARD_PATCHES"] = "100000"
    job = _job(slidewire, cmu_slide)
    armed = ("slow=:0.35", "visibility=5")
    workers = [slidewire.start("worker", armed=armed) for _ in range(2)]
    fault.strikes()
    slidewire.wait_for(job, timeout_s=120.0)
    fault.is_over()
    [(lasted,)] = slidewire.rows(
        "SELECT max(at) - min(at) FROM attempt JOIN shard ON shard.id = shard_id WHERE kind = 'embed'"
    )
    assert lasted > 5.0, "the shard was done too soon"
    _ends(slidewire, {job: 112}, golden, *workers)
    assert {epoch for (epoch,) in slidewire.rows("SELECT epoch FROM shard")} == {1}


@faults
@pytest.mark.timeout(300)
def test_a_message_held_longer_than_rabbitmq_allows(
    slidewire: Slidewire, tmp_path: Path, cmu_slide: SlideOnDisk, golden: Mapping[int, Any], fault: Fault
) -> None:
    """RabbitMQ closes the channel under the work (consumer_timeout); the job ends, the worker connects anew."""
    fault.is_number(11, "task longer than RabbitMQ's consumer_timeout", "timeout of 2 s")
    server = start_rabbitmq(
        tmp_path / "rabbitmq", "[{rabbit, [{consumer_timeout, 2000}, {channel_tick_interval, 1000}]}]."
    )
    try:
        slidewire.environment |= _MANY_SHARDS | {
            "SLIDEWIRE_BROKER_URL": server.url, "SLIDEWIRE_SHARD_PATCHES": "100000",
        }  # fmt: skip
        job = _job(slidewire, cmu_slide)
        worker = slidewire.start("worker", armed=("slow=:0.35",))
        fault.strikes()
        slidewire.wait_for(job)
        fault.is_over()
        later = _job(slidewire, cmu_slide, 160)
        slidewire.wait_for(later)
        _ends(slidewire, {job: 112}, golden, worker)
        assert "timed out" in (tmp_path / "rabbitmq" / "rabbitmq.log").read_text(), "RabbitMQ did not mind"
    finally:
        server.stop()
