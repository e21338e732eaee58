"""The worker processes that are alive, as they say it themselves."""

from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from service.shared.database import now
from service.shared.tables import Worker, new_id


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
