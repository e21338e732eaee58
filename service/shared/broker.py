"""The Celery client: queues, task names, and the wake-up that follows a commit.

SQL is the truth; a message only says "look now". So messages are acknowledged early, carry nothing but a hint, and
losing them costs one tick of the reconciler. Batches of inference are the exception: their callers wait, and ask again.
"""

import ssl
from typing import Any
from urllib.parse import urlsplit

import structlog
from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import KombuError

from service.shared.outage_log import Outage
from service.shared.settings import Settings

log = structlog.get_logger(__name__)

_outage = Outage(log, "wake_ups_not_sent", "wake_ups_sent_again")

TASKS = {"train": "sensorium.train", "data": "sensorium.data"}
"""The task that a message on each queue starts: claim what is due there and do it."""

QUEUES = tuple(TASKS)
"""What has jobs."""

INFER = "infer"
WORKER_QUEUES = (*QUEUES, INFER)
"""What a worker can serve."""

INFER_TASK = "sensorium.infer"
"""A message on this queue is no wake-up: it carries a batch of inference, and is worth nothing soon after."""

# Looked for this often by a filesystem:// worker; a wake-up waits half of it on average.
POLL_SECONDS = 0.1


# By then the reconciler has announced the job again: behind a long training, wake-ups must not pile up.
STALE_SECONDS = 600.0


def connect(settings: Settings) -> Celery:
    """The Celery application, for those who send and for those who consume."""
    # kombu warns of a URL without a host at every connection
    url = "filesystem://localhost" if _is_folder(settings) else settings.broker_url
    app = Celery("sensorium", broker=url, set_as_current=False)
    app.conf.update(
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in (*TASKS, INFER)],
        task_default_queue="data",
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json", "msgpack"],
        task_ignore_result=True,
        task_acks_late=False,  # late ack brings duplicates and, in 5.7.0, a crash when Redis returns empty
        task_store_errors_even_if_ignored=False,
        task_publish_retry=False,  # the reconciler publishes again
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,  # SQL carries cancel and drain; a fanout costs a queue a worker
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(settings),
        # kombu does not look at certificates unless it is told to
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if urlsplit(url).scheme == "rediss" else None,
    )
    if _is_folder(settings):
        app.conf.broker_transport = "service.shared.folder_broker:Transport"
    return app


def declare(settings: Settings) -> None:
    """Empty the filesystem:// queues and bind them anew, once, before any process uses them.

    SQL holds what was queued. Bindings are made here because kombu writes the file that holds them in place, where a
    second process can read it half written.
    """
    app = connect(settings)
    with app.connection_for_write() as connection:
        for queue in app.conf.task_queues:
            bound = queue(connection.default_channel)
            bound.declare()
            bound.purge()


def wake(app: Celery, queue: str, job_id: str) -> bool:
    """Tell a worker of `queue` that a job waits. Returns whether the broker took it.

    Best effort: call it after the commit, never inside it.
    """
    try:
        app.send_task(TASKS[queue], args=[job_id], queue=queue, retry=False, expires=STALE_SECONDS)
    except (KombuError, OSError) as error:
        _outage.failed("broker", error)
        return False
    _outage.works("broker")
    return True


def order(app: Celery, batch: bytes, seconds: float) -> None:
    """Send a batch to whichever `infer` worker takes it. Raises what is wrong with the connection."""
    app.send_task(INFER_TASK, args=[batch], queue=INFER, serializer="msgpack", retry=False, expires=seconds)


def _is_folder(settings: Settings) -> bool:
    return urlsplit(settings.broker).scheme == "filesystem"


def _transport_options(settings: Settings) -> dict[str, Any]:
    if _is_folder(settings):
        folders = {name: settings.queue_folder / name for name in ("messages", "control", "taken")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        return {
            "data_folder_in": str(folders["messages"]),
            "data_folder_out": str(folders["messages"]),
            "control_folder": str(folders["control"]),
            "processed_folder": str(folders["taken"]),
            "polling_interval": POLL_SECONDS,
        }
    return {
        # A frozen Redis is noticed after about 16 s instead of never; longer than a BRPOP's 1 s.
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
        # A wake-up is worth one more try at once, not the six seconds of kombu's defaults: the reconciler has them all.
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.1,
    }
