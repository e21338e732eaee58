"""The worker processes that are alive, as they say it themselves."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from service.jobs.tables import Job, Worker
from service.shared.database import now
from service.shared.table_base import new_id

# One that has not been heard of for longer does not count.
ALIVE_SECONDS = 60.0
_ALIVE = (
    select(Worker, Job.project_id)
    .outerjoin(Job, Job.id == Worker.job_id)
    .where(Worker.stopped_at.is_(None), Worker.heartbeat_at > now(-ALIVE_SECONDS))
    .order_by(Worker.id)
)


def register(session: Session, host: str, pid: int, queue: str, devices: list[str], versions: dict[str, Any]) -> str:
    """Add a worker that starts. Returns the id under which it owns jobs."""
    worker = Worker(id=new_id("wrk"), host=host, pid=pid, queue=queue, devices=devices, versions=versions)
    session.add(worker)
    return worker.id


def beat(session: Session, worker_id: str, job_id: str | None) -> None:
    """Say that a worker lives, and what it does."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(heartbeat_at=now(), job_id=job_id))


def unregister(session: Session, worker_id: str) -> None:
    """Say that a worker has ended."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(stopped_at=now(), job_id=None))


def alive(session: Session) -> Sequence[tuple[Worker, str | None]]:
    """The workers that were heard of lately, each with the project of the job it does."""
    return [(worker, project_id) for worker, project_id in session.execute(_ALIVE)]


def work_waits(session: Session, queue: str, devices: int, seconds: float) -> bool:
    """Whether a job that a worker of this queue could do has been due for longer than `seconds`."""
    due = select(Job.id).where(
        Job.queue == queue,
        Job.state == "queued",
        Job.devices <= devices,
        Job.not_before < now(-seconds),
        Job.created_at < now(-seconds),
    )
    return session.scalar(due.limit(1)) is not None
