"""Ends a worker that receives no work although work is due, so that the process manager restarts it."""

import os
import time

import structlog

from service.jobs import live_workers
from worker.worker_state import WorkerState

log = structlog.get_logger(__name__)


def exit_if_stalled(worker: WorkerState, queue: str) -> None:
    """End the process if it has been idle, and a job of its queue has been due, for longer than `stalled_seconds`."""
    stalled_seconds = worker.settings.stalled_seconds
    is_idle = worker.job_id is None and time.monotonic() - worker.idle_since > stalled_seconds
    if not is_idle or worker.draining.is_set():
        return
    with worker.database.reader() as session:
        is_due = live_workers.work_waits(session, queue, len(worker.settings.devices), stalled_seconds)
    if is_due and worker.job_id is None:
        log.error("worker_stalled", queue=queue, owner=worker.owner)
        os._exit(1)
