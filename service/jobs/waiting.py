"""Where a queued job stands, and why a job is not running yet, for people."""

from typing import NamedTuple

from sqlalchemy import Integer, String, bindparam, func, select
from sqlalchemy.orm import Session

from service.jobs import workers
from service.shared.database import now
from service.shared.tables import Job

_ID, _QUEUE = bindparam("id", type_=String()), bindparam("queue", type_=String())
_PRIORITY = bindparam("priority", type_=Integer())
# Made once: who waits for a run polls it, and to put a statement together takes longer than to run it.
_AHEAD = select(func.count(), select(Job.not_before > now()).where(Job.id == _ID).scalar_subquery()).where(
    Job.queue == _QUEUE,
    Job.state == "queued",
    (Job.priority > _PRIORITY) | ((Job.priority == _PRIORITY) & (Job.id <= _ID)),
)


class Wait(NamedTuple):
    """How many jobs of its queue are before a queued job, itself counted, and why a job is not running."""

    position: int | None = None
    reason: str | None = None


def find(session: Session, job: Job) -> Wait:
    """What a job waits for; nothing when it is running, or has ended."""
    if job.state == "paused":
        return Wait(reason="it is paused")
    if job.state != "queued":
        return Wait()
    where = {"id": job.id, "queue": job.queue, "priority": job.priority}
    position, backs_off = session.execute(_AHEAD, where).one()
    if backs_off:
        reason = f"attempt {job.attempt} failed, the next one waits until {job.not_before.isoformat()}"
        return Wait(position, reason)
    return Wait(position, _turn(session, job))


def _turn(session: Session, job: Job) -> str:
    alive = [worker for worker, _ in workers.alive(session) if worker.queue == job.queue]
    if not alive:
        return f"no {job.queue} worker is alive"
    if all(len(worker.devices) < job.devices for worker in alive):
        most = max(len(worker.devices) for worker in alive)
        return f"it needs {job.devices} devices, and no {job.queue} worker has more than {most}"
    busy = sum(worker.job_id is not None for worker in alive)
    return f"{busy} of {len(alive)} {job.queue} workers are at work, and it takes its turn"
