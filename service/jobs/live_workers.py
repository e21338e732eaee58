"""Worker processes and their heartbeats."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.jobs.tables import Job, Worker
from service.shared.database import now
from service.shared.table_base import new_id

# A worker whose last heartbeat is older counts as dead.
ALIVE_SECONDS = 60.0
_ALIVE = (
    select(Worker, Job.project_id)
    .outerjoin(Job, Job.id == Worker.job_id)
    .where(Worker.stopped_at.is_(None), Worker.heartbeat_at > now(-ALIVE_SECONDS))
    .order_by(Worker.id)
)


def register(session: Session, host: str, pid: int, queue: str, devices: list[str], versions: dict[str, Any]) -> str:
    """Add a starting worker. Returns its id, the owner of the jobs that it claims."""
    worker = Worker(id=new_id("wrk"), host=host, pid=pid, queue=queue, devices=devices, versions=versions)
    session.add(worker)
    return worker.id


def beat(session: Session, worker_id: str, job_id: str | None) -> None:
    """Record a heartbeat of a worker, and its current job."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(heartbeat_at=now(), job_id=job_id))


def unregister(session: Session, worker_id: str) -> None:
    """Record that a worker has stopped."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(stopped_at=now(), job_id=None))


def alive(session: Session, after: str | None = None, size: int | None = None) -> Sequence[tuple[Worker, str | None]]:
    """The live workers, each with the project of its current job: at most `size` of them after the worker `after`."""
    query = _ALIVE.limit(size)
    if after is not None:
        query = query.where(Worker.id > after)
    return [(worker, project_id) for worker, project_id in session.execute(query)]


def work_waits(session: Session, queue: str, devices: int, seconds: float) -> bool:
    """Whether a job that a worker with these devices can run has been due for more than `seconds`."""
    due = select(Job.id).where(
        Job.queue == queue,
        Job.state == "queued",
        Job.devices <= devices,
        Job.not_before < now(-seconds),
        Job.created_at < now(-seconds),
    )
    return session.scalar(due.limit(1)) is not None
