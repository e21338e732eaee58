"""The Celery client: queues, task names, and the wake-up that follows a commit.

SQL is the truth; a message only wakes a worker. Messages are acknowledged early and carry only a hint; a lost one costs
one tick of the reconciler. Batches of inference are the exception: their callers wait, and send them again.
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

_outage = Outage(log, "wake_up_failed", "wake_up_recovered")

TASKS = {"train": "sensorium.train", "data": "sensorium.data"}
"""The task of each queue: claim a due job and run it."""

QUEUES = tuple(TASKS)
"""The queues of jobs."""

INFER = "infer"
WORKER_QUEUES = (*QUEUES, INFER)
"""The queues that a worker can serve."""

INFER_TASK = "sensorium.infer"
"""The task of the queue `infer`. Its message carries a batch of inference, and expires soon."""

# A filesystem:// worker polls this often; a wake-up waits half of it on average.
POLL_SECONDS = 0.1
# By then the reconciler has sent another wake-up: they must not pile up behind a long training.
STALE_SECONDS = 600.0


def connect(settings: Settings) -> Celery:
    """The Celery application of senders and consumers."""
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
        task_acks_late=False,  # late acknowledgement duplicates messages, and crashes 5.7.0 if Redis returns empty
        task_store_errors_even_if_ignored=False,
        task_publish_retry=False,  # the reconciler publishes again
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,  # SQL carries cancel and drain; this would add a queue per worker
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(settings),
        # kombu does not verify certificates by default
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if urlsplit(url).scheme == "rediss" else None,
    )
    if _is_folder(settings):
        app.conf.broker_transport = "service.shared.folder_broker:Transport"
    return app


def declare(settings: Settings) -> None:
    """Empty and declare the filesystem:// queues, once, before any process uses them.

    SQL keeps the queued jobs. kombu writes the file of bindings in place, so that a second process could read half
    of it.
    """
    app = connect(settings)
    with app.connection_for_write() as connection:
        for queue in app.conf.task_queues:
            bound = queue(connection.default_channel)
            bound.declare()
            bound.purge()


def wake(app: Celery, queue: str, job_id: str) -> bool:
    """Wake a worker of `queue` for a job. Returns whether the broker took the message.

    Best effort: call it after the commit, never inside the transaction.
    """
    try:
        app.send_task(TASKS[queue], args=[job_id], queue=queue, retry=False, expires=STALE_SECONDS)
    except (KombuError, OSError) as error:
        _outage.failed("broker", error)
        return False
    _outage.works("broker")
    return True


def order(app: Celery, batch: bytes, seconds: float) -> None:
    """Send a batch to the `infer` workers. Raises the errors of the connection."""
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
        # A frozen Redis is noticed after about 16 s instead of never. The limit is above the 1 s of a BRPOP.
        "socket_timeout": 5,
        "socket_connect_timeout": 2,
        "socket_keepalive": True,
        "health_check_interval": 10,
        # One retry at once, instead of the six seconds of kombu's defaults: the reconciler sends lost wake-ups again.
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0.1,
        "interval_max": 0.1,
    }
