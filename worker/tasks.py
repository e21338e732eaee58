"""The Celery tasks. A message is a wake-up: it says which queue to look at, and a job's id as a hint for the log."""

from collections.abc import Callable

from celery import Celery

from service.shared import broker
from worker import supervisor
from worker.worker_state import WorkerState


def register(app: Celery, worker: WorkerState) -> None:
    """Make the tasks of every queue known to a worker."""
    for queue, name in broker.TASKS.items():
        app.task(name=name)(_task(worker, queue))


def _task(worker: WorkerState, queue: str) -> Callable[[str], None]:
    def look(job_id: str) -> None:
        supervisor.work(worker, queue)

    return look
