"""The Celery tasks of `train` and `data` workers.

A message only wakes the worker up. Its name tells the queue; its job id is a hint for the log, since the worker claims
whichever job is due.
"""

from collections.abc import Callable

from celery import Celery

from service.shared import broker
from worker import supervisor
from worker.worker_state import WorkerState


def register(app: Celery, worker: WorkerState) -> None:
    """Register the task of every queue."""
    for queue, name in broker.TASKS.items():
        app.task(name=name)(_task(worker, queue))


def _task(worker: WorkerState, queue: str) -> Callable[[str], None]:
    def wake_up(job_id: str) -> None:
        supervisor.work(worker, queue)

    return wake_up
