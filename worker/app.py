"""Celery, configured as a doorbell: a message says that a shard is ready, and losing or repeating it is harmless.

Every setting is here for a measured reason; the ledger, not the broker, is the queue of record.
"""

from typing import Any, Final

from celery import Celery
from kombu import Exchange, Queue

from worker.doorbell import QUEUES

# A worker keeps a message for two turns at most (the setting turn_s, ten minutes): the last shard under it may begin
# as the first turn ends. That is less than this, and than the 30 minutes after which RabbitMQ closes the channel
# (consumer_timeout). Where a publication takes longer the message comes twice, and finds nothing to do.
_VISIBILITY_S: Final = 3600
_REDIS: Final = {
    "visibility_timeout": _VISIBILITY_S,
    "unacked_restore_throttle": 1,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "global_keyprefix": "pe:",
}
# No heartbeat: the solo pool sends none while a shard runs. A lost peer is found by TCP (py-amqp's keepalive, 150 s).
_AMQP: Final = {"confirm_publish": True}
_SETTINGS: Final[dict[str, Any]] = {
    "broker_heartbeat": 0,
    "broker_channel_error_retry": True,  # a broker that refuses (full, a message held too long) ends no worker
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,  # the default gives up after 100
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "task_acks_late": True,  # with a prefetch of 1 the broker keeps all but the running message
    "task_reject_on_worker_lost": False,  # no hot loop: the reaper announces again, with a cap on crashes
    "task_acks_on_failure": True,  # failures are the ledger's; False drops the message silently on Redis
    "task_acks_on_timeout": True,
    "worker_prefetch_multiplier": 1,
    "worker_concurrency": 1,
    "worker_consumer": "worker.consumer:CarefulConsumer",  # Celery's own ends at the first malformed message
    "worker_pool": "solo",  # one process a device; a fork after torch or TensorFlow has started hangs
    "worker_detect_quorum_queues": True,  # they have no global prefetch
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_soft_shutdown_timeout": 0,  # with the solo pool a soft shutdown loses the running message
    "task_ignore_result": True,
    "result_backend": None,
    "task_store_errors_even_if_ignored": False,
    "task_create_missing_queues": False,
    "task_default_queue": "embed.std",
    "worker_send_task_events": False,
    "worker_enable_remote_control": False,  # else whoever reaches the broker could send control commands
    "worker_hijack_root_logger": False,
    "task_publish_retry": True,
    "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5},
}


def make_app(broker_url: str) -> Celery:
    """Return the Celery application for a broker."""
    app = Celery("slidewire", broker=broker_url, include=["worker.tasks"])
    app.conf.update(_settings(broker_url))
    return app


def _settings(broker_url: str) -> dict[str, Any]:
    amqp = broker_url.startswith("amqp")
    return {
        "broker_transport_options": _AMQP if amqp else _REDIS,
        "visibility_timeout": _VISIBILITY_S,
        "task_queues": [_queue(name, quorum=amqp) for name in QUEUES.values()],
        "task_default_queue_type": "quorum" if amqp else "classic",
        **_SETTINGS,
    }


def _queue(name: str, *, quorum: bool) -> Queue:
    # An exchange of its own: else all queues are bound to the default queue's, and one message would reach them all.
    return Queue(
        name,
        Exchange(name),
        routing_key=name,
        # A message that came back so often is dropped, without a letter box for dead ones: no job is lost with it.
        queue_arguments={"x-queue-type": "quorum", "x-delivery-limit": 20} if quorum else None,
    )
