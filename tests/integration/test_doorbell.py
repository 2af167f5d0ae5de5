"""The doorbell over real brokers: few messages under way, none lost for long, none multiplied."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from tests.services.broker import Broker, waiting
from tests.services.ports import free_port
from tests.services.rabbitmq import RabbitServer
from tests.unit.worker.ledger.sample import _set, claim, new_job, shard_rows, submit, together
from worker.app import make_app
from worker.doorbell import QUEUES, ring
from worker.ledger import Lane, Ledger
from worker.ledger.bells import AT_A_TIME


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Open a fresh ledger."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", tmp_path / "checkpoints") as opened:
        yield opened


@pytest.fixture(params=["redis_server", "rabbit_server"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Give an empty broker, of each kind."""
    server: Broker = request.getfixturevalue(request.param)
    server.flush()
    return server


@pytest.fixture
def app(broker: Broker) -> Iterator[Celery]:
    """Give the application over it."""
    with make_app(broker.url) as opened:
        yield opened


def _nobody_came(ledger: Ledger, job: str) -> None:
    """Let a while go by since the shards of a job were announced."""
    for row in shard_rows(ledger, job):
        _set(ledger, row.id, rung_at=ledger._db.now - 16.0)


def test_each_lane_has_a_queue(ledger: Ledger, broker: Broker, app: Celery) -> None:
    """A shard's message lies in the queue of its lane, and in no other."""
    for number, lane in enumerate(Lane, 1):
        submit(ledger, lane.value, shards=number, lane=lane)
    assert ring(ledger, app) == 1 + 2 + 3
    assert [waiting(broker, QUEUES[lane]) for lane in Lane] == [1, 2, 3]
    assert ring(ledger, app) == 0


def test_few_messages_are_under_way(ledger: Ledger, broker: Broker, app: Celery) -> None:
    """Of 700 shards 500 are announced; as many follow as are claimed."""
    job = submit(ledger, shards=700).id
    assert ring(ledger, app) == AT_A_TIME
    assert ring(ledger, app) == 0
    assert waiting(broker) == AT_A_TIME
    for _ in range(30):
        claim(ledger)
    assert ring(ledger, app) <= 30
    told = [row for row in shard_rows(ledger, job) if row.state == "pending" and row.rung_at is not None]
    assert len(told) == AT_A_TIME


def test_messages_that_were_lost_are_sent_again(ledger: Ledger, broker: Broker, app: Celery) -> None:
    """Only when nobody came, the queue is empty, and once however many look."""
    job = submit(ledger, shards=20).id
    assert ring(ledger, app) == 20
    _nobody_came(ledger, job)
    assert ring(ledger, app) == 0, "the messages are there: the workers are busy"
    broker.flush()
    assert sum(together(*[lambda: ring(ledger, app)] * 3)) == 20
    assert waiting(broker) == 20
    broker.flush()
    assert ring(ledger, app) == 0, "it has just rung"
    assert {row.dispatch_no for row in shard_rows(ledger, job)} == {2}


def test_an_empty_queue_is_its_own_lane_s(ledger: Ledger, broker: Broker, app: Celery) -> None:
    """Messages in another lane do not hide that this one's are lost."""
    submit(ledger, "backfill", shards=3, lane=Lane.BACKFILL)
    ring(ledger, app)
    job = submit(ledger, "urgent", shards=2, lane=Lane.INTERACTIVE).id
    with make_app(f"redis://127.0.0.1:{free_port()}/0") as elsewhere:
        assert ring(ledger, elsewhere) == 0, "another broker has no word of it"
    assert ring(ledger, app) == 2
    _nobody_came(ledger, job)
    with app.connection_for_write() as connection, connection.channel() as channel:
        channel.queue_purge(QUEUES[Lane.INTERACTIVE])
    assert ring(ledger, app) == 2
    assert [waiting(broker, QUEUES[lane]) for lane in Lane] == [2, 0, 3]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_down_leaves_the_shards_unannounced(ledger: Ledger, scheme: str) -> None:
    """Nothing is raised, and no shard is noted as announced that was not."""
    job = ledger.jobs.submit(new_job(shards=3)).job.id
    with make_app(f"{scheme}://127.0.0.1:{free_port()}//") as nowhere:
        assert ring(ledger, nowhere) == 0
    assert {row.rung_at for row in shard_rows(ledger, job)} == {None}


def test_lost_messages_wait_for_a_broker_that_is_down(ledger: Ledger, redis_server: Broker) -> None:
    """Whether a queue is empty cannot be asked: nothing is raised, and they are sent once the broker is back."""
    redis_server.flush()
    job = submit(ledger, shards=2).id
    with make_app(redis_server.url) as app:
        assert ring(ledger, app) == 2
    _nobody_came(ledger, job)
    with make_app(f"redis://127.0.0.1:{free_port()}/0") as nowhere:
        assert ring(ledger, nowhere) == 0
    redis_server.flush()
    with make_app(redis_server.url) as app:
        assert ring(ledger, app) == 2


def test_queues_that_somebody_deleted_are_made_again(ledger: Ledger, rabbit_server: RabbitServer) -> None:
    """A message to a queue that is gone is dropped in silence; a while later it is sent again, and arrives."""
    rabbit_server.flush()
    with make_app(rabbit_server.url) as app:
        submit(ledger, "first", shards=1)
        assert ring(ledger, app) == 1
        rabbit_server.delete_queues()
        job = submit(ledger, "second", shards=4).id
        assert ring(ledger, app) == 4
        _nobody_came(ledger, job)
        assert ring(ledger, app) == 4
    assert waiting(rabbit_server) == 4
