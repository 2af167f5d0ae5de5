"""Celery with its own queue, for comparison: empty tasks through a real Redis."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from celery import Celery
from redis import Redis

from tests.services.ports import wait_until
from tests.services.redis import start_redis

TASKS = 2000
_ROOT = Path(__file__).parents[2]
_ENVIRONMENT = "BENCH_BROKER"

app = Celery("bench", broker=os.environ.get(_ENVIRONMENT, "memory://"))
app.conf.update(
    task_acks_late=True, worker_prefetch_multiplier=1, task_ignore_result=True, worker_hijack_root_logger=False,
    task_serializer="json", accept_content=["json"],
)  # fmt: skip


@app.task(name="bench.nothing")  # type: ignore[untyped-decorator]
def nothing() -> None:
    """Do nothing."""


def celery_rates() -> dict[str, float]:
    """Return how many empty tasks a second one process publishes, and one solo worker consumes."""
    with tempfile.TemporaryDirectory() as name:
        server = start_redis(Path(name))
        app.conf.broker_url = server.url
        try:
            started = time.perf_counter()
            for _ in range(TASKS):
                nothing.delay()
            published_s = time.perf_counter() - started
            return {"publish_s": round(TASKS / published_s), "consume_s": round(TASKS / _consumed_s(server.url))}
        finally:
            server.stop()


def _consumed_s(url: str) -> float:
    """Return the seconds in which a worker empties the queue, from its first task on."""
    command = [sys.executable, "-m", "celery", "-A", "tests.bench.broker", "worker", "--pool=solo", "-l", "ERROR"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = subprocess.Popen(
        command, cwd=_ROOT, env=os.environ | {_ENVIRONMENT: url, "PYTHONPATH": str(_ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with Redis.from_url(url) as client:
            wait_until(lambda: int(client.llen("celery")) < TASKS, "the first task")
            started, pause = time.perf_counter(), threading.Event()
            left = int(client.llen("celery"))
            while client.llen("celery"):
                pause.wait(0.002)
            return (time.perf_counter() - started) * TASKS / left
    finally:
        worker.terminate()
        worker.wait()
